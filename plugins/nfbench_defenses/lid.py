"""LID: how many dimensions an image's neighbourhood seems to have, layer by layer.

Ma et al. (2018), https://arxiv.org/abs/1801.02613, and their released code.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge
from pydantic import model_validator
from torch import Tensor

from nfbench import (
    Classifier,
    Defense,
    Detector,
    FitData,
    Images,
    Logits,
    Observation,
    Scores,
    Split,
    UsageError,
    minibatches,
    seed_of,
)
from nfbench_defenses.lid_layers import Profile, require_layers
from nfbench_defenses.logistic import LogOdds, Rows, fit_logistic, taught_by
from nfbench_defenses.names import Layers


class LID(Defense):
    """Neighbourhoods of another intrinsic dimensionality than clean images have are suspicious."""

    name = "lid"
    paper = "https://arxiv.org/abs/1801.02613"

    learns_from: str = "fgsm"
    """Attack whose results on training images the regression sees."""
    k: Annotated[int, Ge(2)] = 20
    """Neighbours, fewer than `minibatch`. Paper and released code: 20."""
    minibatch: Annotated[int, Ge(3)] = 100
    """Images that an image is compared with. Paper and released code: 100."""
    layers: Layers | None = None
    """Names of the classifier's layers, `input` and `softmax`; None: all of them (released code)."""
    reference: Literal["disjoint", "paired"] = "disjoint"
    """Compare with training images drawn once, or, as paper and released code do, with the clean
    originals of the images scored together, so that each image meets its own."""
    rows: Rows = "all"
    """Attacked images that train the regression: all, or a `block` of whole hundreds (released code)."""
    skip_first: bool = True
    """Leave out the nearest neighbour, whatever it is (released code)."""

    @model_validator(mode="after")
    def _has_neighbours(self) -> Self:
        if self.k >= self.minibatch:
            raise ValueError(f"k = {self.k} neighbours need a minibatch of more than {self.k} images")
        return self

    @property
    def paired(self) -> int:
        return self.minibatch if self.reference == "paired" else 0

    @property
    def caveat(self) -> str:
        sees = "sees each image's own clean original, which no deployed detector can"
        return sees if self.paired else ""

    def mismatch(self, classifier: Classifier) -> str:
        require_layers(self.layers, classifier)
        return ""

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        require_layers(self.layers, classifier)
        examples = data.examples
        if examples is None or not len(examples.clean):
            raise UsageError(
                "lid learns from attacked images and got none: give it an attack to learn from"
            )
        examples = taught_by(self.name, examples, self.rows)
        state = {} if self.paired else {"reference": self._drawn(data.others)}
        fixed = None if self.paired else self.profile(classifier, state["reference"])
        kinds = (examples.adversarial, examples.clean.x, examples.noisy)
        rows = []
        with torch.no_grad():
            for window, new in minibatches(len(examples.clean), self.minibatch):
                profile = fixed or self.profile(classifier, examples.clean.x[window])
                rows.append([profile.look(x[window])[1][new:] for x in kinds])
        adversarial, clean, noisy = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return state | fit_logistic(self.name, adversarial, clean, noisy)

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _LIDDetector(self, classifier, LogOdds(state), state.get("reference"))

    def profile(self, classifier: Classifier, images: Images) -> Profile:
        """A reference batch at the wanted layers.

        Raises:
            UsageError: if it has too few images for k neighbours besides the nearest.
        """
        least = self.k + 1
        if len(images) < least:
            what, remedy = "training images that no example is made of", "lower --train-limit"
            if self.paired:
                what, remedy = "clean originals at once", "attack more images"
            raise UsageError(
                f"lid needs k + 1 = {least} {what}, got {len(images)}: {remedy} or lower lid.k"
            )
        return Profile(classifier, images, self.layers, self.k, skip_first=self.skip_first)

    def _drawn(self, others: Split) -> Images:
        generator = torch.Generator().manual_seed(seed_of("lid", self.secret))
        rows = torch.randperm(len(others), generator=generator)[: self.minibatch]
        return others.x[rows.to(others.x.device)]


class _LIDDetector(Detector):
    reference: Images | None

    def __init__(
        self, defense: LID, classifier: Classifier, odds: LogOdds, reference: Images | None
    ) -> None:
        super().__init__(classifier)
        self.defense, self.odds = defense, odds
        self.paired = defense.paired
        self.register_buffer("reference", reference)
        self._seen: tuple[torch.dtype, torch.device, Profile] | None = None

    def bind(self, originals: Images) -> Detector:
        if not self.paired:
            return self
        bound = _LIDDetector(self.defense, self.classifier, self.odds, originals)
        bound._profile(originals)  # too few are refused here
        return bound

    def score(self, x: Images) -> Scores:
        """Log-odds that x is adversarial."""
        score: Scores = self.odds(self.estimates(x))
        return score

    def observe(self, x: Images) -> Observation:
        logits, estimates = self._profile(x).look(x)
        return self._observation(logits, estimates)

    def inspect(self, x: Images) -> Observation:
        """As `observe`; features are the activations of all layers, see `Profile.open`."""
        logits, estimates, activations = self._profile(x).open(x)
        return self._observation(logits, estimates)._replace(features=activations)

    def features(self, x: Images) -> Tensor | None:
        return self.inspect(x).features

    def estimates(self, x: Images) -> Tensor:
        """LID at each layer, in order of execution. (B, L)"""
        return self._profile(x).look(x)[1]

    def _observation(self, logits: Logits, estimates: Tensor) -> Observation:
        score = self.odds(estimates)
        return Observation(logits, score, score[:, None].expand_as(logits))

    def _profile(self, x: Images) -> Profile:
        """The reference batch as the classifier sees it; computed where the images are, once."""
        if self.reference is None:
            raise UsageError(
                "lid with reference = 'paired' scores images beside their clean originals only: "
                "score with detector.bind(originals)"
            )
        if self._seen is None or self._seen[:2] != (x.dtype, x.device):
            profile = self.defense.profile(self.classifier, self.reference.to(x))
            self._seen = (x.dtype, x.device, profile)
        return self._seen[2]
