"""Auto-PGD: long steps that are halved, image by image, where they no longer help."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from nfbench import (
    OBJECTIVES,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    Logits,
    Mask,
    Norm,
    Objective,
    UsageError,
    per_image,
)
from nfbench_attacks.climbing import direction, likeliest, random_start
from nfbench_attacks.gamma import over_gamma, unweighted
from nfbench_attacks.random_search import above, wrong

MOMENTUM = 0.75
"""Share of the new step in a move; the rest is a repetition of the last move."""
ENOUGH = 0.75
"""Share of the steps since the last checkpoint that must have gone up."""


class _View(NamedTuple):
    """What one gradient query says of some candidates."""

    gradient: Tensor  # (R, C, H, W)
    value: Tensor  # (R,) what is to grow
    hit: Mask  # (R,) whether it is a success


class APGD(Attack):
    """Auto-PGD: momentum, and steps from 2 eps on that halve at checkpoints. Croce & Hein (2020).

    An image whose value rose in too few of the steps since the last checkpoint, or whose best value is
    where it was although its step was not halved there, goes on from its best point with half the step.
    The value is the loss. Objectives that combine two gradients have none: theirs, and that of
    `selective`, is the evasion margin. To order points by success and then by score takes a second
    query, and evaded no more detectors for it. It returns the success of largest value, else the point
    of largest value. Further runs are for images without a success, or for all where the recorder
    keeps the best. The weight of a weighted sum is searched image by image.
    """

    name = "apgd"
    paper = "https://arxiv.org/abs/2003.01690"
    norm: ClassVar[Norm] = "linf"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin", "orthogonal", "matching")

    steps: Count = 100
    restarts: Count = 1
    """Runs for each class aimed at."""
    starts: Literal["uniform", "image"] = "uniform"
    """Where runs begin: a random point of the ball, or the image (only the first run for a class)."""
    loss: Literal["objective", "dlr"] = "objective"
    """What is climbed where the detector has no say; dlr is the difference of logits ratio."""
    targets: Annotated[int, Ge(0)] = 0
    """Wrong classes aimed at after the untargeted runs, the most likely first."""

    @property
    def passes(self) -> int:
        return (self.steps + 1) * self.restarts * (1 + self.targets)

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        needed = 4 if self.targets else 3
        if self.loss == "dlr" and objective.num_classes < needed:
            raise UsageError(
                f"{self.name}: the ratio of logits takes at least {needed} classes here, got "
                f"{objective.num_classes}; use --set {self.name}.loss=objective"
            )
        return over_gamma(objective, lambda weighed: self._all(weighed, x, budget, draws))

    def _all(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        """Every run, each from its own start."""
        kept = _Best(x.clone(), x.new_full((len(x), 2), -torch.inf))
        rows = torch.arange(len(x), device=x.device)
        stops = not objective.knows_detector or isinstance(objective, OBJECTIVES["lagrangian"])
        goals = [objective, *map(objective.towards, self._classes(objective, x))]
        for run in range(len(goals) * self.restarts):
            if stops:
                rows = rows[kept.worth[rows, 0] <= 0]
            if self.rests:
                rows = rows[~objective.finished[rows]]
            if not len(rows):
                break
            goal = goals[run // self.restarts].begin()
            problem = _Problem(goal, objective, x[rows], rows, budget, self.loss == "dlr")
            start = problem.x
            if self.starts == "uniform" or run % self.restarts:
                start = random_start(start, budget, draws.select(rows))
            self.climb(problem, start, kept)
        return kept.x

    def _classes(self, objective: Objective, x: Images) -> list[Tensor]:
        return likeliest(objective, x, self.targets) if self.targets else []

    def climb(self, problem: "_Problem", start: Images, kept: "_Best") -> None:
        """One run; `kept` is shown every point of it."""
        x, budget = problem.x, problem.budget
        at = before = budget.project(x, start)
        seen = problem.look(at, kept)
        best, best_seen = at, seen
        length = x.new_full((len(x),), 2 * budget.eps)
        rises, mark = torch.zeros_like(seen.value), seen.value
        halved, checked = torch.zeros_like(seen.hit), 0
        looks = checkpoints(self.steps)
        for done in range(1, self.steps + 1):
            moved = budget.project(x, at + per_image(length, x) * direction(seen.gradient, budget))
            if done > 1:
                mixed = at + MOMENTUM * (moved - at) + (1 - MOMENTUM) * (at - before)
                moved = budget.project(x, mixed)
            before, at, last = at, moved, seen.value
            seen = problem.look(at, kept)
            rises += seen.value > last
            better = seen.value > best_seen.value
            best, best_seen = _chosen(better, at, best), _mixed(better, seen, best_seen)
            if done in looks:
                stuck = (rises < ENOUGH * (done - checked)) | (~halved & (best_seen.value <= mark))
                length = torch.where(stuck, length / 2, length)
                at, seen = _chosen(stuck, best, at), _mixed(stuck, best_seen, seen)
                halved, mark, checked = stuck, best_seen.value, done
                rises = torch.zeros_like(rises)


class APGDL2(APGD):
    """Auto-PGD with gradient steps in an L2 ball. Croce & Hein (2020)."""

    name = "apgd-l2"
    norm = "l2"


def checkpoints(steps: int) -> list[int]:
    """After how many steps the length is looked at: a share of .22, then ever more often."""
    shares, gap = [0.22], 0.22
    while shares[-1] + max(gap - 0.03, 0.06) <= 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    return [math.ceil(share * steps - 1e-9) for share in shares]


@dataclass
class _Best:
    """The best point so far of each image of the batch, and what it is worth."""

    x: Images
    worth: Tensor  # (B, 2): a success or not, then the value

    def offer(self, x: Images, worth: Tensor, rows: Tensor) -> None:
        better = above(worth, self.worth[rows])
        self.x[rows[better]], self.worth[rows[better]] = x[better], worth[better]


@dataclass(frozen=True)
class _Problem:
    """What a run climbs, for some images of the batch."""

    goal: Objective
    judge: Objective
    """What decides about success: the goal before it was aimed at a class."""
    x: Images  # (R, C, H, W)
    rows: Tensor  # (R,)
    budget: Budget
    ratio: bool
    """Whether the ratio of logits takes the place of a loss that is blind to the detector."""

    def look(self, at: Images, kept: _Best) -> _View:
        """Gradient and value of each candidate, which `kept` is shown too."""
        view = self._view(at.detach().requires_grad_())
        kept.offer(at, torch.stack([view.hit.to(view.value), view.value], 1), self.rows)
        return view

    def _view(self, at: Images) -> _View:
        goal, rows = self.goal, self.rows
        with torch.enable_grad():
            if isinstance(goal, OBJECTIVES["cross-entropy"]):
                seen = goal.query(at, rows)
                blind = not goal.knows_detector or unweighted(goal)
                value = self._ratio(seen.logits) if self.ratio and blind else goal.value(seen, rows)
                hit = wrong(self.judge, seen.logits, rows)
            elif isinstance(goal, OBJECTIVES["matching"]):
                value = goal.loss(at, rows)
                hit = torch.zeros_like(rows, dtype=torch.bool)
            else:
                step = goal.step(at, rows)
                return _View(step.gradient, step.margin, step.margin > 0)
            gradient = torch.autograd.grad(value.sum(), at)[0]
        return _View(gradient, value.detach(), hit)

    def _ratio(self, logits: Logits) -> Tensor:
        """Difference of logits ratio, eq. (6), or towards a class, eq. (7). (R, K) -> (R,)"""
        own = self.goal.labels[self.rows, None]
        ordered = logits.sort(dim=1, descending=True, stable=True).values
        if self.goal.targets is None:
            other = logits.scatter(1, own, -torch.inf).amax(1)
            scale = ordered[:, 0] - ordered[:, 2]
        else:
            other = logits.gather(1, self.goal.targets[self.rows, None])[:, 0]
            scale = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        return (other - logits.gather(1, own)[:, 0]) / (scale + 1e-12)


def _chosen(mask: Mask, one: Tensor, other: Tensor) -> Tensor:
    """Each image of `one` where the mask says so, of `other` elsewhere."""
    return one.where(per_image(mask, one), other)


def _mixed(mask: Mask, one: _View, other: _View) -> _View:
    return _View(*(_chosen(mask, a, b) for a, b in zip(one, other, strict=True)))
