"""Detectors whose answer is known before any attack is run, all in front of one toy classifier.

Four classes are four patterns of pixels .4 and .6 that differ pairwise in half of the pixels; images are
patterns with noise below .03, on the grid of 8 bits. An image counts as clean within a distance of the
nearest pattern. Another class begins .1 away in L-inf and its pattern is .2 away, so that in a ball of
.12 every image can be misclassified but none of them near a pattern, in a ball of .19 nearly all of
them near one, and in a ball of .25 lie other clean images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from bench import Centres, Linear

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.values import Budget, Images, Labels, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.measuring import scores

CLASSES, PIXELS = 4, 16
NEAR, FAR, WIDE = Budget("linf", 0.12), Budget("linf", 0.19), Budget("linf", 0.25)

_SIGNS = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
HADAMARD = torch.kron(torch.kron(_SIGNS, _SIGNS), torch.kron(_SIGNS, _SIGNS))
PATTERNS = 0.5 + 0.1 * HADAMARD[1 : CLASSES + 1]  # (K, D)


def images(count: int, seed: int) -> Split:
    """`count` clean images, on the grid of 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = 0.056 * (torch.rand(count, PIXELS, generator=generator) - 0.5)
    x = ((PATTERNS[labels] + noise) * 255).round() / 255
    return Split(x.view(count, 1, 4, 4), labels, torch.arange(count))


def classifier() -> Classifier:
    return Classifier(Linear(HADAMARD[1 : CLASSES + 1], 0.0, 10.0), CLASSES).eval()


class Honest(Centres):
    """The distance to the nearest pattern, nothing hidden."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier, PATTERNS)

    def masked(self, distance: torch.Tensor) -> torch.Tensor:
        """What it makes of distances; increasing."""
        return distance

    def score(self, x: Images) -> torch.Tensor:
        return self.masked(super().score(x))

    def observe(self, x: Images) -> Observation:
        penalties = self.masked(self.distances(x))
        return Observation(self.classifier(x), penalties.amin(1), penalties)


class Saturated(Honest):
    """A steep logistic function: where an image is rejected the gradient soon vanishes in float32."""

    def masked(self, distance: torch.Tensor) -> torch.Tensor:
        return (80 * (distance - 0.1)).sigmoid()


class Clamped(Honest):
    """Cut off just above the threshold: where an image is rejected there is no gradient at all."""

    def masked(self, distance: torch.Tensor) -> torch.Tensor:
        return distance.clamp(max=0.12)


class Detached(Honest):
    """No gradient anywhere."""

    differentiable = False

    def masked(self, distance: torch.Tensor) -> torch.Tensor:
        return distance.detach()


class Randomised(Honest):
    """The distance in a picture with random noise, drawn anew for every query."""

    stochastic = True

    def distances(self, x: Images) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.draw)
        noise = 0.01 * torch.randn(x[:1].shape, generator=generator)
        return super().distances(x + noise)


class Quantised(Honest):
    """Rejects whatever is off the grid of 8 bits, where attacks look for their points."""

    def off_grid(self, x: Images) -> torch.Tensor:
        levels = 255 * x.flatten(1)
        return (levels - levels.detach().round()).abs().mean(1)

    def score(self, x: Images) -> torch.Tensor:
        return super().score(x) + 10 * self.off_grid(x)

    def observe(self, x: Images) -> Observation:
        seen = super().observe(x)
        extra = 10 * self.off_grid(x)
        return Observation(seen.logits, seen.score + extra, seen.penalties + extra[:, None])


class Flipped(Honest):
    """The wrong way round: the farther from a pattern, the cleaner."""

    def score(self, x: Images) -> torch.Tensor:
        return -super().score(x)

    def observe(self, x: Images) -> Observation:
        logits, score = self.classifier(x), self.score(x)
        return Observation(logits, score, score[:, None].expand_as(logits))


class Constant(Detector):
    """The same score for everything."""

    value: ClassVar[float]

    def score(self, x: Images) -> torch.Tensor:
        return 0 * x.flatten(1).sum(1) + self.value


class Accepting(Constant):
    value = 0.0


class Rejecting(Constant):
    value = 1.0


@dataclass(frozen=True)
class Planted:
    """A detector, the ball, and what must come of attacking it."""

    detector: Callable[[Classifier], Detector]
    budget: Budget
    known: Literal["broken", "kept"]
    alarm: Alarm | None = None
    """Its operating points; calibrated on clean images if None."""
    rounded: bool = False
    """Whether what breaks it is the attack's image after rounding to 8 bits."""

    def victim(self) -> Victim:
        toy = classifier()
        detector = self.detector(toy).eval()
        alarm = self.alarm or Alarm.calibrated(scores(detector, images(400, seed=1).x))
        return Victim(toy, detector, alarm)


AT_HALF = Alarm(threshold=0.5, median=0.25, unit=0.1)

PLANTED = {
    "honest": Planted(Honest, FAR, "broken"),
    "robust": Planted(Honest, NEAR, "kept"),
    "saturated": Planted(Saturated, FAR, "broken"),
    "clamped": Planted(Clamped, FAR, "broken"),
    "detached": Planted(Detached, FAR, "broken"),
    "randomised": Planted(Randomised, FAR, "broken"),
    "quantised": Planted(Quantised, WIDE, "broken", rounded=True),
    "flipped": Planted(Flipped, FAR, "broken"),
    "accepting": Planted(Accepting, FAR, "broken", AT_HALF),
    "rejecting": Planted(Rejecting, FAR, "kept", AT_HALF),
    "robust, saturated": Planted(Saturated, NEAR, "kept"),
}


def near(split: Split, targets: Labels, budget: Budget) -> Images:
    """The point of each ball that is nearest to the pattern of the target."""
    return budget.project(split.x, PATTERNS[targets].view_as(split.x))


def far(split: Split, targets: Labels, budget: Budget) -> Images:
    """The point of each ball that is farthest beyond the pattern of the target."""
    return budget.project(split.x, split.x + 9 * (PATTERNS[targets].view_as(split.x) - 0.5))
