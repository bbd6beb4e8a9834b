"""Which numbers a claim is judged by: the right cells, paired with the right ones."""

import pytest
from synthetic import Runs

from nfbench.reproduce.evidence import Ran, groups, measured, unfinished
from nfbench.reproduce.paper import Cells, Claim


def ran(runs, experiment="e", **told):
    found = []
    for point, run in runs.runs(experiment):
        object.__setattr__(run, "info", {"reproduces": {"points": 1} | told})
        found.append(Ran(run, point))
    return found


def claim(**given):
    plain = {
        "id": "a",
        "where": "w",
        "says": "s",
        "experiment": "e",
        "value": 0.0,
        "statistic": "auroc_returned",
    }
    return Claim(**plain | given)


def numbers(one, runs, against=None, expected=None):
    own = ran(runs)
    found = measured(one, own, own if against is None else ran(against), expected or {})
    return {m.label: round(m.value.value, 6) for m in found}


@pytest.fixture
def runs():
    made = Runs()
    for attack, auroc in (("fgsm", 0.99), ("bim-b", 0.9), ("cw", 0.8)):
        for eps in (0.1, 0.4) if attack != "cw" else (None,):
            for seed in (0, 1):
                made.add("e", attack, auroc - (eps or 0) / 10 + seed / 100, eps=eps, seed=seed)
    return made


def test_seeds_are_one_number_and_everything_else_is_another(runs):
    found = groups(ran(runs), Cells())
    assert [(g.attack, g.eps, len(g.cells)) for g in found] == [
        ("fgsm", 0.1, 2),
        ("fgsm", 0.4, 2),
        ("bim-b", 0.1, 2),
        ("bim-b", 0.4, 2),
        ("cw", None, 2),
    ]


def test_cells_are_chosen_by_attack_bound_norm_and_attacker(runs):
    (only,) = groups(ran(runs), Cells(attacks=("bim-b",), eps=(0.4,), norm="linf"))
    assert (only.attack, only.eps) == ("bim-b", 0.4)
    assert not groups(ran(runs), Cells(threat_model="blackbox"))
    assert not groups(ran(runs), Cells(norm="l2"))


def test_a_number_is_the_mean_over_seeds(runs):
    found = numbers(claim(cells=Cells(attacks=("bim-b",), eps=(0.4,))), runs)
    assert list(found.values()) == [pytest.approx(0.9 - 0.04 + 0.005)]


def test_a_difference_is_taken_at_the_same_attack_and_bound(runs):
    other = Runs()
    for attack, auroc in (("fgsm", 0.7), ("bim-b", 0.6), ("cw", 0.5)):
        other.add("e", attack, auroc, defense="lid", eps=0.4)
    one = claim(against="o", cells=Cells(eps=(0.4,)), minus=Cells(defense="lid"))
    assert sorted(numbers(one, runs, other).values()) == [pytest.approx(0.255), pytest.approx(0.265)]


def test_a_difference_between_bounds_is_taken_attack_by_attack(runs):
    one = claim(cells=Cells(attacks=("fgsm", "bim-b"), eps=(0.4,)), minus=Cells(eps=(0.1,)))
    assert list(numbers(one, runs).values()) == [pytest.approx(-0.03)] * 2


def test_a_difference_between_attacks_is_taken_at_the_same_point():
    sweep = Runs()
    for size, gap in ((0.03, 0.1), (0.3, 0.2)):
        sweep.add("e", "cw", 0.9 - gap, eps=None, point={"neuralfp.eps": size})
        sweep.add("e", "fgsm", 0.9, eps=0.4, point={"neuralfp.eps": size})
    one = claim(cells=Cells(attacks=("cw",)), minus=Cells(attacks=("fgsm",)))
    assert list(numbers(one, sweep).values()) == [pytest.approx(-0.1), pytest.approx(-0.2)]


def test_a_pair_without_a_partner_leaves_no_number(runs):
    other = Runs()
    other.add("e", "fgsm", 0.7, defense="lid", eps=0.4)  # the rest of its cells failed
    one = claim(against="o", cells=Cells(eps=(0.4,)), minus=Cells(defense="lid"))
    assert not numbers(one, runs, other)


def test_a_mean_over_attacks_is_no_wider_than_they_are(runs):
    one = claim(over="mean", cells=Cells(eps=(0.4,)))
    (found,) = measured(one, ran(runs), ran(runs), {})
    each = measured(claim(cells=Cells(eps=(0.4,))), ran(runs), ran(runs), {})
    widths = [m.value.high - m.value.low for m in each]
    assert found.value.value == pytest.approx(sum(m.value.value for m in each) / 2)
    assert found.value.high - found.value.low == pytest.approx(sum(widths) / 2)


def test_a_mean_over_draws_holds_how_much_these_differ():
    sweep = Runs()
    for secret, auroc in enumerate((0.8, 0.9, 0.97)):
        sweep.add("e", "fgsm", auroc, point={"neuralfp.secret": secret})
    (found,) = measured(claim(over="mean"), ran(sweep), (), {})
    assert found.value.value == pytest.approx(0.89)
    assert found.value.low < 0.89 - 0.1


def test_a_spread_is_over_draws_attack_by_attack():
    sweep = Runs()
    for secret, auroc in enumerate((0.8, 0.9, 0.97)):
        for attack in ("fgsm", "cw"):
            sweep.add("e", attack, auroc, point={"neuralfp.secret": secret})
    found = measured(claim(test="spread-at-most"), ran(sweep), (), {})
    assert [m.label for m in found] == ["fgsm, 3 draws", "cw, 3 draws"]
    assert [m.value.value for m in found] == [pytest.approx(0.08544, abs=1e-4)] * 2


def test_a_cell_that_failed_and_a_point_that_is_missing_are_told(runs):
    assert not unfinished(ran(runs), Cells())
    runs.add("e", "jsma", status="failed", reason="out of memory")
    assert unfinished(ran(runs), Cells()) == "1 of its cells have no number: out of memory"
    assert not unfinished(ran(runs), Cells(attacks=("fgsm",)))
    assert unfinished(ran(runs, points=3), Cells(attacks=("fgsm",))) == "only 1 of 3 points were run"


def test_an_attack_that_fools_far_less_than_the_papers_is_marked(runs):
    rates = {"success_rate": {"value": 0.4, "low": 0.3, "high": 0.5}}
    from nfbench.records import Value

    runs.add("e", "jsma", metrics={k: Value(**v) for k, v in rates.items()})
    (found,) = measured(claim(cells=Cells(attacks=("jsma",))), ran(runs), (), {"jsma": 0.98})
    assert "jsma fools 40 %" in found.feeble
