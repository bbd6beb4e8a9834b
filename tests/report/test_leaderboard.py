"""Leaderboards: from cell records to a page that says what is known, and what is not."""

import numpy as np
import pytest
from boards import Board, rows

from nfbench.records import Value
from nfbench.report.board import UNDEFENDED, tables
from nfbench.report.cells import BENIGN
from nfbench.report.leaderboard import STATISTICS, markdown


def test_a_cell_shows_auroc_and_success_rate_and_the_best_of_a_column_is_bold(board):
    found = rows(markdown(board.run))
    assert found["defense"][:2] == ["clean acc.", "false alarms"]
    assert found["defense"][2:4] == ["fgsm (linf ≤ 0.25)", "pgd (linf ≤ 0.25)"]
    assert found["strong"][:4] == ["0.900", "0.050", "**0.900 / 0.100**", "**0.800 / 0.200**"]
    assert found["weak"][:4] == ["0.900", "0.050", "0.600 / 0.800", "0.500 / 0.700"]


def test_the_worst_case_is_taken_image_by_image_over_attacks_of_one_budget(board):
    found = rows(markdown(board.run))
    assert found["defense"][4] == "worst linf ≤ 0.25"
    # weak: .9 .9 .15 .15 against clean .1 .2 .3 .4, all below .95; strong: .25 and three failures.
    both = [text.replace("**", "") for text in (found["weak"][4], found["strong"][4])]
    assert both == [f"{(4 + 4 + 1 + 1) / 16:.3f} / 1.000", f"{(2 + 4 + 4 + 4) / 16:.3f} / 0.250"]


def test_the_most_robust_defense_comes_first(board):
    assert list(tables(board.run)[0].rows)[:2] == ["strong", "weak"]


def test_the_last_row_is_the_error_without_a_defense_and_is_never_the_best(board):
    board.cells = [
        c.model_copy(update={"metrics": c.metrics | {"undefended_error": Value(value=0.01)}})
        for c in board.cells
    ]
    table = tables(board.run)[0]
    assert list(table.rows)[-1] == UNDEFENDED
    assert rows(markdown(board.run))[UNDEFENDED] == ["–", "–", "– / 0.010", "– / 0.010", "–"]


def test_seeds_are_averaged_in_columns_and_in_the_worst_case():
    board = Board()
    board.add("d", "fgsm", 0.6, 0.2, seed=0, evasion=[0.15, np.inf, np.inf, np.inf])
    board.add("d", "fgsm", 0.8, 0.4, seed=1)
    board.add("d", "pgd", 1.0, 0.0, seed=0)
    board.add("d", "pgd", 1.0, 0.0, seed=1)
    found = rows(markdown(board.run))
    assert found["d"][2:4] == ["0.700 / 0.300", "1.000 / 0.000"]
    assert found["d"][4] == f"{(13 / 16 + 1) / 2:.3f} / 0.125"


def test_equally_good_defenses_are_both_bold_and_a_single_one_is_not():
    board = Board()
    board.add("a", "fgsm", 0.6, 0.2)
    assert "**" not in markdown(board.run)
    board.add("b", "fgsm", 0.7, 0.2)
    assert rows(markdown(board.run))["a"][2] == "**0.600 / 0.200**"
    assert rows(markdown(board.run))["b"][2] == "**0.700 / 0.200**"


def test_cells_without_a_number_show_their_status_and_give_their_reason(board):
    board.add("strong", "cw", status="failed", reason="cw returned pixels that are not finite")
    board.add("weak", "cw", 0.4, 0.9)
    board.add("weak", "jsma", status="skipped", reason="needs gradient access", norm="l0", eps=20)
    page = markdown(board.run)
    found = rows(page)
    assert found["strong"][4] == "failed"
    assert found["strong"][-1] == "incomplete"  # a worst case over what is left would flatter it
    assert found["weak"][5] == "skipped"
    assert found["strong"][5] == "–"
    assert "## Cells without a number" in page
    assert "- `strong-cw-adaptive-whitebox-0` failed: cw returned pixels that are not finite" in page
    assert "- `weak-jsma-adaptive-whitebox-0` skipped: needs gradient access" in page


def test_one_failed_seed_is_not_averaged_away():
    board = Board()
    board.add("d", "fgsm", 0.6, 0.2, seed=0)
    board.add("d", "fgsm", seed=1, status="failed", reason="diverged")
    assert rows(markdown(board.run))["d"][2] == "failed"


def test_a_page_without_trouble_has_no_section_of_reasons(board):
    assert "Cells without a number" not in markdown(board.run)


def test_an_undefined_metric_is_a_dash():
    board = Board()
    board.add("d", "fgsm", None, 0.2)
    assert rows(markdown(board.run))["d"][2] == "– / 0.200"


def test_threat_models_and_budgets_are_kept_apart(board):
    board.add("weak", "fgsm", 0.99, 0.01, threat_model="partial-whitebox")
    board.add("weak", "cw", 0.5, 0.5, norm="l2", eps=None)
    static, adaptive = markdown(board.run).split("## partial-whitebox")[::-1]
    assert "0.990 / 0.010" in static
    assert "0.990 / 0.010" not in adaptive
    assert "cw (smallest l2)" in adaptive
    assert "worst l2" not in adaptive  # a single attack is its own worst case


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_page_names_the_statistic_it_shows(board, statistic):
    page = markdown(board.run, statistic)
    assert f"`{statistic}`" in page
    assert STATISTICS[statistic] in page
    assert page.startswith("# digits, seed 0\n")
    assert "300 images." in page


@pytest.mark.parametrize(
    ("statistic", "static", "adaptive"),
    [
        ("auroc_worst", "0.700", "0.600"),
        ("auroc_returned", "0.111 (0.889)", "0.111 (0.889)"),
        ("auroc_noisy", "0.300 (0.700)", "0.300 (0.700)"),
        ("auroc_successes", "0.222", "0.222"),
        ("papers", "0.111 (0.889)", "0.222"),
    ],
)
def test_a_column_shows_the_statistic_asked_for(statistic, static, adaptive):
    board = Board()
    board.add("d", "fgsm", 0.7, 0.2, threat_model="partial-whitebox")
    board.add("d", "fgsm", 0.6, 0.8)
    first, second = (table.rows["d"][0].text for table in tables(board.run, statistic))
    assert (first, second) == (f"{static} / 0.200", f"{adaptive} / 0.800")


@pytest.mark.parametrize("statistic", ["auroc_returned", "auroc_successes", "papers"])
def test_the_worst_case_never_shows_another_statistic_than_the_one_named(board, statistic):
    assert rows(markdown(board.run, statistic))["weak"][4].replace("**", "") == "– / 1.000"


def test_a_supervised_defense_has_a_row_for_each_thing_its_defender_knows():
    board = Board()
    for defender, sr5 in (("blackbox-defense", 0.3), ("whitebox-defense", 0.1)):
        for attack in ("fgsm", "pgd"):
            board.add("lid", attack, 0.9, sr5, defender=defender)
            board.cells[-1] = board.cells[-1].model_copy(update={"cell": f"{defender}-{attack}"})
            board.samples[f"{defender}-{attack}"] = board.samples[f"lid-{attack}-adaptive-whitebox-0"]
    found = rows(markdown(board.run))
    assert found["lid (blackbox-defense)"][2] == "0.900 / 0.300"
    assert found["lid (whitebox-defense)"][2] == "**0.900 / 0.100**"
    assert found["lid (blackbox-defense)"][4] != "–"
    assert found["lid (whitebox-defense)"][4] == "–"  # another detector for each attack


def test_a_caveat_marks_the_row_and_is_told_below_the_tables():
    board = Board()
    board.add("lid", "fgsm", 0.9, 0.1, caveat="sees the clean original of each image")
    page = markdown(board.run)
    assert "lid †" in rows(page)
    assert "lid † sees the clean original of each image." in page


def test_false_alarms_are_told_for_each_change_and_for_the_noise_of_the_worst_attack(board):
    board.add("weak", "cw", 0.4, 0.9, noise_alarms=0.75)
    found = rows(markdown(board.run), "False alarms")
    assert found["weak"] == ["0.050", *["0.060"] * len(BENIGN), "0.750 (cw)"]
    assert found["strong"][-1] == "0.500 (pgd)"


def test_a_change_that_is_not_harmless_is_starred():
    board = Board()
    board.add("d", "fgsm", 0.9, 0.1)
    board.cells[0].metrics["fpr_on_shift_at_5"] = Value(value=0.5, flag="accuracy drops 5.0 points")
    page = markdown(board.run)
    assert rows(page, "False alarms")["d"][4] == "0.500*"
    assert "`*`: costs more than a point of accuracy" in page


def test_a_page_without_a_finished_cell_has_no_false_alarms():
    board = Board()
    board.add("d", "fgsm", status="failed", reason="diverged")
    assert "False alarms" not in markdown(board.run)


def ladder(defenses, radii=(0.1, 0.2, 0.3), images=60):
    """A board of two attacks at several radii, of defenses that lose a share of the images each."""
    board = Board()
    for defense, share in defenses.items():
        for eps in radii:
            for attack in ("fgsm", "pgd"):
                lost = int(share * images)
                evasion = [0.1] * lost + [np.inf] * (images - lost)
                board.add(defense, attack, 0.5, share, eps=eps, evasion=evasion)
                sample = board.samples[board.cells[-1].cell]
                sample["index"], sample["clean_score"] = np.arange(images), np.full(images, 0.2)
    return board


def test_defenses_that_can_be_told_apart_have_ranks_and_those_that_cannot_share_them():
    page = markdown(ladder({"a": 0.1, "b": 0.1, "c": 0.9}).run)
    found = rows(page.split("### ")[0], whole=True)
    assert found["defense"][0] == "rank"
    assert [found[name][0] for name in "abc"] == ["1–2 a", "1–2 a", "3 b"]
    assert found[UNDEFENDED][0] == "–"
    assert "Holm's correction" in page


def test_one_defense_alone_has_no_rank(board):
    board.cells = [cell for cell in board.cells if cell.row == "weak"]
    page = markdown(board.run)
    assert "| rank" not in page
    assert "- rank:" not in page


def test_a_defense_whose_worst_case_is_flagged_has_no_rank():
    board = ladder({"a": 0.1, "b": 0.5, "c": 0.9})
    flags = {"status": "flagged", "flags": ["too weak"]}
    board.cells = [c.model_copy(update=flags) if c.row == "a" else c for c in board.cells]
    found = rows(markdown(board.run).split("### ")[0], whole=True)
    assert [found[name][0] for name in "abc"] == ["–", "1 a", "2 b"]


def test_intervals_stand_below_the_numbers(board):
    value = {"auroc_worst": Value(value=0.5, low=0.4321, high=0.6), "sr_at_5_fpr": Value(value=0.25)}
    cell = board.cells[0]
    board.cells[0] = cell.model_copy(update={"metrics": cell.metrics | value})
    found = rows(markdown(board.run), whole=True)
    assert found["weak"][3] == "0.500 / 0.250<br>0.432–0.600 / –"
    assert found["weak"][4] == "0.500 / 0.700"


def test_a_table_too_wide_to_read_is_split_ball_by_ball():
    board = ladder({"a": 0.1, "b": 0.9})
    page = markdown(board.run)
    heads = [line for line in page.splitlines() if line.startswith("### adaptive-whitebox")]
    assert heads == [f"### adaptive-whitebox, linf ≤ {eps}" for eps in (0.1, 0.2, 0.3)]
    first, at_01 = page.split("### adaptive-whitebox, linf ≤ 0.1")[0], rows(page, heads[0][4:])
    assert rows(first)["defense"][2:] == [f"worst linf ≤ {eps}" for eps in (0.1, 0.2, 0.3)]
    assert at_01["defense"] == ["fgsm", "pgd"]
    assert at_01["a"] == ["**0.500 / 0.100**"] * 2


def test_hostile_names_and_reasons_stay_text(board):
    name = "x|y <b>`*[z](http://a)\n# title"
    board.add(name, "fgsm", 0.5, 0.5)
    board.add("strong", "cw", status="failed", reason="died|<i>\n## Oops")
    page = markdown(board.run)
    assert "<b>" not in page
    assert "<i>" not in page
    assert "\n## Oops" not in page
    assert "\n# title" not in page
    body = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in body[: len(tables(board.run)[0].rows) + 2]}) == 1


def test_names_that_differ_stay_apart_when_they_are_escaped(board):
    for name in ("a|b", "a&#124;b", "a\\|b"):
        board.add(name, "fgsm", 0.5, 0.5)
    assert sum(line.startswith("| a") for line in markdown(board.run).splitlines()) >= 3


def test_a_reason_that_many_cells_share_is_told_once(board):
    for place in range(7):
        board.add(f"d{place}", "cw", status="skipped", reason="needs a gradient")
    page = markdown(board.run)
    assert page.count("needs a gradient") == 1
    assert "`d3-cw-adaptive-whitebox-0` and 3 more skipped: needs a gradient" in page
