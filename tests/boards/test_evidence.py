"""What others have checked and broken stands on the board, and stale checks count for nothing."""

import json

import numpy as np
import pytest

from nfbench.boards.building import build, load, render
from nfbench.reading import digest, results_bytes
from nfbench.report.run import write
from nfbench.trust.breaks import Break
from nfbench.trust.verification import Verification, write_verification

LEVEL = "Trust: **{}**"


def verify(folder, **changes):
    said = {"results_sha256": digest(results_bytes(folder)), "level": "re-scored", "finished": 16}
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
    row = results.cells[0].cell
    vectors = {"index": np.arange(10), "evasion_score": np.zeros(10, dtype=np.float32)}
    (board.results / "breaks").mkdir()
    (board.results / "breaks" / "one.safetensors").write_bytes(save(vectors))
    one = Break(
        row=row,
        date="2026-02-03",
        source="someone <b>",
        images_sha256="0" * 64,
        images=10,
        fooling=10,
        improved=10,
        sr_at_5_fpr=(0.2, 0.4),
        auroc_worst=(0.9, 0.8),
        file="one.safetensors",
        file_sha256=digest(save(vectors)),
        nfbench="0.1.0",
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
