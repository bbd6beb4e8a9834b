"""Who may be ranked: cells and rows made on the board's terms, and nobody else."""

import numpy as np
import pytest
from results import DATA, plugin

from nfbench.boards.boardfile import Board, read_board
from nfbench.boards.standing import judge, terms_of
from nfbench.records import SCHEMA
from nfbench.report.board import best_per_column, tables


@pytest.fixture
def board(tmp_path):
    return Board("mine", tmp_path / "mine.toml", tmp_path / "mine", limit=40, seeds=(0, 1))


def standings(judged, defense):
    return {judged.standing(c) for c in judged.stored.cells if c.row == defense}


def ranked(judged):
    """Rows with an entry that is bold, or may be."""
    (table,) = tables(judged.shown)
    assert not any(
        table.rows[d][i].rank is None for i, best in enumerate(best_per_column(table)) for d in best
    )
    return {d for d, entries in table.rows.items() if all(e.rank is not None for e in entries)}


def test_a_complete_board_ranks_every_cell(results, board):
    judged = judge(board, results.run)
    assert standings(judged, "kd") == standings(judged, "lid") == {"ranked"}
    assert judged.shown.cells == results.cells


def test_a_row_on_fewer_images_is_limited_and_shown_without_a_rank(results, board):
    for name in [c.cell for c in results.cells if c.row == "kd"]:
        results.change(name, counts={"attempted": 39, "clean": 39, "adversarial": 40})
    judged = judge(board, results.run)
    assert standings(judged, "kd") == {"limited"}
    assert standings(judged, "lid") == {"ranked"}
    assert ranked(judged) == {"lid"} | (ranked(judged) - {"kd", "lid"})
    (table,) = tables(judged.shown)
    assert all(entry.flagged and entry.sr5 is not None for entry in table.rows["kd"])
    assert "limited: 39 of 40 images" in judged.shown.cells[0].reason


def test_other_data_and_an_older_schema_make_a_cell_older(results, board):
    first, second = results.cells[0].cell, results.cells[8].cell
    results.change(first, dataset={"name": "digits", "sha256": "0" * 64})
    results.change(second, schema_version=SCHEMA - 1)
    judged = judge(board, results.run)
    assert judged.held[first] == (f"older data: {'0' * 12}, the board's are {DATA[:12]}",)
    assert judged.held[second] == (f"older schema: {SCHEMA - 1}, now it is {SCHEMA}",)
    assert judged.standing(results.cells[0]) == judged.standing(results.cells[8]) == "older"
    assert standings(judged, "kd") == standings(judged, "lid") == {"older", "limited"}  # each lacks one


def test_the_data_of_a_board_are_its_files_then_its_runs_then_those_of_most_cells(results, board):
    run = results.run
    assert terms_of(board, run).data_sha256 == DATA
    own = Board("mine", board.path, board.results, data_sha256="e" * 64)
    assert terms_of(own, run).data_sha256 == "e" * 64
    for name in [c.cell for c in results.cells[:9]]:
        results.change(name, dataset={"sha256": "f" * 64})
    bare = {key: value for key, value in results.run.info.items() if key != "spec"}
    assert terms_of(board, type(run)(bare, results.cells, run.samples)).data_sha256 == "f" * 64


def test_a_row_that_lacks_a_seed_or_an_attack_is_limited_and_the_others_are_not(results, board):
    results.cells = [c for c in results.cells if (c.row, c.attack.name, c.seed) != ("kd", "pgd", 1)]
    judged = judge(board, results.run)
    assert standings(judged, "kd") == {"limited"}
    assert standings(judged, "lid") == {"ranked"}
    (reasons,) = {judged.held[c.cell] for c in results.cells if c.row == "kd"}
    assert reasons == ("limited: the row lacks seed 1 of pgd (linf ≤ 0.1) and 1 more",)


def test_an_attack_of_the_file_that_nobody_ran_leaves_every_row_limited(results, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'attacks = ["pgd", "fgsm", "strongest", "!spsa", "bim-*"]\nlimit = 40\nseed = [0, 1]\n'
    )
    judged = judge(read_board(path), results.run)
    assert standings(judged, "lid") == {"limited"}
    assert {w for (w,) in judged.held.values()} == {"limited: the row lacks all of strongest"}
    for defense in ("kd", "lid"):
        for seed in (0, 1):
            results.add(defense, "detector-breaker", seed=seed)
            results.add(defense, "detector-breaker", seed=seed, eps=0.2)
    assert standings(judge(read_board(path), results.run), "lid") == {"ranked"}


def test_a_radius_that_only_one_row_has_is_no_gap_in_the_others(results, board):
    run = results.run
    for seed in (0, 1):
        results.add("kd", "pgd", eps=0.7, seed=seed)
    judged = judge(board, type(run)(run.info, results.cells, results.samples))
    assert standings(judged, "lid") == {"ranked"}


def test_failed_and_skipped_cells_are_no_gaps_and_are_not_ranked(results, board):
    results.change(results.cells[0].cell, status="failed", reason="diverged", metrics={})
    judged = judge(board, results.run)
    assert judged.standing(judged.stored.cells[0]) == "failed"
    assert standings(judged, "kd") == {"ranked", "failed"}


def test_a_cell_on_other_images_than_its_row_is_told_and_stands_in_no_table(results, board):
    name = results.cells[0].cell
    results.cells, results.samples = results.cells[1:], dict(results.samples)
    results.samples.pop(name)
    short = results.add("kd", "fgsm", eps=0.1, seed=0, images=20, attempted=20, cell="short")
    judged = judge(board, results.run)
    assert judged.apart == (short,)
    shown = next(c for c in judged.shown.cells if c.cell == short)
    value = next(c for c in results.cells if c.cell == short).metrics["sr_at_5_fpr"].value
    assert shown.status == "skipped"
    assert f"SR@5 % {value:.3f}" in shown.reason
    assert "limited: 20 of 40 images" in shown.reason
    assert tables(judged.shown)  # worst cases over what is left do not stumble


def test_a_worst_case_of_a_limited_row_has_no_rank_under_any_threat_model(results, board):
    for name in [c.cell for c in results.cells if c.row == "kd"]:
        results.change(
            name,
            counts={"attempted": 10},
            asks_victim=False,
            follows_gradient=False,
            threat_model=plugin("partial-whitebox"),
        )
    judged = judge(board, results.run)
    table = next(t for t in tables(judged.shown) if t.threat_model == "partial-whitebox")
    assert all(entry.rank is None for entry in table.rows["kd"])


def test_flags_of_the_attack_itself_stay(results, board):
    name = results.cells[0].cell
    results.change(
        name, status="flagged", flags=["too weak"], reason="too weak", counts={"attempted": 1}
    )
    judged = judge(board, results.run)
    assert judged.shown.cells[0].flags == ["too weak", "limited: 1 of 40 images"]
    assert np.isclose(len(judged.shown.samples), len(results.samples))
