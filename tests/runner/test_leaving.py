"""Pairs of attack and threat model that a run leaves out."""

import pytest

from nfbench.core.errors import UsageError
from nfbench.session import plan_of

BOTH = ("partial-whitebox", "adaptive-whitebox")


def pairs(plan):
    return {(cell.attack.name, cell.threat_model.name) for cell in plan.cells}


@pytest.fixture
def plan(tiny, registry):
    def make(*skip, **other):
        chosen = {"defense": ("max-softmax",), "attacks": ("fgsm", "pgd"), "threat_model": BOTH, **other}
        return plan_of(tiny(skip=skip, **chosen), registry)

    return make


def test_a_pair_that_is_left_out_has_no_cell_and_no_job(plan):
    whole, part = plan(), plan("pgd@adaptive-whitebox")
    assert pairs(whole) - pairs(part) == {("pgd", "adaptive-whitebox")}
    assert len(part.jobs) < len(whole.jobs)
    assert part.jobs.keys() < whole.jobs.keys()


@pytest.mark.parametrize("pattern", ["fgsm@*", "f*@*box", "[!p]*@*"])
def test_both_halves_may_be_globs(plan, pattern):
    assert pairs(plan(pattern)) == {("pgd", name) for name in BOTH}


def test_a_pattern_may_be_about_one_defense(plan):
    found = plan("random:*@*", defense=("max-softmax", "random"))
    assert {cell.defense.name for cell in found.cells} == {"max-softmax"}
    assert len(found.cells) == 4


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("pgd", "expected attack@threat-model"),
        ("a:b:pgd@*", "expected attack@threat-model"),
        ("cw@*", "no effect"),
        ("pgd@blackbox", "no effect"),
        ("random:pgd@*", "no effect"),
    ],
)
def test_a_pattern_that_leaves_nothing_out_is_refused(plan, pattern, why):
    with pytest.raises(UsageError, match=why):
        plan(pattern)


def test_a_file_s_patterns_may_be_idle_where_flags_chose_other_plugins(plan):
    assert pairs(plan("cw@*", spare=frozenset({"cw@*"}))) == pairs(plan())
