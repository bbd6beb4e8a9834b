"""Probes: points that cost a look and no gradient."""

import torch

from nfbench import Budget, Draws, Images, Labels, Objective
from nfbench_attacks.climbing import random_start


@torch.no_grad()
def random_points(objective: Objective, x: Images, budget: Budget, draws: Draws, count: int) -> None:
    """Look at `count` random points of each ball."""
    for _ in range(count):
        objective.query(random_start(x, budget, draws, "probe"))


@torch.no_grad()
def other_images(objective: Objective, x: Images, budget: Budget, count: int) -> None:
    """Look at the `count` nearest guides of other classes, as near as the ball lets one come."""
    for k in range(count):
        points = guide(objective, x, k)
        if points is None:
            return
        objective.query(budget.project(x, points))


def guide(objective: Objective, x: Images, rank: int, target: Labels | None = None) -> Images | None:
    """Each image's `rank`-th nearest guide of its target, or of any other class. (B, C, H, W)

    Where there are fewer of that class the last of them, where none the image itself; None if no class
    has so many guides.
    """
    guides = objective.guides
    if guides is None or not len(guides):
        return None
    most = len(guides) if target is None else int(guides.y.bincount().max())
    if rank >= most:
        return None
    wanted = guides.y != objective.labels[:, None] if target is None else guides.y == target[:, None]
    counts = wanted.sum(1)
    order = guides.nearest_first(x, wanted)
    chosen = order.gather(1, (counts - 1).clamp(0, rank)[:, None])[:, 0]
    return guides.x[chosen].where((counts > 0).view(-1, *[1] * (x.dim() - 1)), x)
