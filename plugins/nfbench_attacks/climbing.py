"""Gradient ascent on an objective, for some images of a batch, with steps that shrink as a cosine."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nfbench import Budget, Draws, Images, Labels, Objective, per_image

MOMENTUM = 0.75
"""Share of the new step in a move; the rest repeats the last move, as in Auto-PGD."""
FIRST = 0.5
"""First step as a share of eps, before the two hundredth that every step has more."""

ODI_STEPS = 2


def climb(  # noqa: PLR0913  # the last two have defaults
    objective: Objective,
    x: Images,
    start: Images,
    budget: Budget,
    steps: int,
    *,
    rest: bool = True,
    first: float = FIRST,
) -> Images:
    """The last iterate from `start`; the recorder keeps each image's best.

    Step k of T has the length eps (first (1 + cos(pi k / T)) / 2 + 1 / 200), along the sign of the
    gradient for linf and along the gradient for l2. The end is looked at as it is and rounded to 8 bits.

    Args:
        objective: what to climb; begun anew.
        x: the images, (B, C, H, W).
        start: where to begin; projected into the ball.
        budget: bounded, linf or l2.
        steps: how many.
        rest: whether images leave as soon as they are `finished`.
        first: what the cosine begins with.
    """
    objective = objective.begin()
    objective.prepare()
    x_adv = last = budget.project(x, start)
    rows = torch.arange(len(x), device=x.device)
    for k in range(steps):
        if rest:
            rows = rows[~objective.finished[rows]]
        if not len(rows):
            return x_adv
        here, step = x_adv[rows], objective.step(x_adv[rows], rows)
        ahead = here + length(k, steps, budget.eps, first) * direction(step.gradient, budget)
        moved = budget.project(x[rows], ahead)
        if k:
            mixed = here + MOMENTUM * (moved - here) + (1 - MOMENTUM) * (here - last[rows])
            moved = budget.project(x[rows], mixed)
        last, x_adv = x_adv, x_adv.index_copy(0, rows, moved)
    with torch.no_grad():
        for end in (x_adv[rows], rounded(x_adv[rows])):
            objective.query(end, rows)
    return x_adv


def rounded(x: Images) -> Images:
    """To 8 bits, as a file would store it."""
    return (x * 255).round() / 255


def length(k: int, steps: int, eps: float, first: float = FIRST) -> float:
    """Length of step k of `steps`."""
    return eps * (first * (1 + math.cos(math.pi * k / steps)) / 2 + 1 / 200)


def direction(gradient: Tensor, budget: Budget) -> Tensor:
    """Steepest ascent in the norm of the budget; what is no number does not move."""
    gradient = gradient.where(gradient.isfinite(), 0)
    if budget.norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-30)  # no square underflows
    return (flat / flat.square().sum(1, keepdim=True).sqrt().clamp_min(1e-30)).view_as(gradient)


def norm2(delta: Tensor) -> Tensor:
    """Length of each row, never 0. (R, ...) -> (R,)"""
    squares: Tensor = delta.flatten(1).square().sum(1)
    return squares.sqrt().clamp_min(1e-12)


def random_start(x: Images, budget: Budget, draws: Draws, role: str = "start") -> Images:
    """A point drawn uniformly from the ball, in the box."""
    if budget.norm == "linf":
        return budget.project(x, x + budget.eps * (2 * draws.uniform(role, x) - 1))
    noise = draws.normal(role, x)
    radius = draws.uniform(f"{role} radius", x[:, :1, :1, :1]) ** (1 / x[0].numel())
    size = per_image(noise.flatten(1).square().sum(1).sqrt(), x)
    return budget.project(x, x + budget.eps * radius * noise / size)


@torch.no_grad()
def likeliest(objective: Objective, x: Images, count: int) -> list[Labels]:
    """The most likely wrong classes of each image, best first; at most `count` vectors (B,)."""
    logits = objective.query(x, record=False).logits
    order = logits.scatter(1, objective.labels[:, None], -torch.inf).argsort(1, descending=True)
    return [order[:, k] for k in range(min(count, objective.num_classes - 1))]


def diversified(  # noqa: PLR0917  # as `climb`, and what `direction` is in the norm
    objective: Objective,
    x: Images,
    start: Images,
    budget: Budget,
    draws: Draws,
    ascend: Callable[[Tensor, Images, Budget], Tensor] | None = None,
) -> Images:
    """A start whose logits differ: output diversified initialisation, Tashiro et al. (2020).

    From `start` a few steps of length eps up w . z(x), with w uniform in [-1, 1]^K for each image;
    arXiv:2003.06878.
    """
    x_adv = budget.project(x, start)
    weights = 2 * draws.uniform("odi", x.new_empty(len(x), objective.num_classes)) - 1
    for _ in range(ODI_STEPS):
        at = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            mixed = (weights * objective.query(at).logits).sum()
            gradient = torch.autograd.grad(mixed, at)[0]
        step = direction(gradient, budget) if ascend is None else ascend(gradient, x_adv, budget)
        x_adv = budget.project(x, x_adv + budget.eps * step)
    return x_adv
