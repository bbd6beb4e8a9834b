"""A page that says anything else than its results is caught, and the place is named."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from results import with_vectors

from nfbench.boards.boardfile import SUFFIXES
from nfbench.boards.building import build
from nfbench.boards.checking import check
from nfbench.boards.comparing import first_difference
from nfbench.core.errors import CheckFailed, CorruptArtifact
from nfbench.records import Value


@pytest.fixture
def built(results, declare):
    board = declare(results.run)
    build(board)
    return board


def edit(path, pattern, by):
    text = path.read_bytes().decode()
    changed = re.sub(pattern, by, text, count=1, flags=re.MULTILINE)
    assert changed != text
    path.write_bytes(changed.encode())


def complaint(board):
    with pytest.raises(CheckFailed) as caught:
        check(board)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_just_built_passes(built):
    check(built)


def test_line_ends_of_a_checkout_do_not_matter(built):
    for suffix in SUFFIXES:
        data = built.output(suffix).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        built.output(suffix).write_bytes(data)
    check(built)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_named(built, suffix):
    built.output(suffix).unlink()
    assert f"mine.{suffix} is missing" in complaint(built)


def test_a_number_of_the_page_edited_by_hand_is_named_with_row_and_column(built):
    edit(built.output("md"), r"^(\| lid .*? )\**(0\.\d+) / (0\.\d+)", r"\g<1>\2 / 0.001")
    told = complaint(built)
    assert "mine.md: table 'adaptive-whitebox', row 'lid', column 'fgsm (linf ≤ 0.1)'" in told
    assert re.search(r"committed 0\.\d+ / 0\.001.*rendered \*\*0\.\d+ / 0\.[1-9]", told)
    assert "`nfbench leaderboard build mine`" in told


def test_a_number_of_the_sheet_edited_by_hand_is_named(built, results):
    value = results.cells[3].metrics["sr_at_5_fpr"].value
    text = built.output("csv").read_bytes().decode().split("\r\n")
    text[4] = text[4].replace(repr(value), "0.001", 1)
    built.output("csv").write_bytes("\r\n".join(text).encode())
    told = complaint(built)
    assert f"row {results.cells[3].cell!r}, column 'sr_at_5_fpr" in told
    assert f"committed 0.001, rendered {value!r}" in told


def test_a_number_of_the_document_edited_by_hand_is_named(built):
    found = json.loads(built.output("json").read_text())
    row = next(r for r in found["tables"] if r["defense"] == "kd")
    rendered = row["entries"]["pgd (linf ≤ 0.2)"]["sr5"]
    text = built.output("json").read_text().splitlines()
    place = next(i for i, line in enumerate(text) if '"defense": "kd"' in line)
    head, name, tail = text[place].partition('"pgd (linf ≤ 0.2)"')
    text[place] = head + name + re.sub(r'"sr5": [\d.e-]+', '"sr5": 0.001', tail, count=1)
    built.output("json").write_text("\n".join(text) + "\n")
    told = complaint(built)
    assert "row 'kd', column 'entries.pgd (linf ≤ 0.2).sr5'" in told
    assert f"committed 0.001, rendered {rendered!r}" in told


def test_a_number_of_the_html_edited_by_hand_is_found(built):
    edit(built.output("html"), r"0\.\d\d\d", "0.0001")
    assert "mine.html: " in complaint(built)


def test_a_row_taken_out_of_the_page_is_missed(built):
    edit(built.output("md"), r"^\| lid .*\n", "")
    told = complaint(built)
    assert "mine.md" in told
    assert "lid" in told


def test_a_file_that_is_no_text_is_one_line(built):
    built.output("json").write_bytes(b"\xff\xfe\x00")
    assert "mine.json can't be read" in complaint(built)


def test_a_document_that_is_no_json_is_one_line(built):
    built.output("json").write_text("{")
    assert "mine.json: the whole file: committed unreadable" in complaint(built)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [("json", '{"a": ' + "[" * 100_000), ("csv", "a,b\r\n" + "x" * 200_000), ("json", '{"a": []}')],
)
def test_a_committed_file_of_any_kind_is_told_in_a_line(built, suffix, text):
    built.output(suffix).write_text(text)
    assert f"mine.{suffix}: " in complaint(built)


def test_a_field_that_no_page_shows_is_missed_when_it_is_edited(built, results, declare):
    results.change(results.cells[0].cell, notes=["nobody will see this"])
    declare(results.run)
    assert "mine.json: " in (told := complaint(built))
    assert "results_sha256" in told


def test_a_stale_page_is_caught_after_the_results_were_made_again(built, results, declare):
    from results import Results

    declare(Results().full(seeds=(0, 1), defenses=("lid", "kd")).run)
    assert "mine.md" in complaint(built)


def test_a_metric_that_its_vectors_contradict_is_named(results, declare):
    name = results.cells[5].cell
    run = with_vectors(results.run, name, evasion_score=np.full(40, np.inf, dtype=np.float32))
    with pytest.raises(
        CorruptArtifact, match=f"(auroc_worst|sr_at_5_fpr) of cell '{name}' is stored as"
    ):
        check(declare(run))


@pytest.mark.parametrize(
    ("low", "value", "high", "told"),
    [
        (0.6, 0.5, 0.7, "is a broken interval"),
        (0.1, 0.5, 0.4, "is a broken interval"),
        (0.9, None, 0.1, "is a broken interval"),
        (-0.1, 0.5, 0.7, "lies outside"),
        (0.1, 0.5, 1.1, "lies outside"),
    ],
)
def test_a_broken_interval_is_named(results, declare, low, value, high, told):
    cell = results.cells[2]
    results.change(cell.cell, metrics={**cell.metrics, "ap": Value(value=value, low=low, high=high)})
    with pytest.raises(CorruptArtifact, match=f"ap of cell '{cell.cell}': .*{told}"):
        check(declare(results.run))


def test_a_gain_may_be_negative(results, declare):
    cell = results.cells[2]
    gain = {"gain": Value(value=-0.5, low=-0.7, high=0.1)}
    results.change(cell.cell, metrics={**cell.metrics, **gain})
    board = declare(results.run)
    build(board)
    check(board)


def test_the_same_text_has_no_difference():
    assert first_difference("md", "a\r\nb", "a\nb") is None


def test_a_difference_outside_tables_is_told_by_its_line():
    found = first_difference("html", "<p>one</p>\n<p>two</p>", "<p>one</p>\n<p>three</p>")
    assert (found.where, found.committed) == ("line 2", "<p>two</p>")


@pytest.mark.parametrize(
    "vectors",
    [
        {"evasion_score": np.full(40, np.nan, dtype=np.float32)},
        {name: np.zeros(0, dtype=np.float32) for name in ("index", "clean_score", "evasion_score")},
    ],
)
def test_vectors_that_are_no_scores_are_one_line(results, declare, vectors):
    name = results.cells[1].cell
    with pytest.raises(CorruptArtifact, match=r"damaged \(vectors.safetensors, line 1: "):
        check(declare(with_vectors(results.run, name, **vectors)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dataset": {"name": "digits", "sha256": [1]}}, "dataset.sha256 is no text"),
        ({"model": {"name": [1]}}, "model.name is no text"),
        ({"metrics": {}}, "it has no auroc_worst"),
        ({"winners": {"margin": 0}}, "winners counts what has won nothing"),
        ({"eps": 0.0}, "eps is 0.0, and no radius"),
    ],
)
def test_a_cell_with_something_else_in_it_is_one_line(results, declare, fields, told):
    results.change(results.cells[3].cell, **fields)
    with pytest.raises(CorruptArtifact, match=f"cell '{results.cells[3].cell}': {told}"):
        check(declare(results.run))


@pytest.mark.parametrize(
    ("info", "field"),
    [
        ({"spec": "all"}, "spec"),
        ({"spec": {"attacks": ["pgd"]}}, "spec.attacks.0"),
        ({"spec": {"limit": "many"}}, "spec.limit"),
        ({"title": 3}, "title"),
        ({"summary": "text"}, "summary"),
        ({"environment": {"packages": []}}, "environment.packages"),
        ({"environment": {"device": [1]}}, "environment.device"),
        ({"environment": None}, "environment"),
        ({"title": None}, "title"),
    ],
)
def test_a_run_json_with_something_else_in_it_is_one_line(results, declare, info, field):
    run = results.run
    with pytest.raises(CorruptArtifact, match=f"{field} of run.json"):
        check(declare(replace(run, info={**run.info, **info})))
