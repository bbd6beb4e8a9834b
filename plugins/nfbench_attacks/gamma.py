"""Weighted sums: the largest weight of the detector at which an attack still fools the classifier."""

from collections.abc import Callable
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from nfbench import OBJECTIVES, Images, Mask, Objective, per_image
from nfbench_attacks.random_search import wrong

START = 0.1
"""The first weight tried; NeuralFP's released attacks begin there too."""
TRIALS = 6
"""Runs of an attack, one for each weight tried; Dathathri et al. (2018), appendix I."""


class _Weighed(Protocol):
    """What a weighted sum offers besides what every objective does."""

    bounds: ClassVar[tuple[float, float]]
    gamma: float | Tensor

    def with_gamma(self, gamma: Tensor) -> Objective: ...


def over_gamma(objective: Objective, run: Callable[[Objective], Images], steps: int = TRIALS) -> Images:
    """Each image at the largest gamma with which `run` fools the classifier; without one, its last try.

    Bisection image by image, with geometric means since gamma spans seven decades: a success raises
    the lower bound, a failure lowers the upper. An objective without a weight to search, or whose
    weight is the number 0, is run once. Each trial asks one query more, to see what came of it.
    """
    if not isinstance(objective, OBJECTIVES["lagrangian"]) or unweighted(objective):
        return run(objective.begin())
    weighed, x = cast("_Weighed", objective), objective.originals
    low, high = (x.new_full((len(x),), bound) for bound in weighed.bounds)
    gamma, result = x.new_full((len(x),), START), x
    ever = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(steps):
        found = run(weighed.with_gamma(gamma).begin())
        fooled = fools(objective, found)
        result = found.where(per_image(fooled | ~ever, x), result)
        ever |= fooled
        low, high = gamma.where(fooled, low), high.where(fooled, gamma)
        gamma = (low * high).sqrt()
    return result


def unweighted(objective: Objective) -> bool:
    """Whether it is a weighted sum whose weight is the number 0: there the detector has no say."""
    if not isinstance(objective, OBJECTIVES["lagrangian"]):
        return False
    gamma = cast("_Weighed", objective).gamma
    return not isinstance(gamma, Tensor) and gamma == 0


@torch.no_grad()
def fools(objective: Objective, x: Images) -> Mask:
    """Whether each image of the batch has a wrong class or the target, detected or not. (B,)"""
    logits = objective.query(x).logits
    return wrong(objective, logits, torch.arange(len(x), device=x.device))
