"""From results to files: the same bytes for the same results, and every number the record's."""

import csv
import io
import json
import re

import pytest
from results import Results, plugin

from nfbench.boards.building import build, render
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report.run import write


def rendered(board, suffix):
    return render(board, [suffix])[suffix]


def lines(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_board_becomes_four_files_beside_its_own(results, declare):
    board = declare(results.run)
    written = build(board)
    assert [path.name for path in written] == ["mine.md", "mine.csv", "mine.json", "mine.html"]
    assert all(path.read_bytes() for path in written)


def test_the_same_results_give_the_same_bytes(results, declare):
    first = render(declare(results.run))
    second = render(declare(results.run))
    assert first == second


def test_the_sheet_has_every_number_of_every_cell_in_full(results, declare):
    board = declare(results.run)
    text = rendered(board, "csv")
    assert "\r\n" in text
    rows = lines(text)
    assert [row["cell"] for row in rows] == [cell.cell for cell in results.cells]
    for row, cell in zip(rows, results.cells, strict=True):
        for name, value in cell.metrics.items():
            assert float(row[name]) == value.value
            if value.low is not None:
                limits = float(row[f"{name}_low"]), float(row[f"{name}_high"])
                assert limits == pytest.approx((value.low, value.high), rel=1e-5)
        assert (row["standing"], row["eps"], row["seed"]) == ("ranked", str(cell.eps), str(cell.seed))
    assert "auroc_returned_low" not in rows[0]  # no cell has one


def test_a_number_that_is_null_is_empty_in_the_sheet(results, declare):
    first = results.cells[0]
    results.change(
        first.cell,
        eps=None,
        metrics={**first.metrics, "ap": type(first.metrics["auroc_worst"])(value=None)},
    )
    row = lines(rendered(declare(results.run), "csv"))[0]
    assert row["eps"] == row["ap"] == ""


def test_the_document_has_rows_entries_and_provenance_in_full(results, declare):
    found = json.loads(rendered(declare(results.run), "json"))
    assert found["title"] == "A board"
    assert found["trust"] == "self-reported"
    assert found["terms"] == {
        "attacks": ["fgsm", "pgd"],
        "data_sha256": "d" * 64,
        "limit": 40,
        "seeds": [0, 1],
    }
    assert found["provenance"]["command"] == "nfbench run"
    row = next(row for row in found["tables"] if row["defense"] == "kd")
    own = [c for c in results.cells if (c.row, c.attack.name, c.eps) == ("kd", "fgsm", 0.1)]
    mean = sum(c.metrics["sr_at_5_fpr"].value for c in own) / 2
    assert row["entries"]["fgsm (linf ≤ 0.1)"]["sr5"] == pytest.approx(mean, abs=1e-15)
    assert row["clean_accuracy"] == 0.9


def test_the_document_names_what_is_not_ranked_and_why(results, declare):
    name = results.cells[0].cell
    results.change(name, status="failed", reason="diverged", metrics={})
    results.change(results.cells[1].cell, status="flagged", flags=["too weak"], reason="too weak")
    found = json.loads(rendered(declare(results.run), "json"))["not_ranked"]
    assert found == [
        {"cell": name, "standing": "failed", "why": ["diverged"]},
        {"cell": results.cells[1].cell, "standing": "flagged", "why": ["too weak"]},
    ]


def test_the_page_says_how_many_cells_are_ranked_and_why_others_are_not(results, declare):
    for cell in results.cells[:8]:
        results.change(cell.cell, counts={"attempted": 7})
    page = rendered(declare(results.run), "md")
    assert "8 of 16 cells are ranked; 8 limited." in page
    assert "limited: 7 of 40 images" in page
    row = next(line for line in page.splitlines() if line.startswith("| kd"))
    assert row.count("⚑") == 6
    assert "**" not in row


def test_a_wide_table_is_split_by_ball(declare):
    results = Results().full(eps=(0.1, 0.2, 0.3))
    page = rendered(declare(results.run), "md")
    assert [h for h in page.splitlines() if h.startswith("### adaptive")] == [
        f"### adaptive-whitebox, linf ≤ {eps}" for eps in (0.1, 0.2, 0.3)
    ]


HOSTILE = "=1+1|<script>alert(1)</script>\n# `x` **y** [z](http://a)"


def test_hostile_names_stay_text_in_every_file(results, declare):
    for cell in [c for c in results.cells if c.row == "kd"]:
        results.change(cell.cell, defense=plugin(HOSTILE))
    results.change(results.cells[1].cell, status="failed", reason=HOSTILE, metrics={})
    found = render(declare(results.run))
    assert "<script" not in found["md"]
    assert not re.search(r"^# `x`", found["md"], re.MULTILINE)
    tables = [line for line in found["md"].splitlines() if line.startswith("| =1")]
    assert tables
    assert (
        len({line.count("|") for line in tables[:1]} | {found["md"].split("\n|--")[1].count("|")}) <= 2
    )
    rows = lines(found["csv"])
    assert rows[0]["defense"] == f"'{HOSTILE}"
    assert rows[1]["reason"] == f"'{HOSTILE}"
    assert json.loads(found["json"])["tables"][0]["defense"] in (HOSTILE, "lid")
    assert "<script>alert" not in found["html"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_is_a_formula_to_a_spreadsheet(declare, start):
    results = Results().full()
    results.change(results.cells[0].cell, attack=plugin(f"{start}cmd"))
    assert lines(rendered(declare(results.run), "csv"))[0]["attack"] == f"'{start}cmd"


def test_negative_numbers_stay_numbers(results, declare):
    first = results.cells[0]
    value = type(first.metrics["auroc_worst"])(value=-0.25)
    results.change(first.cell, metrics={**first.metrics, "gain": value})
    assert lines(rendered(declare(results.run), "csv"))[0]["gain"] == "-0.25"


def test_results_of_a_run_directory_become_the_boards(results, declare, tmp_path):
    board = declare()
    write(tmp_path / "run", results.run)
    build(board, tmp_path / "run")
    assert board.has_results
    assert rendered(board, "csv").count("\r\n") == 17


def test_a_board_without_results_says_which_commands_make_them(declare):
    with pytest.raises(UsageError) as caught:
        render(declare())
    assert "`nfbench run --config leaderboards/mine.toml --out runs/mine`" in str(caught.value)
    assert "`nfbench leaderboard build mine --from runs/mine`" in str(caught.value)


def test_files_that_cannot_be_written_are_one_line(results, declare):
    board = declare(results.run)
    board.output("md").mkdir()
    with pytest.raises(UsageError, match=r"can't write .*mine\.md"):
        build(board)


def test_damaged_results_are_one_line(results, declare):
    board = declare(results.run)
    for path in board.results.glob("results*"):
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorruptArtifact, match="damaged"):
        render(board)


def test_the_page_tells_the_revision_and_each_origin_of_artifacts_once(results, declare):
    for place, cell in enumerate(results.cells):
        results.change(cell.cell, origins=["abc on cpu", f"def on gpu|{place % 2}"])
    page = rendered(declare(results.run), "md")
    assert "- revision: `abc`, with changes that were not committed" in page
    assert "- artifacts made by: abc on cpu, def on gpu&#124;0, def on gpu&#124;1\n" in page
