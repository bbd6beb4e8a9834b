"""CW-FP: the searches of its two weights, against planted thresholds."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, digits

from nfbench.core.values import Budget
from nfbench_attacks.cw_lagrangian import GAMMA2, CWFingerprint, Outcome

NEEDED = torch.tensor([2e-4, 3e-3, 0.7, 30.0, 4e3])
"""gamma1 that it takes to fool the classifier, for each of five images."""


def planted(attack, monkeypatch, outcome):
    """An attack whose runs end as `outcome(gamma1, gamma2)` says, and the weights it tries."""
    tried = []

    def run(self, problem, gamma1, gamma2):
        tried.append((gamma1.clone(), gamma2.clone()))
        return Outcome(*outcome(gamma1, gamma2))

    monkeypatch.setattr(CWFingerprint, "_descend", run)
    return attack, tried


def perturb(attack, name):
    digits().take(5).attack(attack, Budget("l2", math.inf), ADAPTIVE, name)


def test_gamma1_is_the_smallest_that_is_enough(monkeypatch):
    attack = CWFingerprint(variant="one", binary_search_steps=16)
    attack, tried = planted(attack, monkeypatch, lambda g, _: (g >= NEEDED, g > 0))
    perturb(attack, "margin")
    weights = torch.stack([one for one, _ in tried])
    assert len(tried) == 16
    assert (weights[0] == 1e-3).all()
    torch.testing.assert_close(weights[1], torch.tensor([1e-4, *[1e-2] * 4]))
    enough = weights.masked_fill(weights < NEEDED, torch.inf).amin(0)
    assert (enough / NEEDED < 1.03).all()
    assert all((other == 1).all() for _, other in tried)


def test_gamma2_is_the_smallest_that_is_accepted_at_the_smallest_gamma1_that_fools(monkeypatch):
    wanted = torch.tensor([2e-3, 0.03, 0.5, 20.0, 4e3])
    attack, tried = planted(
        CWFingerprint(binary_search_steps=14, gamma2_steps=14),
        monkeypatch,
        lambda g, h: ((g >= NEEDED) & (h >= wanted), g >= NEEDED),
    )
    perturb(attack, "dual")
    assert len(tried) == 28
    assert all((h == torch.tensor(0.1)).all() for _, h in tried[:14])
    frozen = tried[14][0]
    assert ((frozen / NEEDED >= 1) & (frozen / NEEDED < 1.3)).all()
    assert all(torch.equal(g, frozen) for g, _ in tried[14:])
    weights = torch.stack([h for _, h in tried])
    enough = weights.masked_fill(weights < wanted, torch.inf).amin(0)
    assert (enough / wanted < 1.03).all()


def test_gamma1_grows_where_nothing_was_ever_accepted_nor_fooled(monkeypatch):
    attack, tried = planted(
        CWFingerprint(binary_search_steps=3, gamma2_steps=6),
        monkeypatch,
        lambda g, _: (g >= NEEDED, g >= NEEDED),
    )
    perturb(attack, "dual")
    largest = torch.stack([g for g, _ in tried]).amax(0)
    assert (largest >= NEEDED).all()
    assert largest[-1] == pytest.approx(1e4)


def test_as_in_the_paper_gamma2_is_the_largest_that_still_fools(monkeypatch):
    most = torch.tensor([2e-3, 0.03, 0.5, 20.0, 4e3])
    attack, tried = planted(
        CWFingerprint(gamma2_steps=12), monkeypatch, lambda g, h: (h <= most, (g >= 0.5) & (h <= most))
    )
    perturb(attack, "paper")
    later = torch.stack([h for _, h in tried[9:]])
    assert len(later) == 12
    torch.testing.assert_close(
        later[0],
        torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1])
        .mul(torch.tensor([GAMMA2[0], GAMMA2[0], GAMMA2[1], GAMMA2[1], GAMMA2[1]]))
        .sqrt(),
    )
    kept = later.masked_fill(later > most, 0).amax(0)
    assert ((kept / most)[[0, 1, 2, 3, 4]] > 0.97).all()
    assert ((later >= GAMMA2[0]) & (later <= GAMMA2[1])).all()


@pytest.mark.parametrize(
    "wrong", [{"initial_gamma2": 1e-4}, {"initial_gamma2": 2e4}, {"variant": "two"}]
)
def test_weights_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CWFingerprint(**wrong)


def test_passes_are_those_of_both_searches():
    attack = CWFingerprint(steps=10, binary_search_steps=3, gamma2_steps=4)
    assert attack.passes == 70
    assert attack.model_copy(update={"variant": "one"}).passes == 30
