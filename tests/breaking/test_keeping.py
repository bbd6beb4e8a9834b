"""What is kept of an attack: nothing from outside the ball, no lucky draw, never less than before."""

import math
from itertools import pairwise

import pytest
import torch
from bench import Along, Centres, Climb, Linear, calibrated, climb, watched
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.draws import Draws
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Images, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.measuring import measure, scores
from nfbench_threats.whitebox import AdaptiveWhitebox

ADAPTIVE: ThreatModel = AdaptiveWhitebox()


def curved(seed: int = 0, count: int = 12) -> tuple[Victim, Split]:
    """A small random network, distances of its logits to random points, and images it gets right."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 4))
    classifier = Classifier(network, 4).eval().requires_grad_(False)
    detector = Centres(classifier, torch.rand(4, 16)).eval()
    x = torch.rand(count, 1, 4, 4)
    victim = calibrated(detector, torch.rand(200, 1, 4, 4))
    return victim, Split(x, classifier(x).argmax(1), torch.arange(count))


class Greedy(Climb):
    """Looks at better points than it may return: outside of the ball, outside of the box, and both."""

    name = "greedy"

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        inside = super().perturb(objective, x, budget, draws)
        with torch.no_grad():
            for wide in (Budget("linf", 2 * budget.eps), Budget("linf", math.inf)):
                objective.query(climb(objective, x, wide if wide.bounded else Budget("linf", 1.0), 30))
            far = x + 10 * (inside - x)
            objective.query(far)
            objective.query(far.clamp(0, 1))
            objective.query(torch.full_like(x, torch.nan))
        return inside


@pytest.mark.parametrize("name", ["dual", "selective"])
def test_better_points_outside_the_ball_gain_nothing(name):
    victim, split = curved()
    budget = Budget("linf", 0.1)
    honest, greedy = (
        craft(Attempt(kind(), ADAPTIVE, name, budget, 0), victim, split) for kind in (Climb, Greedy)
    )
    images = [made.vectors["images"] for made in (honest, greedy)]
    assert budget.contains(split.x, images[1]).all()
    measured = [measure(victim.detector, split, [x])[0]["evasion_score"] for x in images]
    # Points on the way out that still lie inside the ball count, and may be better.
    assert (measured[1] <= measured[0]).all()
    outside, recorder = watched(victim, split.x, split.y, Budget("linf", 0.4))
    climb(outside, split.x, Budget("linf", 0.4))
    assert (recorder.evasion_score < measured[1]).sum() > 5  # there was something to gain


def test_what_only_points_outside_achieve_is_infinite_and_leaves_the_image_alone():
    victim, split = curved()
    wide = Budget("linf", 0.5)
    kept = []
    for budget in (Budget("linf", 1e-4), wide):
        objective, recorder = watched(victim, split.x, split.y, budget)
        climb(objective, split.x, wide)
        kept.append(recorder)
    assert kept[0].evasion_score.isinf().all()
    assert torch.equal(kept[0].best, split.x)
    assert kept[1].evasion_score.isfinite().sum() > 5


class Noisy(Along):
    """The score with noise of deviation .1 that depends on the image and the draw."""

    stochastic = True

    def score(self, x: Images) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.draw)
        direction = torch.randn(x[0].numel(), generator=generator)
        phase = (1e4 * (x.flatten(1) @ direction)).detach()
        return super().score(x) + 0.1 * math.sqrt(2) * phase.sin()


def noisy(count: int) -> tuple[Victim, Split]:
    """Class 1 where the first pixel exceeds .6; suspicious where the second is bright."""
    torch.manual_seed(0)
    weights = torch.zeros(2, 16)
    weights[1, 0] = 1
    classifier = Classifier(Linear(weights, torch.tensor([0.0, 0.1]), 5.0), 2).eval()
    v = torch.zeros(16)
    v[1] = 1
    x = 0.45 + 0.1 * torch.rand(count, 1, 4, 4)
    victim = Victim(classifier, Noisy(classifier, v).eval(), Alarm(-0.12, -9.0, 0.1))
    return victim, Split(x, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_against_a_noisy_score_the_success_rate_is_that_of_fresh_draws():
    victim, split = noisy(400)
    made = craft(Attempt(Climb(steps=40), ADAPTIVE, "dual", Budget("linf", 0.11), 0), victim, split)
    images, detector, tau = made.vectors["images"], victim.detector, victim.alarm.threshold
    reported = measure(detector, split, [images])[0]["evasion_score"] <= tau
    fresh = []
    for draw in range(10_000, 10_100):
        detector.draw = draw
        fresh.append(detector.score(images) <= tau)
    rate = torch.stack(fresh).float().mean(0)  # of each image
    error = (rate * (1 - rate)).sum().sqrt() / len(split)
    assert 0.2 < float(rate.mean()) < 0.8
    assert float(reported.float().mean() - rate.mean()) == pytest.approx(0, abs=4 * float(error))
    # The draws that the attack saw would have flattered it.
    recorder = Recorder(victim, split.x, split.y, Budget("linf", 0.11))
    climb(ADAPTIVE.objective("dual", recorder, split.y, victim.alarm), split.x, recorder.budget, 40)
    lucky = (recorder.evasion_score <= tau).float().mean()
    assert float(lucky - rate.mean()) > 8 * float(error)


def test_reported_scores_are_of_a_draw_that_no_attack_has_seen():
    victim, split = noisy(3)
    objective, _ = watched(victim, split.x, split.y, Budget("linf", 0.1))
    seen = {round(float(objective.query(split.x).score[0]), 6) for _ in range(50)}
    assert len(seen) == 50
    assert round(float(scores(victim.detector, split.x)[0]), 6) not in seen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["dual", "selective", "margin", "orthogonal", "cross-entropy"])
def test_more_steps_never_raise_what_was_kept(name, seed):
    victim, split = curved(seed, 6)
    budget = Budget("linf", 0.3)
    objective, recorder = watched(victim, split.x, split.y, budget, name)
    before = recorder.evasion_score.clone()
    for steps in (3, 10, 30):
        climb(objective, split.x, budget, steps)
        assert (recorder.evasion_score <= before).all()
        before = recorder.evasion_score.clone()
    assert before.isfinite().any()
    again = scores(victim.detector, recorder.best)
    assert torch.equal(again.where(before.isfinite(), before), before)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_larger_ball_never_raises_it_when_it_starts_from_what_the_smaller_one_kept(norm, seed):
    victim, split = curved(seed, 6)
    unit = {"linf": 0.05, "l2": 0.2, "l1": 0.8}[norm]
    found, kept = [torch.full((6,), torch.inf)], split.x
    for k in (1, 2, 3, 4):
        budget = Budget(norm, k * unit)
        objective, recorder = watched(victim, split.x, split.y, budget)
        objective.query(kept)
        climb(objective, split.x, budget, 10)
        found.append(recorder.evasion_score)
        kept = recorder.best
    for smaller, larger in pairwise(found):
        assert (larger <= smaller).all()
    assert (found[-1] < found[1]).any()
