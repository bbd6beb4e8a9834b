"""A detector that is just a function, with or without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Gradient
from nfbench.core.errors import UsageError
from nfbench.core.values import Images, Scores

PROBED = 16
"""Images on which a gradient is looked for."""
NOISE = 0.3


@dataclass(frozen=True)
class Scoring:
    """A score, (B, C, H, W) -> (B,), and what to follow in its place if anything."""

    function: Callable[[Images], Scores]
    surrogate: Callable[[Images], Scores] | None = None

    def __call__(self, x: Images) -> Scores:
        found = self.function(x)
        if not isinstance(found, Tensor):
            raise UsageError(f"score_fn must return a torch tensor, (B,); got {type(found).__name__}")
        return found

    def gradient(self, x: Images) -> Gradient:
        """Whose gradient there is, tried on some clean images and on these with noise."""
        if self.surrogate is not None:
            return "surrogate"
        generator = torch.Generator().manual_seed(0)
        x = x[:PROBED]
        noise = NOISE * (2 * torch.rand(x.shape, generator=generator) - 1).to(x)
        leaf = torch.cat([x, (x + noise).clamp(0, 1)]).requires_grad_()
        with torch.enable_grad():
            try:
                gradient = torch.autograd.grad(self(leaf).sum(), leaf)[0]
            except RuntimeError:  # it is cut off from the image, or goes through NumPy
                return "none"
        return "exact" if gradient.any() else "none"


class Function(Detector):
    """A detector made of a `Scoring`."""

    def __init__(self, classifier: Classifier, scoring: Scoring, gradient: Gradient) -> None:
        super().__init__(classifier)
        self.scoring, self.gradient = scoring, gradient

    def score(self, x: Images) -> Scores:
        return self.scoring(x if self.gradient == "exact" else x.detach())

    def surrogate(self, x: Images) -> Scores | None:
        return None if self.scoring.surrogate is None else self.scoring.surrogate(x)
