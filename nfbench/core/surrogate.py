"""Surrogates: the gradient of a stand-in behind the values of a detector that has none."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nfbench.core.defense import Detector, Observation
from nfbench.core.errors import ContractViolation
from nfbench.core.values import Images, Logits, Scores

StandIn: TypeAlias = Callable[[Images, Logits], Scores]
"""A differentiable score, (B, C, H, W) and (B, K) -> (B,), of images and the classifier's logits."""


class Straight(Detector):
    """A detector with the gradient of a stand-in: every value is the detector's own, bit for bit.

    Backward pass differentiable approximation of Athalye et al. (2018), arXiv:1802.00420. The gradient
    of score, penalties and losses is the stand-in's as it is, that of the logits the classifier's own:
    no scale is fitted, since a stand-in is asked to be in units of the score, a score that has steps
    leaves no slope to fit to, and the objectives that are run by default follow directions only.
    """

    def __init__(self, detector: Detector, stand_in: StandIn) -> None:
        super().__init__(detector.classifier)
        self.detector, self.stand_in = detector, stand_in
        self.rows_per_image = detector.rows_per_image + 1
        self.paired = detector.paired
        self._followable: bool | None = None

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # of what it wraps, not of its class
        return self.detector.stochastic

    def score(self, x: Images) -> Scores:
        score = self._drawn.score(x)
        if not _wanted(x):
            return score
        return _straight(score, self._slope(x, self.classifier(x)))

    def observe(self, x: Images) -> Observation:
        return self._straightened(self._drawn.observe(x), x)

    def inspect(self, x: Images) -> Observation:
        """As the detector's; features that have no gradient are left out for the logits."""
        seen = self._drawn.inspect(x)
        if not self._features_can_be_followed(x):
            seen = seen._replace(features=seen.logits)
        return self._straightened(seen, x)

    def bind(self, originals: Images) -> "Straight":
        return Straight(self.detector.bind(originals), self.stand_in)

    def features(self, x: Images) -> Tensor | None:
        return self._drawn.features(x) if self._features_can_be_followed(x) else None

    @property
    def _drawn(self) -> Detector:
        self.detector.draw = self.draw
        return self.detector

    def _straightened(self, seen: Observation, x: Images) -> Observation:
        if not _wanted(x):
            return seen
        slope = self._slope(x, seen.logits)
        score, penalties, losses = (
            None if values is None else _straight(values, slope)
            for values in (seen.score, seen.penalties, seen.losses)
        )
        return seen._replace(score=score, penalties=penalties, losses=losses)

    def _slope(self, x: Images, logits: Logits) -> Scores:
        slope = self.stand_in(x, logits)
        if slope.shape != (len(x),):
            raise ContractViolation(
                f"a surrogate must return one number an image, ({len(x)},); got {tuple(slope.shape)}"
            )
        return slope

    def _features_can_be_followed(self, x: Images) -> bool:
        """Tried once, on one image: the answer must not depend on whether a gradient is wanted."""
        if self._followable is None:
            with torch.enable_grad():
                features = self._drawn.inspect(x[:1].detach().requires_grad_()).features
            self._followable = features is not None and features.requires_grad
        return self._followable


def declared(detector: Detector) -> StandIn:
    """The surrogate that a detector declares."""

    def stand_in(x: Images, _logits: Logits) -> Scores:
        found = detector.surrogate(x)
        if found is None:
            raise ContractViolation(
                f"{type(detector).__name__}.surrogate returns None, though its defense declares "
                "gradient = 'surrogate'"
            )
        return found

    return stand_in


def _wanted(x: Images) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _straight(values: Tensor, slope: Scores) -> Tensor:
    """`values`, (B,) or (B, K), with the gradient of `slope`, (B,), in each entry."""
    wide = slope.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    out: Tensor = _Straight.apply(values.detach(), wide)
    return out


class _Straight(torch.autograd.Function):
    """Forward the first argument, backward to the second."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor) -> Tensor:
        ctx.kind = slope.dtype
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0].to(ctx.kind)
