"""FGSM, BIM-b and PGD: Foolbox steps and projects, the objective supplies the gradient."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import eagerpy as ep
import foolbox
import torch
from foolbox.attacks import (
    L2ProjectedGradientDescentAttack,
    LinfBasicIterativeAttack,
    LinfFastGradientAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.attacks.gradient_descent_base import BaseGradientDescent

from nfbench import Attack, Budget, Count, Draws, Images, Norm, Objective, Positive, per_image


class FGSM(Attack):
    """One signed step. Goodfellow et al. (2015)."""

    name = "fgsm"
    paper = "https://arxiv.org/abs/1412.6572"
    norm = "linf"
    adaptive_objectives = ("lagrangian",)

    @property
    def passes(self) -> int:
        return 10

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        x_adv = x
        for variant in objective.variants():
            x_adv = _run(LinfFastGradientAttack(), variant, x, budget)
            if objective.knows_detector:
                variant.query(x_adv)  # the recorder keeps each image's best
        return x_adv


class BIMb(Attack):
    """Signed steps from the image itself; the last iterate. Kurakin et al. (2017)."""

    name = "bim-b"
    paper = "https://arxiv.org/abs/1607.02533"
    norm = "linf"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "selective", "orthogonal")

    steps: Count = 50
    step: Positive = 0.01
    """Step in pixel units of [0, 1]; papers: 0.01 on MNIST, 0.005 on CIFAR-10."""

    @property
    def passes(self) -> int:
        return self.steps

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        attack = LinfBasicIterativeAttack(abs_stepsize=self.step, steps=self.steps, random_start=False)
        return _finish(_run(attack, objective, x, budget), objective)


class PGD(Attack):
    """Signed steps from random points of the ball. Madry et al. (2018)."""

    name = "pgd"
    paper = "https://arxiv.org/abs/1706.06083"
    norm: ClassVar[Norm] = "linf"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "selective", "orthogonal")
    library: ClassVar[type[BaseGradientDescent]] = LinfProjectedGradientDescentAttack

    steps: Count = 100
    step: Positive = 0.5
    """First step as a fraction of eps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Steps shrink along half a cosine to a hundredth of the first, or stay as they are."""
    restarts: Count = 1
    """Random starts; the first that succeeds is returned."""

    @property
    def passes(self) -> int:
        return self.steps * self.restarts

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        result = self._once(objective, x, budget, draws)
        for _ in range(self.restarts - 1):
            with torch.no_grad():
                failed = objective.margin(result) <= 0
            result = self._once(objective, x, budget, draws).where(per_image(failed, x), result)
        return result

    def _once(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        attack = self.library(rel_stepsize=self.step, steps=self.steps, random_start=True)
        start = ep.astensor(self.start(x, budget, draws))
        if self.schedule == "cosine":
            attack.get_optimizer = lambda _, stepsize: _Cosine(stepsize, self.steps)
        # Foolbox would draw for the whole batch from torch's global stream.
        attack.get_random_start = lambda *_: start
        return _finish(_run(attack, objective, x, budget), objective)

    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        """A point drawn uniformly from the ball, for each image its own stream."""
        return x + budget.eps * (2 * draws.uniform("start", x) - 1)


class PGDL2(PGD):
    """Normalised gradient steps in an L2 ball. Madry et al. (2018)."""

    name = "pgd-l2"
    norm = "l2"
    library: ClassVar[type[BaseGradientDescent]] = L2ProjectedGradientDescentAttack

    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        noise = draws.normal("start", x)
        radius = draws.uniform("radius", x[:, :1, :1, :1]) ** (1 / x[0].numel())
        length = per_image(noise.flatten(1).square().sum(1).sqrt(), x)
        return x + budget.eps * radius * noise / length


class _Cosine:
    """Foolbox's optimiser seam: gradients scaled by a step that shrinks along half a cosine."""

    def __init__(self, first: float, steps: int) -> None:
        self.first, self.steps, self.done = first, steps, 0

    def __call__(self, gradient: ep.Tensor) -> ep.Tensor:
        wave = (1 + math.cos(math.pi * self.done / self.steps)) / 2
        self.done += 1
        return self.first * (0.99 * wave + 0.01) * gradient


def _run(attack: BaseGradientDescent, objective: Objective, x: Images, budget: Budget) -> Images:
    """Foolbox's loop, climbing the objective instead of a loss of its own."""

    def value_and_grad(_: Callable[[ep.Tensor], ep.Tensor], x: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        gradient = ep.astensor(objective.gradient(x.raw))
        return gradient, gradient  # the loop reads the gradient only

    attack.value_and_grad = value_and_grad
    nowhere = foolbox.PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1), device=x.device)
    x_adv: Images = attack.run(nowhere, x, objective.labels, epsilon=budget.eps)
    return x_adv


def _finish(x_adv: Images, objective: Objective) -> Images:
    """Let the recorder see the last iterate, whose gradient was never asked for."""
    if objective.knows_detector:
        with torch.no_grad():
            objective.query(x_adv)
    return x_adv
