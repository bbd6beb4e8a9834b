"""What the known-answer tests share: a plain gradient loop, and victims whose optimum is known."""

import math

import torch
from torch import nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.draws import Draws
from nfbench.core.objective import Objective
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recipe import Count
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget, Images, Labels, Split, per_image
from nfbench.core.victim import Alarm, Victim


def climb(
    objective: Objective, x: Images, budget: Budget, steps: int = 100, start: Images | None = None
) -> Images:
    """Projected gradient steps that shrink from eps / 2 to eps / 200 along half a cosine."""
    objective = objective.begin()
    x_adv = x if start is None else start
    for k in range(steps):
        length = 0.25 * budget.eps * (1 + math.cos(math.pi * k / steps)) + budget.eps / 200
        direction = _unit(objective.step(x_adv).gradient, budget)
        x_adv = budget.project(x, x_adv + length * direction)
    with torch.no_grad():
        objective.query(x_adv)  # the last one has not been looked at
    return x_adv


def _unit(gradient: Images, budget: Budget) -> Images:
    if budget.norm == "linf":
        return gradient.sign()
    return gradient / per_image(gradient.flatten(1).norm(dim=1).clamp_min(1e-20), gradient)


class Climb(Attack):
    """`climb` as an attack."""

    name = "climb"
    norm = "linf"

    steps: Count = 20

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        return climb(objective, x, budget, self.steps)


class Linear(nn.Module):
    """Logits scale * (x - 1/2) W' - offset; W is (K, D)."""

    def __init__(self, weights: torch.Tensor, offset: torch.Tensor | float = 0.0, scale: float = 1.0):
        super().__init__()
        self.weights, self.offset = nn.Buffer(weights), nn.Buffer(torch.as_tensor(offset))
        self.scale = scale

    def forward(self, x: Images) -> torch.Tensor:
        return self.scale * ((x.flatten(1) - 0.5) @ self.weights.T - self.offset)


class Along(Detector):
    """The score is how far an image lies along v, counted from grey."""

    def __init__(self, classifier: Classifier, v: torch.Tensor) -> None:
        super().__init__(classifier)
        self.v = nn.Buffer(v)

    def score(self, x: Images) -> torch.Tensor:
        return (x.flatten(1) - 0.5) @ self.v


class Centres(Detector):
    """Penalty of a class: the distance to its centre; the least of them is the score."""

    def __init__(self, classifier: Classifier, centres: torch.Tensor) -> None:
        super().__init__(classifier)
        self.centres = nn.Buffer(centres)  # (K, D)

    def score(self, x: Images) -> torch.Tensor:
        return self.distances(x).amin(1)

    def distances(self, x: Images) -> torch.Tensor:
        gaps = x.flatten(1)[:, None] - self.centres
        return (gaps.square().sum(2) + 1e-12).sqrt()

    def observe(self, x: Images) -> Observation:
        penalties = self.distances(x)
        return Observation(self.classifier(x), penalties.amin(1), penalties)

    def features(self, x: Images) -> torch.Tensor:
        return x.flatten(1) - 0.5


def watched(
    victim: Victim,
    x: Images,
    labels: Labels,
    budget: Budget,
    name: str = "dual",
    *,
    guides: Split | None = None,
    access: Access = Access.GRADIENT,
) -> tuple[Objective, Recorder]:
    """An objective that is told everything about `victim`, and the recorder behind it."""
    recorder = Recorder(victim, x, labels, budget, access, guides=guides)
    return OBJECTIVES[name](recorder, labels, victim.alarm), recorder


def calibrated(detector: Detector, clean: Images) -> Victim:
    """The victim whose alarm goes off for 5 % of `clean`."""
    with torch.no_grad():
        return Victim(detector.classifier, detector, Alarm.calibrated(detector.score(clean)))
