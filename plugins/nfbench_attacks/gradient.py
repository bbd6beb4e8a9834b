"""FGSM, BIM-b and PGD: Foolbox steps and projects, the objective supplies the gradient; L1 is ours."""

import math
from collections.abc import Callable, Iterator
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
from torch import Tensor

from nfbench import (
    OBJECTIVES,
    Attack,
    Budget,
    Count,
    Draws,
    Fraction,
    Images,
    Mask,
    Norm,
    Objective,
    Positive,
    per_image,
)
from nfbench_attacks.climbing import ODI_STEPS, direction, diversified
from nfbench_attacks.gamma import fools, over_gamma, unweighted


class FGSM(Attack):
    """One signed step. Goodfellow et al. (2015).

    Of a weighted sum it takes a step for each weight of a grid, as one step is too few to search with;
    under the paper's it searches nevertheless.
    """

    name = "fgsm"
    paper = "https://arxiv.org/abs/1412.6572"
    norm = "linf"
    adaptive_objectives = ("lagrangian",)

    @property
    def passes(self) -> int:
        return 10

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        def step(chosen: Objective) -> Images:
            return _finish(_run(LinfFastGradientAttack(), chosen, x, budget), chosen)

        if unweighted(objective) or isinstance(objective, OBJECTIVES["paper"]):
            return over_gamma(objective, step)
        x_adv = x
        for variant in objective.begin().variants():
            x_adv = step(variant)  # the recorder keeps each image's best
        return x_adv


class BIMb(Attack):
    """Signed steps from the image itself; the last iterate. Kurakin et al. (2017)."""

    name = "bim-b"
    paper = "https://arxiv.org/abs/1607.02533"
    norm = "linf"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "orthogonal", "matching")

    steps: Count = 50
    step: Positive = 0.01
    """Step in pixel units of [0, 1]; papers: 0.01 on MNIST, 0.005 on CIFAR-10."""

    @property
    def passes(self) -> int:
        return self.steps

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        def climb(weighed: Objective) -> Images:
            attack = LinfBasicIterativeAttack(
                abs_stepsize=self.step, steps=self.steps, random_start=False
            )
            return _finish(_run(attack, weighed, x, budget), weighed)

        return over_gamma(objective, climb)


class PGD(Attack):
    """Signed steps from random points of the ball. Madry et al. (2018).

    `starts` may be the image itself, for the first run, or points whose logits differ: output
    diversified initialisation of Tashiro et al. (2020), arXiv:2003.06878, which goes from a random
    point a few steps of length eps up a random combination of the logits.
    """

    name = "pgd"
    paper = "https://arxiv.org/abs/1706.06083"
    norm: ClassVar[Norm] = "linf"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "orthogonal", "matching")
    library: ClassVar[type[BaseGradientDescent]] = LinfProjectedGradientDescentAttack

    steps: Count = 100
    step: Positive = 0.5
    """First step as a fraction of eps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Steps shrink along half a cosine to a hundredth of the first, or stay as they are."""
    restarts: Count = 1
    """Runs; the first that succeeds is returned."""
    starts: Literal["uniform", "image", "odi"] = "uniform"
    """Where runs begin: a random point of the ball, the image (only the first run), or ODI."""

    @property
    def passes(self) -> int:
        return self.restarts * (self.steps + ODI_STEPS * (self.starts == "odi"))

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        def climb(weighed: Objective) -> Images:
            result = self._once(weighed, x, budget, draws, 0)
            for restart in range(1, self.restarts):
                failed = ~_succeeds(weighed, result)
                again = self._once(weighed.begin(), x, budget, draws, restart)
                result = again.where(per_image(failed, x), result)
            return result

        return over_gamma(objective, climb)

    def _once(
        self, objective: Objective, x: Images, budget: Budget, draws: Draws, restart: int
    ) -> Images:
        start = x
        if self.starts != "image" or restart:
            start = self.start(x, budget, draws)
        if self.starts == "odi":
            start = diversified(objective, x, start, budget, draws, self.direction)
        return _finish(self.climb(objective, x, start, budget), objective)

    def climb(self, objective: Objective, x: Images, start: Images, budget: Budget) -> Images:
        """The last iterate from `start`."""
        attack = self.library(rel_stepsize=self.step, steps=self.steps, random_start=True)
        lengths = self.lengths(budget)
        attack.get_optimizer = lambda *_: lambda gradient: next(lengths) * gradient
        # Foolbox would draw for the whole batch from torch's global stream.
        attack.get_random_start = lambda *_: ep.astensor(start)
        return _run(attack, objective, x, budget)

    def lengths(self, budget: Budget) -> Iterator[float]:
        """How long each step is, in the norm of the budget."""
        for done in range(self.steps):
            wave = (1 + math.cos(math.pi * done / self.steps)) / 2
            yield self.step * budget.eps * (0.99 * wave + 0.01 if self.schedule == "cosine" else 1.0)

    def direction(self, gradient: Tensor, x: Images, budget: Budget) -> Tensor:
        """Steepest ascent from `x`, of length 1 in the norm of the budget."""
        return direction(gradient, budget)

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


class PGDL1(PGD):
    """Steps along the steepest pixels in an L1 ball, projected exactly. Tramer & Boneh (2019).

    A step moves the few entries of largest slope that the box lets move, all by the same amount, as in
    SLIDE; it is projected onto ball and box together, as Croce & Hein (2021), arXiv:2103.01208, found
    necessary.
    """

    name = "pgd-l1"
    paper = "https://arxiv.org/abs/1904.13000"
    norm = "l1"

    share: Fraction = 0.03
    """Share of the entries that a step moves; at least one."""

    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        """A point drawn uniformly from the ball, put into the box."""
        # Gaps between sorted uniform numbers are uniform among positive numbers of sum at most 1.
        order = draws.uniform("start", x).flatten(1).sort(1).values
        sizes = order.diff(dim=1, prepend=torch.zeros_like(order[:, :1])).view_as(x)
        return x + budget.eps * sizes * draws.signs("sign", 1, x)[:, 0]

    def climb(self, objective: Objective, x: Images, start: Images, budget: Budget) -> Images:
        x_adv = budget.project(x, start)
        for length in self.lengths(budget):
            gradient = objective.gradient(x_adv)
            moved = x_adv + length * self.direction(gradient, x_adv, budget)
            x_adv = budget.project(x, moved)
        return x_adv

    def direction(self, gradient: Tensor, x: Images, budget: Budget) -> Tensor:
        slope = gradient.where(gradient.isfinite(), 0).flatten(1)
        stuck = torch.where(slope > 0, x.flatten(1) >= 1, x.flatten(1) <= 0)
        slope = slope.masked_fill(stuck, 0)
        count = max(1, round(self.share * slope.shape[1]))
        # A stable order, so that equal slopes are chosen alike in every batch.
        order = slope.abs().argsort(dim=1, descending=True, stable=True)
        steepest = order[:, :count]
        step = torch.zeros_like(slope).scatter(1, steepest, slope.gather(1, steepest).sign() / count)
        return step.view_as(gradient)


def _run(attack: BaseGradientDescent, objective: Objective, x: Images, budget: Budget) -> Images:
    """Foolbox's loop, climbing the objective instead of a loss of its own."""

    def value_and_grad(_: Callable[[ep.Tensor], ep.Tensor], x: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        gradient = ep.astensor(objective.gradient(x.raw))
        return gradient, gradient  # the loop reads the gradient only

    attack.value_and_grad = value_and_grad
    nowhere = foolbox.PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1), device=x.device)
    x_adv: Images = attack.run(nowhere, x, objective.labels, epsilon=budget.eps)
    return x_adv


@torch.no_grad()
def _succeeds(objective: Objective, x: Images) -> Mask:
    """Whether each image needs no other run; of a weighted sum, whether it fools the classifier. (B,)"""
    if isinstance(objective, OBJECTIVES["lagrangian"]):
        return fools(objective, x)
    return objective.margin(x) > 0


def _finish(x_adv: Images, objective: Objective) -> Images:
    """Let the recorder see the last iterate, whose gradient was never asked for."""
    if objective.knows_detector:
        with torch.no_grad():
            objective.query(x_adv)
    return x_adv
