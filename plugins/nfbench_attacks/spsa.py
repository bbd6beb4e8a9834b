"""SPSA: gradient-free, from paired queries. Our own: ART has none, Foolbox's couples the batch."""

from typing import ClassVar

import torch
from torch import Tensor

from nfbench import (
    OBJECTIVES,
    Access,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    Objective,
    Positive,
    per_image,
)
from nfbench_attacks.gamma import TRIALS, over_gamma
from nfbench_attacks.random_search import PROBES, allowance


class SPSA(Attack):
    """Adam on a simultaneous-perturbation estimate of the gradient. Uesato et al. (2018).

    The estimate is the mean of (J(x + ds) - J(x - ds)) / 2 * s over random sign vectors s, as in the
    released code; the textbook's 1 / d makes no difference to Adam. Of a weighted sum the weight is
    searched image by image, an ascent for each trial.
    """

    name = "spsa"
    paper = "https://arxiv.org/abs/1802.05666"
    norm = "linf"
    needs = Access.SCORES
    static_objective = "margin"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin",)

    steps: Count = 100
    samples: Count = 128
    """Queries a step and image, in mirrored pairs."""
    delta: Positive = 0.01
    """Size of a probe, in [0, 1]."""
    learning_rate: Positive = 0.01

    @property
    def passes(self) -> int:
        return self.steps * self.samples

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        left = objective.queries_left()
        too_few = left is not None and left < TRIALS  # not even one to judge each trial by
        if too_few or not isinstance(objective, OBJECTIVES["lagrangian"]):
            return self.climb(objective, x, budget, draws)
        runs = iter(range(TRIALS, 0, -1))

        def run(weighed: Objective) -> Images:
            return self.climb(weighed, x, budget, draws, runs=next(runs, 1))

        return over_gamma(objective, run)

    @torch.no_grad()
    def climb(
        self, objective: Objective, x: Images, budget: Budget, draws: Draws, *, runs: int = 1
    ) -> Images:
        """One ascent. An image stops where it cannot pay for a step; `runs` share what it has left."""
        objective = objective.begin()
        price = 2 * self.pairs + objective.knows_detector
        # One query of each run is whoever's who wants to know what came of it.
        paid = (allowance(objective, runs * (self.steps * price + 1)) // runs - 1) // price
        noise = 2 * draws.uniform("start", x) - 1
        x_adv = budget.project(x, x + budget.eps * noise).requires_grad_()
        optimizer = torch.optim.Adam([x_adv], lr=self.learning_rate, maximize=True)
        for done in range(self.steps):
            going = paid > done
            rows = going.nonzero()[:, 0]
            if not len(rows):
                break
            x_adv.grad = torch.zeros_like(x)
            x_adv.grad[rows] = self.estimate(objective, x_adv.detach(), draws, rows)
            before = x_adv.detach().clone()
            optimizer.step()
            x_adv.copy_(budget.project(x, x_adv).where(per_image(going, x), before))
            if objective.knows_detector:
                objective.query(x_adv.detach()[rows], rows)
        return x_adv.detach()

    @property
    def pairs(self) -> int:
        """Mirrored pairs of probes in an estimate."""
        return max(1, self.samples // 2)

    def estimate(
        self, objective: Objective, x: Images, draws: Draws, rows: Tensor | None = None
    ) -> Tensor:
        """Estimate of the objective's gradient, up to scale, at some rows of `x` or all. (R, ...)"""
        pairs = self.pairs
        everyone = torch.arange(len(x), device=x.device) if rows is None else rows
        chunk = max(1, PROBES.get(x.device.type, PROBES["cpu"]) // (2 * pairs))
        parts = []
        for part in everyone.split(chunk):
            signs = draws.select(part).signs("probe", pairs, x)  # (R, P, C, H, W)
            step = self.delta * signs
            probes = torch.cat([x[part][:, None] + step, x[part][:, None] - step], 1)
            owners = part.repeat_interleave(2 * pairs)
            values = objective.loss(probes.flatten(0, 1), owners, record=False)
            up, down = values.view(len(part), 2, pairs).unbind(1)
            slope = (up - down) / 2
            parts.append((slope.view(*slope.shape, 1, 1, 1) * signs).mean(1))
        return torch.cat(parts)
