"""A defense on trial: what it is tried on, and what it made of it, each computed once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nfbench.core.defense import Defense, Detector
from nfbench.testing.checks import expect, kind
from nfbench.testing.fixtures import fit_data, linear_classifier, linear_images

IMAGES = 48


class Trial:
    """A defense, the classifier and data it is fitted to, its state, detector and scores."""

    def __init__(self, defense: Defense) -> None:
        given = defense.secret is not None
        self.defense = defense if given else defense.model_copy(update={"secret": 0})
        self.classifier = linear_classifier()
        self.data = fit_data(supervised=defense.learns_from is not None)
        self.x = linear_images(IMAGES, seed=4).x

    @cached_property
    def state(self) -> Any:
        torch.manual_seed(0)  # as jobs do
        return self.defense.fit(self.classifier, self.data)

    @cached_property
    def detector(self) -> Detector:
        detector = self.defense.detector(self.classifier, dict(self.state))
        expect(isinstance(detector, Detector), f"detector must return a Detector, got {kind(detector)}")
        return self.beside_originals(detector.eval().requires_grad_(False))

    def beside_originals(self, detector: Detector) -> Detector:
        """A paired detector with `x` as the originals of `x`; any other as it is."""
        return detector.bind(self.x).eval() if detector.paired else detector

    @cached_property
    def scores(self) -> Tensor:
        with torch.no_grad():
            return self.detector.score(self.x)
