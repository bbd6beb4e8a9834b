"""JSMA in batches, equal image by image to ART's attack on a softmax output and several times faster."""

import torch
from torch import Tensor

from nfbench import Attack, Budget, Draws, Images, Objective
from nfbench_attacks.targets import Target, aim


class JSMA(Attack):
    """Raises the most salient pair of pixels to 1 until the target class wins. Papernot et al. (2016).

    On a softmax output the pairwise saliency -(a_p + a_q)(b_p + b_q) has b = -a, so the best pair are
    the two pixels of largest gradient of the target's probability; that of its logarithm orders them
    alike and does not underflow. The budget is the number of changed pixels, two a step. Where the
    detector is known the gradient is the objective's, and images are left below the clean median.
    """

    name = "jsma"
    paper = "https://arxiv.org/abs/1511.07528"
    norm = "l0"
    rests = True

    target: Target = "auto"

    @property
    def passes(self) -> int:
        return 40

    @staticmethod
    def pairs(budget: Budget, x: Images) -> int:
        """Most pairs that may be raised: half of the budget, or of all pixels."""
        return int(min(budget.eps, x[0].numel())) // 2

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        aimed = aim(objective, x, draws, self.target)
        x_adv = x.clone()
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.pairs(budget, x)):
            step = aimed.step(x_adv[rows], rows)
            free = (x_adv[rows] < 1).flatten(1)
            going = ~aimed.settled(step, rows) & (free.sum(1) >= 2)
            rows = rows[going]
            if not len(rows):
                return x_adv
            x_adv[rows] = _raise_pair(x_adv[rows], step.gradient[going], free[going])
        if objective.knows_detector:
            with torch.no_grad():
                aimed.query(x_adv[rows], rows)
        return x_adv


def _raise_pair(x: Images, gradient: Tensor, free: Tensor) -> Images:
    """The two free pixels of largest gradient, set to 1."""
    salience = gradient.flatten(1).masked_fill(~free, -torch.inf)
    pair = salience.topk(2, dim=1).indices  # (R, 2)
    return x.flatten(1).scatter(1, pair, 1.0).view_as(x)
