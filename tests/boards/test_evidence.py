"""What others have checked and broken stands on the board, and stale checks count for nothing."""

import json
import subprocess

import numpy as np
import pytest
from results import Results

from nfbench.boards.building import build, load, render
from nfbench.boards.diffing import compare
from nfbench.boards.sources import results_of
from nfbench.core.errors import CorruptArtifact
from nfbench.reading import digest
from nfbench.report.run import read, write
from nfbench.trust.archive import pack
from nfbench.trust.breaks import Break, read_breaks
from nfbench.trust.lowering import of_worst, weighed
from nfbench.trust.verification import Verification, digests, write_verification

LEVEL = "Trust: **{}**"


def verify(folder, **changes):
    said = {**digests(read(folder), folder), "level": "re-scored", "finished": 16}
    write_verification(folder / "verification.json", Verification(**(said | changes)))


def pages(board):
    found = render(board, ["md", "json"])
    return found["md"], json.loads(found["json"])


def test_results_that_nobody_checked_are_self_reported(results, declare):
    page, document = pages(declare(results.run))
    assert LEVEL.format("self-reported") in page
    assert document["trust"] == "self-reported"


def test_a_verification_of_these_results_stands_on_the_board(results, declare):
    board = declare(results.run)
    verify(board.results, images=640, date="2026-01-01")
    page, document = pages(board)
    assert LEVEL.format("re-scored") in page
    assert "16 cells and 640 images checked on 2026-01-01." in page
    assert document["trust"] == "re-scored"


def test_a_verification_of_other_results_counts_for_nothing(results, declare):
    board = declare(results.run)
    verify(board.results, results_sha256="0" * 64)
    page, _ = pages(board)
    assert LEVEL.format("self-reported") in page
    assert "changed after they were verified" in page


def test_a_verification_of_a_run_comes_with_its_results(results, declare, tmp_path):
    write(tmp_path / "run", results.run)
    verify(tmp_path / "run")
    board = declare()
    build(board, tmp_path / "run")
    assert LEVEL.format("re-scored") in board.output("md").read_text()


@pytest.fixture
def broken(results, declare):
    """A board with a submission that breaks ten images of its most robust row."""
    from safetensors.numpy import save

    board = declare(results.run)
    row, name = results.cells[0], f"{1:032x}.safetensors"
    zeros = np.zeros((10, 1, 2, 2), dtype=np.float32)
    vectors = {"index": np.arange(10), "images": zeros, "evasion_score": zeros[:, 0, 0, 0].copy()}
    (board.results / "breaks").mkdir()
    (board.results / "breaks" / name).write_bytes(save(vectors))
    one = Break(
        row=row.cell,
        date="2026-02-03",
        source="someone <b>",
        images_sha256="0" * 64,
        file=name,
        file_sha256=digest(save(vectors)),
        nfbench="0.1.0",
        **weighed(results.run, row, vectors),
    )
    (board.results / "breaks.jsonl").write_text(one.model_dump_json() + "\n")
    return board


def test_a_break_lowers_its_row_and_its_history_is_told(broken, results):
    before, after = results.run, load(broken)[0].shown
    row = results.cells[0]
    added = [c for c in after.cells if c.attack.name == "submitted" and c.seed == row.seed]
    assert added
    assert len(after.cells) > len(before.cells)
    page, document = pages(broken)
    assert "## Broken since" in page
    assert "2026-02-03: 10 of 10 images lowered by someone &lt;b&gt;" in page
    assert document["breaks"][0]["row"] == row.cell


def test_rows_that_nobody_attacked_with_submissions_are_not_limited(broken):
    judged, _ = load(broken)
    assert {judged.standing(cell) for cell in judged.stored.cells} == {"ranked"}


def test_breaks_of_a_board_survive_new_results(broken, results, tmp_path):
    write(tmp_path / "run", results.run)
    build(broken, tmp_path / "run")
    assert "## Broken since" in broken.output("md").read_text()


def test_the_html_tells_of_breaks_and_of_notes(broken):
    (one,) = read_breaks(broken.results)
    verify(broken.results, notes=["made <elsewhere>"])
    page = render(broken, ["html"])["html"]
    assert "made &lt;elsewhere&gt;" in page
    assert "someone &lt;b&gt;" in page
    told = page.split("Submissions that lowered")[1]
    for rate in (*one.sr_at_5_fpr, *one.auroc_worst):
        assert f'data-value="{rate!r}"' in told


def test_a_comparison_knows_of_breaks_in_folders_boards_and_revisions(
    broken, results, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "results"]):
        subprocess.run(["git", *author, *command], check=True, capture_output=True)
    home = broken.path.parent
    names = [str(broken.results), "mine", "HEAD:leaderboards/mine"]
    for run in (results_of(name, home) for name in names):
        found = compare(results.run, run)
        assert found.appeared
        assert all("--submitted--" in name for name in found.appeared)


def test_a_stale_verification_does_not_come_along_and_one_that_still_holds_stays(
    results, declare, tmp_path
):
    write(tmp_path / "run", results.run)
    board = declare()
    verify(tmp_path / "run", results_sha256="0" * 64)
    build(board, tmp_path / "run")
    assert not (board.results / "verification.json").exists()
    verify(board.results)
    (tmp_path / "run" / "verification.json").unlink()
    build(board, tmp_path / "run")
    assert LEVEL.format("re-scored") in board.output("md").read_text()
    results.change(results.cells[0].cell, notes=["other"])
    write(tmp_path / "run", results.run)
    build(board, tmp_path / "run")
    assert not (board.results / "verification.json").exists()
    assert "verified" not in board.output("md").read_text()


def test_plain_lines_in_a_boards_folder_give_way_to_the_results_that_were_taken(
    results, declare, tmp_path
):
    write(tmp_path / "run", results.run)
    board = declare(Results().full(seeds=(0,)).run)
    (board.results / "results.jsonl").write_text("{}")
    build(board, tmp_path / "run")
    assert not (board.results / "results.jsonl").exists()
    assert len(load(board)[0].stored.cells) == 16


def test_a_submission_becomes_the_boards_results_with_the_verification_beside_it(
    results, declare, tmp_path
):
    for cell in results.cells:  # with the limits that their vectors have
        vectors = results.samples[cell.cell]
        limits = of_worst(vectors, vectors["evasion_score"], aims=False)
        results.change(cell.cell, metrics=cell.metrics | limits)
    write(tmp_path / "run", results.run)
    members = {
        str(path.relative_to(tmp_path / "run")): path.read_bytes()
        for path in sorted((tmp_path / "run").rglob("*"))
        if path.is_file()
    }
    archive = tmp_path / "mine.nfbench.zip"
    pack(archive, members.items(), {})
    verify(tmp_path / "run")
    (tmp_path / "run" / "verification.json").rename(tmp_path / "mine.verification.json")
    board = declare()
    build(board, archive)
    assert LEVEL.format("re-scored") in board.output("md").read_text()
    assert [c.cell for c in load(board)[0].stored.cells] == [c.cell for c in results.cells]


def test_an_archive_that_is_none_is_one_line(declare, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(CorruptArtifact, match=r"a\.zip is no archive that can be read"):
        build(declare(), tmp_path / "a.zip")
