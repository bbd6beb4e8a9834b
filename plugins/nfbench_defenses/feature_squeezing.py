"""Feature squeezing: how much a prediction changes when an image loses detail.

Xu et al. (2018), https://arxiv.org/abs/1704.01155.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Self

import torch
from annotated_types import Ge, Le
from pydantic import field_validator, model_validator
from torch import Tensor

from nfbench import Classifier, Defense, Detector, FitData, Images, Observation, Scores
from nfbench_defenses.squeezers import Squeezer, median, non_local_means, reduce_depth

TINY = 1e-30
"""Probability below which changes are not told apart; far inside what float32 can hold."""


class FeatureSqueezing(Defense):
    """A prediction that changes when the image loses detail is suspicious.

    The paper's best sets are 1 bit and a 2 x 2 median for MNIST, and 5 bits, a 2 x 2 median and
    non-local means 11-3-4 for CIFAR-10 and ImageNet.
    """

    name = "feature-squeezing"
    paper = "https://arxiv.org/abs/1704.01155"

    bits: Annotated[int, Ge(1), Le(16)] | None = 5
    """Bits a pixel is rounded to; None: no such squeezer. 1 bit makes photographs unrecognisable."""
    median: Annotated[int, Ge(2)] | None = 2
    """Side of the window of a median filter; None: no such squeezer."""
    non_local: tuple[int, int, float] | None = None
    """Search window, patch and strength (for pixels from 0 to 255) of non-local means; None: no such
    squeezer."""

    @field_validator("non_local")
    @classmethod
    def _is_centred(cls, given: tuple[int, int, float] | None) -> tuple[int, int, float] | None:
        if given is not None:
            search, patch, strength = given
            if search < 3 or patch < 1 or search % 2 == 0 or patch % 2 == 0 or strength <= 0:
                raise ValueError("expected an odd search window from 3, an odd patch, strength above 0")
        return given

    @model_validator(mode="after")
    def _squeezes(self) -> Self:
        if not self.squeezers:
            raise ValueError("at least one squeezer is needed; give bits, median or non_local")
        return self

    @property
    def squeezers(self) -> list[Squeezer]:
        """What images are passed through, each alone."""
        chosen: list[Squeezer] = []
        if self.bits is not None:
            chosen.append(partial(reduce_depth, bits=self.bits))
        if self.median is not None:
            chosen.append(partial(median, window=self.median))
        if self.non_local is not None:
            search, patch, strength = self.non_local
            chosen.append(partial(non_local_means, search=search, patch=patch, strength=strength))
        return chosen

    @property
    def rows_per_image(self) -> int:
        return 1 + len(self.squeezers)

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        return {}

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _SqueezingDetector(classifier, self.squeezers)


class _SqueezingDetector(Detector):
    def __init__(self, classifier: Classifier, squeezers: Sequence[Squeezer]) -> None:
        super().__init__(classifier)
        self.squeezers = squeezers
        self.rows_per_image = 1 + len(squeezers)

    def score(self, x: Images) -> Scores:
        """Log-odds of half the paper's score: of d / 2, d the largest L1 distance, in [0, 2].

        Orders images as d does, where float32 can tell their d apart, and goes on doing so near 0
        and 2, where d and its gradient are lost to rounding because the classifier is very sure.
        """
        score = self.observe(x).score
        assert score is not None
        return score

    def observe(self, x: Images) -> Observation:
        return self.inspect(x)._replace(features=None)

    def inspect(self, x: Images) -> Observation:
        """As `observe`; features are the probabilities that are compared. (B, (S + 1) K)"""
        logits = self._stacked(x)
        probabilities = logits.softmax(2)
        score = change(probabilities[:1], probabilities[1:]).amax(0)
        features = probabilities.transpose(0, 1).flatten(1)
        return Observation(logits[0], score, score[:, None].expand_as(logits[0]), features=features)

    def features(self, x: Images) -> Tensor | None:
        return self.inspect(x).features

    def _stacked(self, x: Images) -> Tensor:
        """Logits of the images and of each squeezed version, in one batch. (S + 1, B, K)"""
        rows = torch.cat([x, *(squeeze(x) for squeeze in self.squeezers)])
        logits: Tensor = self.classifier(rows)
        return logits.view(-1, *x.shape[:1], logits.shape[1])


def change(before: Tensor, after: Tensor) -> Tensor:
    """Log-odds of the total variation distance of two distributions, half their L1 distance.

    (..., K) x 2 -> (...)
    """
    # Half of L1 is what one side gains, or what the other does. The likeliest class is left out: its
    # probability, near 1, is rounded more coarsely than all the others together may change.
    gains = (after - before).scatter(-1, before.argmax(-1, keepdim=True).expand_as(after[..., :1]), 0)
    moved = torch.maximum(gains.relu().sum(-1), (-gains).relu().sum(-1))
    shared = torch.minimum(before, after).sum(-1)
    return (moved + TINY).log() - (shared + TINY).log()
