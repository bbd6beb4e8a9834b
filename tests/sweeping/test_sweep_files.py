"""The files of a sweep say what its rows hold."""

import csv
import io
import json
from dataclasses import replace

import pytest
from sweeps import column, entry, swept

from nfbench.core.errors import NFBenchError
from nfbench.report.entries import Entry
from nfbench.sweeping.data import document, sheet
from nfbench.sweeping.rows import Result, reasons_of
from nfbench.sweeping.writing import markdown, titled, write

PGD, CW = column(), column("cw", ball="smallest l2")
FAILED = Result(
    {"plugin.n": 7}, "n=7", reasons=["1 cell failed: stumbled"], statuses=frozenset({"failed"})
)


@pytest.fixture
def made():
    """Three points, of which the last has failed; what is asked of CW is an upper bound, and flagged."""

    def entries(values, _, one):
        return entry(values[0] / 8, 0.25, bound=one == CW, flagged=one == CW)

    found = swept({"n": (2, 4)}, [PGD, CW], entries)
    return replace(found, results=[*found.results, FAILED])


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_sheet_has_a_line_a_point_and_reads_back_as_the_same_numbers(made):
    two, four, seven = rows_of(sheet(made))
    assert [row["plugin.n"] for row in (two, four, seven)] == ["2", "4", "7"]
    assert [row["status"] for row in (two, four, seven)] == ["done", "done", "failed"]
    name = "pgd@adaptive-whitebox linf<=0.25"
    assert [float(two[f"{name} auroc_worst{end}"]) for end in ("", "_low", "_high")] == [
        0.25,
        0.1875,
        0.3125,
    ]
    assert float(four[f"{name} auroc_worst"]) == 0.5
    assert [float(two[f"{name} sr_at_5_fpr{end}"]) for end in ("", "_low", "_high")] == [
        0.25,
        0.1875,
        0.3125,
    ]
    assert [float(two[key]) for key in ("clean_accuracy", "false_alarms_high")] == [0.875, 0.125]
    assert two["cw@adaptive-whitebox smallest l2 flags"] == "upper bound; flagged"
    assert two[f"{name} flags"] == ""
    assert seven["reason"] == "1 cell failed: stumbled"
    assert {seven[key] for key in seven if "auroc" in key or "accuracy" in key} == {""}
    assert seven[f"{name} flags"] == "failed"


def test_the_document_has_every_number_of_the_sheet(made):
    found = json.loads(document(made))
    assert found["vary"] == [{"name": "plugin.n", "label": "n"}]
    assert [point["values"] for point in found["points"]] == [{"plugin.n": n} for n in (2, 4, 7)]
    (row,) = found["points"][0]["rows"]
    assert row["clean_accuracy"] == {"value": 0.875, "low": 0.8125, "high": 0.9375}
    pgd, cw = row["cells"]
    assert pgd == {
        "threat_model": "adaptive-whitebox",
        "attack": "pgd",
        "budget": "linf ≤ 0.25",
        "auroc_worst": {"value": 0.25, "low": 0.1875, "high": 0.3125},
        "sr_at_5_fpr": {"value": 0.25, "low": 0.1875, "high": 0.3125},
        "flags": [],
    }
    assert cw["flags"] == ["upper bound", "flagged"]
    failed = found["points"][2]
    assert (failed["status"], failed["reasons"], failed["rows"]) == ("failed", list(FAILED.reasons), [])


def test_the_page_has_a_row_a_point_with_intervals_and_signs(made):
    page = markdown(made, ["sweep-auroc_worst.svg"])
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line[:1] == "|"]
    head, _, two, four, seven = rows
    assert head[1:-1] == ["n", "clean acc.", "false alarms", "pgd (linf ≤ 0.25)", "cw (smallest l2)"]
    assert two[1:-1] == [
        "2",
        "0.875<br>0.812–0.938",
        "0.062<br>0.000–0.125",
        "0.250 / 0.250<br>0.188–0.312 / 0.188–0.312",
        "≤ 0.250 / 0.250 ⚑<br>0.188–0.312 / 0.188–0.312",
    ]
    assert four[4].startswith("0.500 / 0.250")
    assert seven[1:-1] == ["7", "–", "–", "failed", "failed"]
    for said in ("## adaptive-whitebox", "- ≤: an upper bound", "- ⚑: the attack is weaker"):
        assert said in page
    assert "![sweep-auroc_worst](sweep-auroc_worst.svg)" in page
    assert "- [n=2](n=2/leaderboard.md)" in page
    assert "- [n=7](n=7/leaderboard.md)\n  - 1 cell failed: stumbled" in page


def test_signs_are_explained_only_where_they_stand():
    page = markdown(swept({"n": (2,)}, [PGD], lambda *_: entry()))
    assert "≤: an upper" not in page
    assert "⚑" not in page


def test_many_attacks_are_split_by_budget_with_the_worst_cases_first():
    attacks = ["a", "b", "c", "d"]
    columns = [column(name, ball=ball) for name in attacks for ball in ("linf ≤ 0.1", "linf ≤ 0.2")]
    columns += [column("", ball="linf ≤ 0.1"), column("", ball="linf ≤ 0.2")]
    page = markdown(swept({"n": (2,)}, columns, lambda *_: entry()))
    heads = [line for line in page.splitlines() if line.startswith("| n ")]
    assert [head.count(" (linf") for head in heads] == [2, 4, 4]
    assert [head.count("worst case") for head in heads] == [2, 0, 0]


def test_several_defenses_have_a_column_that_names_them():
    made = swept({"n": (2, 3)}, [PGD], lambda *_: entry(), defenses=("kd", "lid"))
    lines = [line for line in markdown(made).splitlines() if line.startswith("|")]
    assert "| defense" in lines[0]
    assert len(lines) == 2 + 4


def test_names_of_strangers_come_out_as_text():
    nasty = column("a|b*", threat="<t>")
    made = swept({"x|y": ("=1+1",)}, [nasty], lambda *_: entry(), defenses=("=d", "e"))
    page = markdown(made)
    assert "a&#124;b\\*" in page
    assert "## &lt;t&gt;" in page
    (head, *rows) = csv.reader(io.StringIO(sheet(made), newline=""))
    assert [row[:2] for row in rows] == [["'=1+1", "'=d"], ["'=1+1", "e"]]
    assert head[0] == "plugin.x|y"


def test_titles_read_as_sentences():
    def title(*labels):
        return titled(swept(dict.fromkeys(labels, (1,)), [PGD], lambda *_: entry()))

    assert title("n") == "nfbench on digits: a sweep of n"
    assert title("a", "b", "c") == "nfbench on digits: a sweep of a, b and c"


def test_a_missing_number_is_an_empty_field():
    made = swept(
        {"n": (2,)}, [PGD], lambda *_: replace(entry(), auroc=None, auroc_low=None, auroc_high=None)
    )
    (row,) = rows_of(sheet(made))
    assert row["pgd@adaptive-whitebox linf<=0.25 auroc_worst"] == ""
    assert row["pgd@adaptive-whitebox linf<=0.25 sr_at_5_fpr"] == "0.25"
    assert "– / 0.250<br>– / 0.188–0.312" in markdown(made)
    note = swept({"n": (2,)}, [PGD], lambda *_: Entry(note="–"))
    assert rows_of(sheet(note))[0]["pgd@adaptive-whitebox linf<=0.25 flags"] == ""


def test_reasons_are_given_once_with_how_many_cells_they_empty(go, small):
    swept_ = go(small(attacks=("fgsm", "jsma"), eps=("inf",)), "fingerprints=2")
    (first, *_) = swept_.results[0].reasons
    assert first == "1 cell skipped: fgsm needs a bound: give --eps linf=…"
    assert reasons_of([]) == []


def test_all_files_are_written_or_the_reason_is_one_line(made, tmp_path):
    paths = write(made, tmp_path, [tmp_path / "sweep-x.svg", tmp_path / "sweep-x.png"])
    assert [path.name for path in paths] == ["sweep.md", "sweep.csv", "sweep.json"]
    assert paths[0].read_text() == markdown(made, ["sweep-x.svg"])
    assert paths[1].read_bytes() == sheet(made).encode()
    assert paths[2].read_text() == document(made)
    (tmp_path / "file").write_text("")
    with pytest.raises(NFBenchError, match=r"can't write .*file: .*every finished job is kept"):
        write(made, tmp_path / "file")
