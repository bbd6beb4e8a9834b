"""BIM-a: BIM that leaves each image at its first success. Our own loop, since no library stops early."""

from typing import ClassVar

import torch

from nfbench import Attack, Budget, Count, Draws, Images, Objective, Positive


class BIMa(Attack):
    """Signed steps; the first misclassified iterate, or the last. Feinman et al. (2017).

    Where the detector is known, an image is left once its score is below the clean median.
    """

    name = "bim-a"
    paper = "https://arxiv.org/abs/1703.00410"
    norm = "linf"
    rests = True
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "selective", "orthogonal")

    steps: Count = 50
    step: Positive = 0.01
    """Step in pixel units of [0, 1]; papers: 0.01 on MNIST, 0.005 on CIFAR-10."""

    @property
    def passes(self) -> int:
        return self.steps

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        x_adv = x.clone()
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            step = objective.step(x_adv[rows], rows)
            going = ~objective.settled(step, rows)
            rows = rows[going]
            if not len(rows):
                return x_adv
            moved = x_adv[rows] + self.step * step.gradient[going].sign()
            x_adv[rows] = budget.project(x[rows], moved)
        if objective.knows_detector:
            with torch.no_grad():
                objective.query(x_adv[rows], rows)
        return x_adv
