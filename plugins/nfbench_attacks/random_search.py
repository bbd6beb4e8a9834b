"""Random search: the lowest score among many points of the ball, which no attack may fail to reach."""

import torch
from torch import Tensor

from nfbench import (
    Access,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    Logits,
    Mask,
    Objective,
    Observation,
)

BLOCK = 256
"""Points of an image that are drawn, asked about and thinned out to their best together."""
PROBES = {"cpu": 256, "cuda": 4096}
"""Points asked about at once; on a CPU the activations of more no longer fit its caches."""


def allowance(objective: Objective, most: int) -> Tensor:
    """Queries that each image of the batch may use: `most`, or what it has left. (B,) int64

    Image by image, so that none is cut short by what a neighbour has used.
    """
    everyone = torch.arange(len(objective.labels), device=objective.labels.device)
    left = [objective.queries_left(row) for row in everyone.split(1)]
    granted = [most if one is None else min(most, one) for one in left]
    return torch.tensor(granted, device=everyone.device)


def wrong(objective: Objective, logits: Logits, rows: Tensor) -> Mask:
    """Whether each candidate has the class aimed at, or any but its own without a target. (R,)"""
    found = logits.argmax(1)
    if objective.targets is None:
        return found != objective.labels[rows]
    return found == objective.targets[rows]


def rank(objective: Objective, seen: Observation, rows: Tensor, value: Tensor) -> Tensor:
    """What orders candidates: to be wrong; among those a low score, among others `value`. (R, 2)

    Aiming at a class, it is that class's penalty that is to be low. Where no detector is revealed all
    that are wrong are equal.
    """
    hit = wrong(objective, seen.logits, rows)
    term = seen.score
    if term is None:
        term = torch.zeros_like(value)
    elif seen.penalties is not None and objective.targets is not None:
        term = seen.penalties.gather(1, objective.targets[rows, None])[:, 0]
    return torch.stack([hit.to(value), torch.where(hit, -term, value)], 1)


def above(one: Tensor, other: Tensor) -> Mask:
    """Whether each pair of numbers comes after the other in lexicographic order. (R, 2) -> (R,)"""
    return (one[:, 0] > other[:, 0]) | ((one[:, 0] == other[:, 0]) & (one[:, 1] > other[:, 1]))


class RandomSearch(Attack):
    """Uniform points of the ball, clipped to the box; the misclassified one of lowest score.

    Dathathri et al. (2018), appendix K. Where the detector is unknown, the first misclassified point.
    A longer search begins with the points of a shorter one. Points are thinned out before they count:
    the best of each block is asked about once more, and that query is the one on record.
    """

    name = "random-search"
    paper = "https://arxiv.org/abs/1803.03870"
    norm = "linf"
    needs = Access.SCORES
    static_objective = "margin"
    adaptive_objectives = ("margin",)

    points: Count = 10_000
    """Points an image; the paper draws 1,000,000."""

    @property
    def passes(self) -> int:
        return self.points + -(-self.points // BLOCK)

    @torch.no_grad()
    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        objective = objective.begin()
        left = allowance(objective, self.passes)
        best, worth = x.clone(), x.new_full((len(x), 2), -torch.inf)
        rows = torch.arange(len(x), device=x.device)
        for start in range(0, self.points, BLOCK):
            # One query is kept back, for the block's best point.
            count = (left - 1).clamp(0, min(BLOCK, self.points - start))
            going = count[rows] > 0
            if not objective.knows_detector:
                going &= worth[rows, 0] <= 0
            rows = rows[going]
            if not len(rows):
                break
            parts = rows.split(max(1, PROBES.get(x.device.type, PROBES["cpu"]) // BLOCK))
            found = [
                _best_of(objective, self._points(x[part], budget, draws.select(part)), part, count[part])
                for part in parts
            ]
            chosen, value = (torch.cat(values) for values in zip(*found, strict=True))
            left[rows] -= count[rows]
            better = above(value, worth[rows])
            best[rows[better]], worth[rows[better]] = chosen[better], value[better]
            counts = better & (value[:, 0] > 0)
            if counts.any():
                objective.query(chosen[counts], rows[counts])
                left[rows[counts]] -= 1
        return best

    @staticmethod
    def _points(x: Images, budget: Budget, draws: Draws) -> Images:
        """The next points of each image. (R, BLOCK, C, H, W)"""
        like = x[:, None].expand(-1, BLOCK, *x.shape[1:])
        noise = budget.eps * (2 * draws.uniform("point", like) - 1)
        moved = budget.project(like.flatten(0, 1), (like + noise).flatten(0, 1))
        return moved.view_as(like)


def _best_of(objective: Objective, points: Images, rows: Tensor, count: Tensor) -> tuple[Images, Tensor]:
    """The best of each row's first `count` points, and what it is worth. (R, C, H, W), (R, 2)"""
    asked = torch.arange(points.shape[1], device=points.device) < count[:, None]  # (R, P)
    owners = rows[:, None].expand_as(asked)[asked]
    seen = objective.query(points[asked], owners, record=False)
    worth = points.new_full((*asked.shape, 2), -torch.inf)
    worth[asked] = rank(objective, seen, owners, objective.evasion(seen, owners)).to(worth)
    leading = worth[..., 0] == worth[..., 0].amax(1, keepdim=True)
    first = worth[..., 1].masked_fill(~leading, -torch.inf).argmax(1)  # the first of equals
    each = torch.arange(len(rows), device=rows.device)
    return points[each, first], worth[each, first]
