"""FMN: the smallest perturbation that evades, within a ball that shrinks where the attack succeeds."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from nfbench import Attack, Budget, Count, Draws, Fraction, Images, Norm, Objective, Positive, per_image
from nfbench_attacks.climbing import norm2
from nfbench_attacks.probing import guide

LAST_STEP, LAST_CHANGE = 1e-2, 1e-4
"""Of the first step, and of a radius: what the cosines end at."""
TINY = 1e-12
GUIDED = "from a guide"
"""Stage of the second run, which begins where it need not search."""


class FMN(Attack):
    """Smallest L2 perturbation that evades, in few passes. Pintor et al. (2021).

    Each step goes up the gradient and is projected onto a ball of the image's own. Its radius falls
    by a few per cent where the image evades, to no more than the nearest success; it grows where the
    image does not evade, before the first success at least to where the tangent plane says that the
    border lies. To evade is to be misclassified and, where the detector is known, accepted; there a
    second run begins at the nearest guide. Returns the nearest such point, or `x` if none lies in the
    ball.
    """

    name = "fmn"
    paper = "https://arxiv.org/abs/2102.12827"
    norm: ClassVar[Norm] = "l2"
    minimises = True
    static_objective = "margin"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "selective")

    steps: Count = 200
    step: Positive = 0.1
    """L2 length of the first step, in pixel units of [0, 1]."""
    change: Fraction = 0.05
    """Share by which a radius changes at the first step."""

    @property
    def passes(self) -> int:
        return 2 * (self.steps + 1)

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        best, nearest = x.clone(), x.new_full((len(x),), torch.inf)
        self._run(objective.begin(), x, x, budget, best, nearest)
        elsewhere = guide(objective, x, 0, objective.targets) if objective.knows_detector else None
        if elsewhere is not None:
            objective.stage(GUIDED)
            self._run(objective.begin(), x, elsewhere, budget, best, nearest)
        return best

    def _run(  # noqa: PLR0917  # from where, and what is known so far
        self,
        objective: Objective,
        x: Images,
        start: Images,
        budget: Budget,
        best: Images,
        nearest: Tensor,
    ) -> None:
        """From `start`; `best` and `nearest` are kept up to date."""
        objective.prepare()
        at, radius = budget.project(x, start), torch.full_like(nearest, torch.inf)
        rows = torch.arange(len(x), device=x.device)
        for k in range(self.steps + 1):
            if self.rests:
                rows = rows[~objective.finished[rows]]
            if not len(rows):
                return
            here = at[rows]
            gradient, margin = objective.step(here, rows)
            size = budget.size(x[rows], here).to(x)
            hit = margin > 0
            nearer = hit & (size < nearest[rows]) & budget.contains(x[rows], here)
            best[rows[nearer]], nearest[rows[nearer]] = here[nearer], size[nearer]
            if k == self.steps:
                return
            wave = (1 + math.cos(math.pi * k / self.steps)) / 2
            change = LAST_CHANGE + (self.change - LAST_CHANGE) * wave
            gradient = gradient.where(gradient.isfinite(), 0)
            larger = radius[rows] * (1 + change)
            border = size + margin.abs() / self._slope(gradient)
            estimate = torch.maximum(larger.where(larger.isfinite(), 0), border)
            larger = larger.where(nearest[rows].isfinite(), estimate)
            smaller = torch.minimum(radius[rows] * (1 - change), nearest[rows])
            radius[rows] = smaller.where(hit, larger)
            length = self.step * (LAST_STEP + (1 - LAST_STEP) * wave)
            moved = here + length * gradient / per_image(norm2(gradient), x)
            at[rows] = self._within(x[rows], moved, radius[rows], budget)

    def _slope(self, gradient: Tensor) -> Tensor:
        """How much a step of size 1 can gain, never 0. (R,)"""
        return norm2(gradient)

    def _within(self, x: Images, x_adv: Images, radius: Tensor, budget: Budget) -> Images:
        """The points drawn into each image's own ball, the budget and the box."""
        delta = x_adv - x
        delta = delta * per_image((radius / norm2(delta)).clamp_max(1), x)
        return budget.project(x, x + delta)


class FMNLinf(FMN):
    """Smallest Linf perturbation that evades. Pintor et al. (2021)."""

    name = "fmn-linf"
    norm = "linf"

    def _slope(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(1).abs().sum(1).clamp_min(TINY)

    def _within(self, x: Images, x_adv: Images, radius: Tensor, budget: Budget) -> Images:
        bound = per_image(radius, x)
        return budget.project(x, x + (x_adv - x).clamp(-bound, bound))
