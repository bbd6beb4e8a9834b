"""SPSA: gradient-free, from paired queries. Our own: ART has none, Foolbox's couples the batch."""

from typing import ClassVar

import torch
from torch import Tensor

from nfbench import Access, Attack, Budget, Count, Draws, Images, Objective, Positive

PROBES = {"cpu": 256, "cuda": 4096}
"""Probes queried at once; on a CPU the activations of more no longer fit its caches."""


class SPSA(Attack):
    """Adam on a simultaneous-perturbation estimate of the gradient. Uesato et al. (2018).

    The estimate is the mean of (J(x + ds) - J(x - ds)) / 2 * s over random sign vectors s, as in the
    released code; the textbook's 1 / d makes no difference to Adam.
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

    @torch.no_grad()
    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        noise = 2 * draws.uniform("start", x) - 1
        x_adv = budget.project(x, x + budget.eps * noise).requires_grad_()
        optimizer = torch.optim.Adam([x_adv], lr=self.learning_rate, maximize=True)
        for _ in range(self.steps):
            x_adv.grad = self.estimate(objective, x_adv.detach(), draws)
            optimizer.step()
            x_adv.copy_(budget.project(x, x_adv))
            if objective.knows_detector:
                objective.query(x_adv.detach())
        return x_adv.detach()

    def estimate(self, objective: Objective, x: Images, draws: Draws) -> Tensor:
        """Estimate of the objective's gradient, up to scale; like `x`."""
        pairs = max(1, self.samples // 2)
        chunk = max(1, PROBES.get(x.device.type, PROBES["cpu"]) // (2 * pairs))
        parts = []
        for rows in torch.arange(len(x), device=x.device).split(chunk):
            signs = draws.select(rows).signs("probe", pairs, x)  # (R, P, C, H, W)
            step = self.delta * signs
            probes = torch.cat([x[rows][:, None] + step, x[rows][:, None] - step], 1)
            owners = rows.repeat_interleave(2 * pairs)
            values = objective.loss(probes.flatten(0, 1), owners, record=False)
            up, down = values.view(len(rows), 2, pairs).unbind(1)
            slope = (up - down) / 2
            parts.append((slope.view(*slope.shape, 1, 1, 1) * signs).mean(1))
        return torch.cat(parts)
