"""The portfolio against detectors whose answer is known: what can be broken breaks, the rest is kept."""

import pytest
import torch
from bench import climb, watched
from toys import CLASSES, PATTERNS, PLANTED, Planted, far, images, near

from nfbench.core.draws import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Split
from nfbench.core.victim import Victim
from nfbench.runner.measuring import measure, predict, scores

COUNT = 24
CASES = pytest.mark.parametrize("name", PLANTED)
BROKEN = pytest.mark.parametrize("name", [n for n, p in PLANTED.items() if p.known == "broken"])


def evaded(victim: Victim, split: Split, x: torch.Tensor, planted: Planted) -> torch.Tensor:
    """Which images are misclassified and accepted, as the evaluator sees it; (B,)"""
    vectors, _ = measure(victim.detector, split, [x])
    kind = "evasion_score_8bit" if planted.rounded else "evasion_score"
    return vectors[kind] <= victim.alarm.threshold


@CASES
def test_the_clean_images_are_classified_correctly_and_few_are_rejected(name):
    victim, clean = PLANTED[name].victim(), images(400, seed=5)
    assert torch.equal(predict(victim.classifier, clean.x), clean.y)
    rejected = (scores(victim.detector, clean.x) > victim.alarm.threshold).float().mean()
    assert float(rejected) == 1 if name == "rejecting" else float(rejected) < 0.12


@CASES
def test_every_image_can_be_misclassified_in_its_ball(name):
    planted, split = PLANTED[name], images(COUNT, seed=2)
    undefended = Victim(planted.victim().classifier)
    objective, recorder = watched(undefended, split.x, split.y, planted.budget, "margin")
    climb(objective, split.x, planted.budget, 20)
    assert recorder.finished.all()


@BROKEN
def test_what_is_said_to_break_has_points_that_break_it(name):
    planted, split = PLANTED[name], images(COUNT, seed=2)
    victim, found = planted.victim(), torch.zeros(COUNT, dtype=torch.bool)
    for shift in range(1, CLASSES):
        for point in (near, far):
            x = point(split, (split.y + shift) % CLASSES, planted.budget)
            found |= evaded(victim, split, x, planted)
    assert found.float().mean() >= 0.9


@pytest.mark.parametrize("name", ["robust", "robust, saturated"])
def test_what_is_said_to_hold_has_none(name):
    planted, split = PLANTED[name], images(COUNT, seed=2)
    victim = planted.victim()
    own = split.y[:, None]
    # No point of the ball is nearer to another class's pattern than the one found pixel by pixel;
    closest = [near(split, torch.full((COUNT,), k), planted.budget) for k in range(CLASSES)]
    gaps = [victim.detector.observe(x).penalties[:, k] for k, x in enumerate(closest)]
    assert torch.stack(gaps, 1).scatter(1, own, torch.inf).min() > 1.5 * victim.alarm.threshold
    # and what is misclassified is at least half the gap between two patterns from its own.
    half = torch.cdist(PATTERNS, PATTERNS)[0, 1] / 2
    assert victim.detector.masked(half) > 1.5 * victim.alarm.threshold


@pytest.mark.parametrize("name", ["saturated", "clamped", "detached"])
def test_a_masked_gradient_misleads_who_follows_nothing_else(name):
    planted, split = PLANTED[name], images(COUNT, seed=2)
    victim = planted.victim()
    start = planted.budget.project(split.x, 1 - split.x)  # rejected
    x = start.clone().requires_grad_()
    score = victim.detector.score(x)
    assert (score > victim.alarm.threshold).all()
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score.sum(), x)
        assert not gradient.any()


def portfolio(name: str, budget: str) -> torch.Tensor:
    """Which images `detector-breaker` evades the planted detector with. (B,)"""
    module = pytest.importorskip("nfbench_attacks.detector_breaker")
    planted, split = PLANTED[name], images(COUNT, seed=2)
    victim, clean = planted.victim(), images(80, seed=3)
    guides = clean.take(scores(victim.detector, clean.x) <= victim.alarm.threshold)
    recorder = Recorder(victim, split.x, split.y, planted.budget, guides=guides)
    objective = OBJECTIVES["dual"](recorder, split.y, victim.alarm)
    draws = Draws(0, split.index.tolist())
    module.DetectorBreaker(budget=budget).perturb(objective, split.x, planted.budget, draws)
    assert planted.budget.contains(split.x, recorder.best).all()
    return evaded(victim, split, recorder.best, planted)


@CASES
def test_the_portfolio_breaks_what_can_be_broken_and_nothing_else(name):
    found = portfolio(name, "quick").float().mean()
    assert found >= 0.9 if PLANTED[name].known == "broken" else found == 0
