"""Which rows may be ranked, and which worst cases are in doubt."""

import numpy as np
import pytest
from boards import Board

from nfbench.records import Value
from nfbench.report.board import tables

MISSED, BROKEN = [np.inf] * 4, [0.1] * 4
SOME = [0.1, 0.1, np.inf, np.inf]


def ranks(board):
    (table,) = tables(board.run)
    return {name: (one.rank_low, one.rank_high) for name, one in table.ranks.items()}


def entries(board):
    (table,) = tables(board.run)
    return {name: row[-1] for name, row in table.rows.items()}


@pytest.fixture
def board():
    """Two rows with two attacks each."""
    made = Board()
    for name, low in (("kd", SOME), ("lid", BROKEN)):
        made.add(name, "fgsm", 0.9, 0.0, evasion=MISSED)
        made.add(name, "pgd", 0.5, 0.5, evasion=low)
    return made


def test_rows_with_the_same_attacks_and_seeds_are_ranked(board):
    assert ranks(board).keys() == {"kd", "lid"}


@pytest.mark.parametrize("missing", ["nothing there", "skipped"])
def test_a_row_that_lacks_an_attack_is_not_ranked(board, missing):
    board.add("bu", "fgsm", 1.0, 0.0, evasion=MISSED)
    if missing == "skipped":
        board.add("bu", "pgd", status="skipped", reason="needs a gradient")
    assert ranks(board).keys() == {"kd", "lid"}


def test_a_row_that_lacks_a_seed_is_not_ranked(board):
    for name in ("kd", "lid"):
        for attack in ("fgsm", "pgd"):
            board.add(name, attack, 0.5, 0.5, seed=1, evasion=SOME)
    for attack in ("fgsm", "pgd"):
        board.add("bu", attack, 1.0, 0.0, evasion=MISSED)
    assert ranks(board).keys() == {"kd", "lid"}


def test_images_that_others_submitted_are_no_attack_that_rows_must_have(board):
    board.add("kd", "submitted", 0.1, 1.0, evasion=BROKEN)
    assert ranks(board).keys() == {"kd", "lid"}
    assert entries(board)["kd"].sr5 == 1.0


def test_a_worst_case_with_a_flagged_portfolio_is_in_doubt_until_it_is_broken_all_the_same(board):
    flags = {"flags": ["the gradient of the detector's score is zero"]}
    board.add("kd", "detector-breaker", 1.0, 0.0, evasion=MISSED, **flags)
    board.add("lid", "detector-breaker", 0.5, 0.5, evasion=MISSED, **flags)
    found = entries(board)
    assert found["kd"].flagged
    assert not found["lid"].flagged
    assert found["lid"].sr5 == 1.0


def test_a_flagged_attack_that_changes_nothing_puts_nothing_in_doubt(board):
    board.add("kd", "bim-b", 1.0, 0.0, evasion=MISSED, flags=["a larger radius made it worse"])
    assert not entries(board)["kd"].flagged


def test_a_bound_stays_one_in_the_worst_case(board):
    assert not entries(board)["kd"].bound
    cell = board.cells[1]
    bound = cell.metrics["auroc_worst"].model_copy(update={"flag": "upper bound: it stopped"})
    board.cells[1] = cell.model_copy(update={"metrics": cell.metrics | {"auroc_worst": bound}})
    assert entries(board)["kd"].bound
    assert entries(board)["kd"].text.startswith("≤ ")
    assert not entries(board)["lid"].bound


def moved_late(board, name, share):
    """Let the second half of an attack's passes have found that share of a row."""
    late = Value(value=share)
    for place, cell in enumerate(board.cells):
        if (cell.defense.name, cell.attack.name) == (name, "pgd"):
            metrics = cell.metrics | {"sr_at_5_fpr_late": late}
            board.cells[place] = cell.model_copy(update={"metrics": metrics})


@pytest.fixture
def wide():
    """Two rows that are told apart, 200 images each: .2 and .5 of them evade."""
    made = Board()
    for name, share in (("kd", 0.2), ("lid", 0.5)):
        for attack in ("fgsm", "pgd"):
            evasion = np.where(np.arange(200) < 200 * share, 0.1, np.inf)
            made.add(name, attack, 0.5, share, evasion=evasion)
            sample = made.samples[made.cells[-1].cell]
            sample["index"], sample["clean_score"] = np.arange(200), np.linspace(0, 0.9, 200)
            sample["calibration_score"] = np.arange(1, 2000) / 2000
    return made


def test_a_row_whose_search_was_not_over_is_better_only_if_as_much_again_would_leave_it_so(wide):
    assert ranks(wide) == {"kd": (1, 1), "lid": (2, 2)}
    moved_late(wide, "kd", 0.1)
    assert ranks(wide) == {"kd": (1, 1), "lid": (2, 2)}
    moved_late(wide, "kd", 0.28)
    assert ranks(wide) == {"kd": (1, 2), "lid": (1, 2)}
    moved_late(wide, "kd", 0.0)
    moved_late(wide, "lid", 0.4)  # the worse one can only get worse
    assert ranks(wide) == {"kd": (1, 1), "lid": (2, 2)}


@pytest.mark.parametrize(("late", "shown"), [(0.02, False), (0.03, True)])
def test_a_number_that_more_passes_would_raise_has_an_arrow(wide, late, shown):
    moved_late(wide, "kd", late)
    found = entries(wide)
    assert found["kd"].climbing == shown
    assert found["kd"].text.endswith(" ↑") == shown
    assert not found["lid"].climbing


def test_where_nearly_every_image_is_broken_there_is_nothing_left_to_find(board):
    moved_late(board, "lid", 0.5)
    assert not entries(board)["lid"].climbing
