"""What a leaderboard says of its numbers, and whose words can't become markup."""

from dataclasses import replace

from boards import rows

from nfbench.records import Value
from nfbench.report.leaderboard import markdown


def test_links_and_images_in_a_title_or_summary_stay_text_and_our_own_code_spans_stay_code(board):
    info = {"title": "[a](http://b) `c`", "summary": ["![d](http://e)", "Model `f<g`; ``[h](i)`"]}
    page = markdown(replace(board.run, info=info))
    title, summary = page.splitlines()[0], page.splitlines()[2]
    assert title == "# \\[a\\](http://b) `c`"
    assert summary == "!\\[d\\](http://e) Model `f<g`; \\`\\`\\[h\\](i)\\`"


def test_the_best_and_all_whose_intervals_reach_down_to_it_are_bold(board):
    limits = {"strong": (0.05, 0.2), "weak": (0.15, 0.9), "third": (0.3, 0.9)}
    board.add("third", "fgsm", 0.6, 0.6)
    board.cells = [
        c.model_copy(
            update={
                "metrics": c.metrics
                | {
                    "sr_at_5_fpr": c.metrics["sr_at_5_fpr"].model_copy(
                        update=dict(zip(("low", "high"), limits[c.row], strict=True))
                    )
                }
            }
        )
        for c in board.cells
    ]
    page = markdown(board.run)
    found = rows(page)
    assert {name for name in limits if found[name][2].startswith("**")} == {"strong", "weak"}
    assert "all whose intervals reach down to it" in page
    assert "lacks an attack or a seed which another row has" in page


def test_an_upper_bound_is_explained_where_there_is_one(board):
    told = "≤ before an AUROC: an upper bound"
    assert told not in markdown(board.run)
    value = Value(value=0.5, flag="upper bound: images were left alone")
    cell = board.cells[0]
    board.cells[0] = cell.model_copy(update={"metrics": cell.metrics | {"auroc_worst": value}})
    page = markdown(board.run)
    assert told in page
    assert rows(page)["weak"][2].startswith("≤ 0.500")
