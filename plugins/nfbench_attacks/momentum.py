"""Attacks that are to carry over: momentum, and gradients at slightly changed images."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from nfbench import Attack, Budget, Count, Draws, Fraction, Images, NonNegative, Norm, Objective
from nfbench_attacks.climbing import direction, length, likeliest

LOOK = 10
"""Steps between two looks at the unchanged image."""


class MomentumDiverse(Attack):
    """Signed steps along an accumulated gradient, at images zoomed and shifted at random.

    Momentum of Dong et al. (2018), arXiv:1710.06081; input diversity of Xie et al. (2019).
    """

    name = "mi-di-fgsm"
    paper = "https://arxiv.org/abs/1803.06978"
    norm: ClassVar[Norm] = "linf"
    leaves_choice = True

    steps: Count = 100
    targets: Annotated[int, Ge(0)] = 3
    """Wrong classes aimed at one after the other where a detector is known."""
    decay: NonNegative = 1.0
    """What is left of the accumulated gradient after a step."""
    probability: Fraction = 0.7
    """How often a step is taken at a changed image."""

    @property
    def passes(self) -> int:
        return self.steps * max(1, self.targets)

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        return transfer(
            objective,
            x,
            budget,
            draws,
            steps=self.steps,
            targets=self.targets,
            decay=self.decay,
            probability=self.probability,
        )


class MomentumDiverseL2(MomentumDiverse):
    """The same in an L2 ball."""

    name = "mi-di-l2"
    norm = "l2"


def transfer(  # noqa: PLR0913  # the last four have defaults
    objective: Objective,
    x: Images,
    budget: Budget,
    draws: Draws,
    *,
    steps: int,
    targets: int,
    decay: float = 1.0,
    probability: float = 0.7,
    told: str = "",
) -> Images:
    """Where a detector is known one climb for each likely class, else a single untargeted one.

    `told` is the name of what is climbed where that is worth telling.
    """
    objective.stage(f"{told}, momentum" if told else "momentum, diverse inputs")
    if not objective.knows_detector or not targets:
        return _climb(objective, x, budget, draws, steps, decay, probability)
    x_adv = x
    for target in likeliest(objective, x, targets):
        x_adv = _climb(objective.towards(target), x, budget, draws, steps, decay, probability)
    return x_adv


def _climb(  # noqa: PLR0913, PLR0917  # one call from above
    objective: Objective,
    x: Images,
    budget: Budget,
    draws: Draws,
    steps: int,
    decay: float,
    probability: float,
) -> Images:
    objective, x_adv, gathered = objective.begin(), x, torch.zeros_like(x)
    for k in range(steps):
        gradient = _diverse_gradient(objective, x_adv, draws, probability)
        size = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
        gathered = decay * gathered + gradient / size.view(-1, *[1] * (x.dim() - 1))
        x_adv = budget.project(x, x_adv + length(k, steps, budget.eps) * direction(gathered, budget))
        if objective.knows_detector and k % LOOK == LOOK - 1:
            with torch.no_grad():
                objective.query(x_adv)
    if objective.knows_detector:
        with torch.no_grad():
            objective.query(x_adv)
    return x_adv


def _diverse_gradient(objective: Objective, x: Images, draws: Draws, probability: float) -> Tensor:
    """The objective's gradient at the changed image, brought back to the image."""
    start = x.detach().requires_grad_()
    with torch.enable_grad():
        changed = _changed(start, draws, probability)
        (gradient,) = torch.autograd.grad(changed, start, objective.gradient(changed.detach()))
    return gradient.where(gradient.isfinite(), 0)


def _changed(x: Images, draws: Draws, probability: float) -> Images:
    """Each image zoomed by up to a tenth and shifted by up to a twentieth of its width, or as it is."""
    drawn = draws.uniform("diversity", x.detach().flatten(1)[:, :4].contiguous())  # (B, 4)
    happens = drawn[:, 3] < probability
    zoom = (1 + 0.1 * (2 * drawn[:, 0] - 1)).where(happens, 1.0)
    shift = (0.1 * (2 * drawn[:, 1:3] - 1)).where(happens[:, None], 0.0)
    theta = torch.zeros(len(x), 2, 3, dtype=x.dtype, device=x.device)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved: Images = F.grid_sample(x, grid, align_corners=False).clamp(0, 1)
    return moved.where(happens.view(-1, *[1] * (x.dim() - 1)), x)
