"""Detectors that learn from attacked images, and others that some classifiers are no use for."""

from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import nn

from nfbench import Defense, Detector, UsageError


class Direction(Detector):
    """How far an image lies along a direction."""

    def __init__(self, classifier, direction):
        super().__init__(classifier)
        self.direction = nn.Buffer(direction)

    def score(self, x):
        return (x * self.direction).flatten(1).sum(1)


class Apprentice(Defense):
    """From the mean clean image to the mean attacked one; its state says what it was given."""

    name = "apprentice"
    learns_from: str | None = "fgsm"

    def fit(self, classifier, data):
        examples = data.examples
        if examples is None:
            return {"direction": data.clean.x.mean(0), "clean": data.clean.index}
        return {
            "direction": (examples.adversarial - examples.clean.x).mean(0),
            "clean": data.clean.index,
            "examples": examples.clean.index,
            "images": examples.clean.x,
            "moved": (examples.adversarial - examples.clean.x).flatten(1).norm(dim=1),
            "noised": (examples.noisy - examples.clean.x).flatten(1).norm(dim=1),
        }

    def detector(self, classifier, state):
        return Direction(classifier, state["direction"])


class Cheat(Defense):
    """Compares each image with its clean original, in fours."""

    name = "cheat"
    paired: ClassVar[int] = 4
    caveat: ClassVar[str] = "sees the clean original of each image, which no deployed detector can"

    def fit(self, classifier, data):
        return {}

    def detector(self, classifier, state):
        return Distance(classifier)


class Distance(Detector):
    """To the originals it is bound to, of which there must be four."""

    paired = 4

    def __init__(self, classifier, originals=None):
        super().__init__(classifier)
        self.originals = nn.Buffer(originals)

    def bind(self, originals):
        return Distance(self.classifier, originals)

    def score(self, x):
        assert self.originals is not None
        assert len(x) == len(self.originals) == 4
        return (x - self.originals).flatten(1).norm(dim=1)


class Dice(Detector):
    """A fixed number for each draw."""

    stochastic = True

    def score(self, x):
        asked.append(self.draw)
        return x.flatten(1).mean(1) + self.draw


asked: list[int] = []


class Gambler(Cheat):
    """Scores at random."""

    name = "gambler"
    paired: ClassVar[int] = 0
    caveat: ClassVar[str] = ""

    def detector(self, classifier, state):
        return Dice(classifier)


class Picky(Cheat):
    """Wants a layer that may not be there."""

    name = "picky"
    paired: ClassVar[int] = 0
    caveat: ClassVar[str] = ""

    layer: str = ""
    """No layer: no classifier will do."""

    def mismatch(self, classifier):
        if self.layer and self.layer not in classifier.layers():
            raise UsageError(f"picky: no layer {self.layer!r}")
        return "" if self.layer else "picky needs a classifier with recurrent layers"

    def detector(self, classifier, state):
        return Direction(classifier, torch.ones(1))


def plugin():
    """All of them."""
    return SimpleNamespace(nfbench_defenses=lambda: [Apprentice, Cheat, Gambler, Picky])
