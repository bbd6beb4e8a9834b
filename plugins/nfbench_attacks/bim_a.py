"""BIM-a: BIM that leaves each image at its first success. Our own loop, since no library stops early."""

from typing import ClassVar

import torch
from torch import Tensor

from nfbench import OBJECTIVES, Attack, Budget, Count, Draws, Images, Mask, Objective, Positive
from nfbench_attacks.gamma import over_gamma, unweighted
from nfbench_attacks.random_search import wrong


class BIMa(Attack):
    """Signed steps; the first misclassified iterate, or the last. Feinman et al. (2017).

    Where the detector is known, an image is left once its score is below the clean median; but the
    paper's weighted sum asks for nothing beyond misclassification, and leaves it there. The weight of
    a weighted sum is searched image by image.
    """

    name = "bim-a"
    paper = "https://arxiv.org/abs/1703.00410"
    norm = "linf"
    rests = True
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "orthogonal", "matching")

    steps: Count = 50
    step: Positive = 0.01
    """Step in pixel units of [0, 1]; papers: 0.01 on MNIST, 0.005 on CIFAR-10."""

    @property
    def passes(self) -> int:
        return self.steps

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        return over_gamma(objective, lambda weighed: self._climb(weighed, x, budget))

    def _climb(self, objective: Objective, x: Images, budget: Budget) -> Images:
        x_adv = x.clone()
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            gradient, settled = _look(objective, x_adv[rows], rows)
            rows = rows[~settled]
            if not len(rows):
                return x_adv
            moved = x_adv[rows] + self.step * gradient[~settled].sign()
            x_adv[rows] = budget.project(x[rows], moved)
        if objective.knows_detector:
            with torch.no_grad():
                objective.query(x_adv[rows], rows)
        return x_adv


def _look(objective: Objective, x: Images, rows: Tensor) -> tuple[Tensor, Mask]:
    """The gradient at each candidate, and whether it may be left. (R, C, H, W), (R,)"""
    if not isinstance(objective, OBJECTIVES["paper"]) and not unweighted(objective):
        step = objective.step(x, rows)
        return step.gradient, objective.settled(step, rows)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        seen = objective.query(x, rows)
        gradient = torch.autograd.grad(objective.value(seen, rows).sum(), x)[0]
    return gradient, wrong(objective, seen.logits, rows)
