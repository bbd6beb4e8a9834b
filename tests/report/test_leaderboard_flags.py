"""Flagged cells, ladders of radii, and what secrecy is worth, as pages show them."""

import numpy as np
from boards import Board, rows

from nfbench.report.board import UNDEFENDED, tables
from nfbench.report.leaderboard import markdown


def test_a_flagged_cell_is_shown_with_a_mark_and_its_reason_and_is_never_the_best(board):
    board.add("broken", "fgsm", 0.99, 0.0, flags=["the gradient is zero on 100% of the images probed"])
    board.add("broken", "pgd", 0.99, 0.05)
    page = markdown(board.run)
    found = rows(page)
    assert found["broken"][2:4] == ["0.990 / 0.000 ⚑", "**0.990 / 0.050**"]
    assert found["strong"][2] == "**0.900 / 0.100**"
    told = "- `broken-fgsm-adaptive-whitebox-0`: the gradient is zero on 100% of the images probed"
    assert told in page.split("## Flagged cells")[1]
    assert "⚑: the attack is weaker than it should be" in page
    assert "Cells without a number" not in page


def test_a_page_without_flags_does_not_explain_them(board):
    assert "⚑" not in markdown(board.run)
    assert "Flagged" not in markdown(board.run)


def test_a_worst_case_that_rests_on_flagged_cells_is_marked_and_ranked_last(board):
    lucky = [np.inf] * 4
    board.add("broken", "fgsm", 0.99, 0.0, flags=["masked"], evasion=lucky)
    board.add("broken", "pgd", 0.99, 0.0, flags=["masked"], evasion=lucky)
    assert rows(markdown(board.run))["broken"][4] == "1.000 / 0.000 ⚑"
    assert rows(markdown(board.run))["strong"][4].startswith("**")
    assert list(tables(board.run)[0].rows) == ["strong", "weak", "broken", UNDEFENDED]


def test_a_flagged_attack_that_others_make_up_for_leaves_the_worst_case_ranked(board):
    board.add("odd", "fgsm", 0.9, 0.0, flags=["a larger radius made it worse"])
    board.add("odd", "pgd", 0.3, 0.75, evasion=[0.1, 0.1, 0.1, np.inf])
    assert "⚑" not in rows(markdown(board.run))["odd"][4]
    board.samples["odd-pgd-adaptive-whitebox-0"]["evasion_score"] = np.array([np.inf] * 4)
    board.samples["odd-fgsm-adaptive-whitebox-0"]["evasion_score"] = np.array([0.1, 0.1, 0.1, np.inf])
    assert "⚑" in rows(markdown(board.run))["odd"][4]


def test_a_flagged_seed_marks_the_mean_over_seeds():
    board = Board()
    board.add("d", "fgsm", 0.6, 0.2, seed=0)
    board.add("d", "fgsm", 0.8, 0.4, seed=1, flags=["suspicious"])
    assert rows(markdown(board.run))["d"][2] == "0.700 / 0.300 ⚑"


def test_columns_of_a_ladder_go_by_radius_and_rows_by_the_whole_ladder():
    board = Board()
    for eps, first, second in ((0.25, 1.0, 0.9), (0.05, 0.0, 0.8), (0.1, 0.1, 0.9)):
        for attack in ("fgsm", "pgd"):
            for name, rate in (("low", first), ("top", second)):
                evasion = [0.1] * round(10 * rate) + [np.inf] * round(10 - 10 * rate)
                board.add(name, attack, 0.5, rate, eps=eps, evasion=evasion)
                sample = board.samples[board.cells[-1].cell]
                sample["index"], sample["clean_score"] = np.arange(10), np.full(10, 0.2)
    radii = ["0.05", "0.1", "0.25"]
    assert tables(board.run)[0].columns == [
        *(f"{a} (linf ≤ {r})" for a in ("fgsm", "pgd") for r in radii),
        *(f"worst linf ≤ {r}" for r in radii),
    ]
    # At the top "low" is the worse one; over the ladder it is the better one by far.
    assert list(tables(board.run)[0].rows)[:2] == ["low", "top"]


def test_who_cannot_ask_the_detector_has_the_strongest_attack_for_a_worst_case_and_the_page_says_so():
    board = Board()
    for threat in ("partial-whitebox", "adaptive-whitebox"):
        board.add("d", "fgsm", 0.5, 0.5, threat_model=threat, evasion=[0.1, np.inf, np.inf, np.inf])
        board.add("d", "pgd", 0.5, 0.5, threat_model=threat, evasion=[np.inf, 0.1, 0.1, np.inf])
    static, adaptive = (table.rows["d"][-1].sr5 for table in tables(board.run))
    assert (static, adaptive) == (0.5, 0.75)
    first, second = markdown(board.run).split("## partial-whitebox")[1].split("## adaptive-whitebox")
    assert "strongest single attack" in first
    assert "strongest single attack" not in second.partition("## Value")[0]


def test_the_value_of_secrecy_goes_from_who_knows_least_to_who_knows_all():
    board = Board()
    rates = {"adaptive-whitebox": 4, "score-queries": 3, "partial-whitebox": 2, "blackbox": 1}
    for threat, broken in rates.items():
        evasion = [0.15] * broken + [np.inf] * (4 - broken)
        board.add("d", "pgd", 0.5, 0.5, threat_model=threat, evasion=evasion)
    page = markdown(board.run, "auroc_returned")
    found = rows(page, "Value of secrecy")
    order = ["blackbox", "partial-whitebox", "adaptive-whitebox", "score-queries"]
    assert found["defense"] == order
    # A score of .15 is above one of the four clean ones, a failure above all: the worst AUROC.
    expected = [f"{(n * 1 + (4 - n) * 4) / 16:.3f} / {n / 4:.3f}" for n in (1, 2, 4, 3)]
    assert found["d"] == expected
    assert "### linf ≤ 0.25" in page


def test_one_rung_or_a_rung_and_queries_have_no_value_of_secrecy(board):
    assert "Value of secrecy" not in markdown(board.run)
    board.add("weak", "fgsm", 0.5, 0.5, threat_model="score-queries")
    assert "Value of secrecy" not in markdown(board.run)


def test_a_rung_without_a_result_is_incomplete_and_not_flattering():
    board = Board()
    for name in ("one", "two"):
        board.add(name, "pgd", 0.5, 0.5, threat_model="partial-whitebox")
        board.add(name, "pgd", 0.5, 0.5)
    board.cells[-1] = board.cells[-1].model_copy(update={"status": "failed"})
    found = rows(markdown(board.run), "Value of secrecy")
    assert found["one"] == ["1.000 / 0.000", "1.000 / 0.000"]
    assert found["two"] == ["1.000 / 0.000", "incomplete"]


def test_what_won_is_told_as_shares_over_all_seeds_for_attackers_who_know_the_detector():
    board = Board()
    board.add("d", "pgd", 0.5, 0.5, seed=0, winners={"dual: long": 5, "probes": 1})
    board.add("d", "pgd", 0.5, 0.5, seed=1, winners={"dual: long": 1, "matching": 2, "static": 1})
    board.add("d", "fgsm", 0.5, 0.5, threat_model="partial-whitebox", winners={"cross-entropy": 1})
    page = markdown(board.run).split("## What won")[1].split("\n## ")[0]
    assert "dual: long 60%, matching 20%, probes 10%" in page
    assert "static" not in page
    assert "fgsm" not in page


def test_false_alarms_of_flagged_cells_count():
    board = Board()
    board.add("d", "fgsm", 0.9, 0.1, flags=["suspicious"])
    assert rows(markdown(board.run), "False alarms")["d"][0] == "0.050"
