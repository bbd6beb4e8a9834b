"""HopSkipJump in batches: walks along the border of what evades, told nothing but decisions."""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from nfbench import (
    Access,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    Mask,
    Norm,
    Objective,
    Observation,
    per_image,
)
from nfbench_attacks.climbing import norm2
from nfbench_attacks.random_search import PROBES, allowance, wrong

ULP = 2.0**-23
"""Spacing of float32 at 1."""
HALVINGS = 12
"""How often a step is halved before its direction is given up."""
NOISES = 25
"""Random images that are tried where no guide evades."""
COARSE = 5
"""Halvings after which the starting points of an image are compared."""


class HopSkipJump(Attack):
    """Smallest L2 perturbation that evades, from decisions only. Chen et al. (2020).

    To evade is to be misclassified and, where the detector is known, accepted. Starts from the nearest
    of some clean images of other classes, else from noise, and returns the nearest point found, or `x`
    if none lies in the ball. Given a ball an image leaves once it is `finished` there. Probes lie at a
    radius in L2 whatever the norm, so that float32 can tell them apart, and the nearest point is kept
    though the walk may lead away from it: two departures from the released code.
    """

    name = "hopskipjump"
    paper = "https://arxiv.org/abs/1904.02144"
    norm: ClassVar[Norm] = "l2"
    minimises = True
    needs = Access.DECISION
    rests = True
    static_objective = "margin"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin",)

    queries: Count = 5000
    """Queries an image, those for starting points and bisections included."""
    probes: Count = 100
    """Probes of the first estimate of a direction; the t-th has sqrt(t) times as many."""
    starts: Count = 5
    """Nearest guides that are tried as starting points."""

    @property
    def passes(self) -> int:
        return self.queries

    @torch.no_grad()
    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        walk = _Walk(objective.begin(), x, budget, allowance(objective, self.queries))
        walk.start(self.starts, draws)
        for t in range(1, self.queries):
            rows = walk.going()
            if not len(rows):
                break
            walk.step(rows, walk.direction(rows, round(self.probes * t**0.5), draws), t)
        return walk.nearest()


class HopSkipJumpLinf(HopSkipJump):
    """Smallest Linf perturbation that evades, by signed steps. Chen et al. (2020)."""

    name = "hopskipjump-linf"
    norm = "linf"


class _Walk:
    """Where each image of a batch is on the border, how near it came, and what it may still ask."""

    def __init__(self, objective: Objective, x: Images, budget: Budget, left: Tensor) -> None:
        self.objective, self.x, self.budget, self.left = objective, x, budget, left
        self.at, self.best = x.clone(), x.clone()
        self.distance = x.new_full((len(x),), torch.inf)
        pixels = x[0].numel()
        self.radius = 1 / pixels
        self.least_radius = 8 * ULP * math.sqrt(pixels)
        # Bisection leaves less open than a probe is long, and no less than float32 resolves.
        self.halvings = math.ceil(min(1.5 * math.log2(pixels), 20))
        self.reserve = self.halvings + 4

    def size(self, points: Images, rows: Tensor) -> Tensor:
        """Distance of points from their images in the norm that is to be small. (R,)"""
        return self.budget.size(self.x[rows], points).to(self.x)

    def going(self) -> Tensor:
        """Images that have a point to go on from and can afford it."""
        going = self.distance.isfinite() & (self.distance > 0) & (self.left > self.reserve + 1)
        if self.budget.bounded:
            going &= ~self.objective.finished
        return going.nonzero()[:, 0]

    def nearest(self) -> Images:
        """Each image's nearest point that evades and lies in the ball; the image itself if none does."""
        good = self.distance.isfinite() & self.budget.contains(self.x, self.best)
        return self.best.where(per_image(good, self.x), self.x)

    def start(self, most: int, draws: Draws) -> None:
        """Put each image on the border between itself and the nearest of its starting points."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        self.evades(self.x, everyone)
        for points, rows in self.openings(most):
            found = self.evades(points, rows)
            self.bisect(points[found], rows[found], COARSE)
        for _ in range(NOISES):
            rows = (self.distance.isinf() & (self.left > 0)).nonzero()[:, 0]
            if len(rows):
                self.evades(draws.select(rows).uniform("noise", self.x[rows]), rows)
        rows = (self.distance.isfinite() & (self.distance > 0)).nonzero()[:, 0]
        self.at[rows] = self.bisect(self.best[rows], rows, self.halvings)

    def openings(self, most: int) -> Iterator[tuple[Images, Tensor]]:
        """For each image its nearest guide of another class, then the next, and so on."""
        guides, wanted_class = self.objective.guides, self.objective.targets
        if guides is None or not len(guides):
            return
        wanted = guides.y != self.objective.labels[:, None]
        if wanted_class is not None:
            wanted = guides.y == wanted_class[:, None]
        p = 2.0 if self.budget.norm == "l2" else torch.inf
        order = guides.nearest_first(self.x, wanted, p)
        for k in range(min(most, len(guides))):
            rows = wanted.gather(1, order[:, k : k + 1])[:, 0].nonzero()[:, 0]
            yield guides.x[order[rows, k]], rows

    def evades(self, points: Images, rows: Tensor) -> Mask:
        """Whether each point evades, (R,); an image without queries left is not asked about."""
        may = self.left[rows] > 0
        if not may.all():
            found = torch.zeros_like(may)
            found[may] = self.evades(points[may], rows[may])
            return found
        if not len(rows):
            return may
        self.left[rows] -= 1
        found = self._hit(self.objective.query(points, rows), rows)
        size = self.size(points, rows)
        nearer = found & (size < self.distance[rows])
        self.best[rows[nearer]], self.distance[rows[nearer]] = points[nearer], size[nearer]
        return found

    def _hit(self, seen: Observation, rows: Tensor) -> Mask:
        if self.objective.access > Access.DECISION:
            return self.objective.evasion(seen, rows) > 0
        hit = wrong(self.objective, seen.logits, rows)
        return hit if seen.score is None else hit & (seen.score <= 0)

    def bisect(self, points: Images, rows: Tensor, halvings: int) -> Images:
        """The border between images and points that evade, on the side of these. (R, C, H, W)"""
        delta, size = points - self.x[rows], self.size(points, rows)
        low, high = torch.zeros_like(size), torch.ones_like(size)
        for _ in range(halvings):
            share = (low + high) / 2
            trial = (self.x[rows] + self._shortened(delta, share, size)).clamp(0, 1)
            found = self.evades(trial, rows)
            low, high = low.where(found, share), share.where(found, high)
            points = trial.where(per_image(found, points), points)
        return points

    def _shortened(self, delta: Tensor, share: Tensor, size: Tensor) -> Tensor:
        """Perturbations cut down to a share of their size in the norm that is to be small."""
        if self.budget.norm == "l2":
            return per_image(share, delta) * delta
        bound = per_image(share * size, delta)
        return delta.clamp(-bound, bound)

    def direction(self, rows: Tensor, planned: int, draws: Draws) -> Tensor:
        """Which way leads away from the border, estimated from points around; a step of size 1."""
        chunk = max(1, PROBES.get(self.x.device.type, PROBES["cpu"]) // planned)
        found = [self._estimate(part, planned, draws.select(part)) for part in rows.split(chunk)]
        estimate = torch.cat(found)
        if self.budget.norm == "linf":
            return estimate.sign()
        return estimate / per_image(norm2(estimate), estimate)

    def _estimate(self, rows: Tensor, planned: int, draws: Draws) -> Tensor:
        """The mean of what was added, weighed by whether it evades. (R, C, H, W)"""
        at = self.at[rows][:, None]
        count = (self.left[rows] - self.reserve).clamp_max(planned)
        noise = draws.normal("probe", at.expand(-1, planned, *at.shape[2:]))
        radius = (norm2(self.at[rows] - self.x[rows]) * self.radius).clamp_min(self.least_radius)
        noise *= (radius[:, None] / noise.flatten(2).square().sum(2).sqrt())[..., None, None, None]
        points = (at + noise).clamp(0, 1)
        asked = torch.arange(planned, device=rows.device) < count[:, None]  # (R, P)
        owners = rows[:, None].expand_as(asked)[asked]
        seen = self.objective.query(points[asked], owners, record=False)
        self.left[rows] -= count
        hit = torch.zeros_like(radius[:, None].expand_as(asked))
        hit[asked] = 2 * self._hit(seen, owners).to(hit) - 1
        mean = (hit.sum(1) / count)[:, None]
        weight = torch.where(mean.abs() < 1, hit - mean, hit).masked_fill(~asked, 0)
        return ((points - at) * weight[..., None, None, None]).sum(1)

    def step(self, rows: Tensor, direction: Tensor, t: int) -> None:
        """As far as still evades, halving from 1 / sqrt(t) of the distance, and back to the border."""
        length = self.size(self.at[rows], rows) / math.sqrt(t)
        for _ in range(HALVINGS):
            trial = (self.at[rows] + per_image(length, direction) * direction).clamp(0, 1)
            found = self.evades(trial, rows)
            self.at[rows[found]] = self.bisect(trial[found], rows[found], self.halvings)
            rows, direction, length = rows[~found], direction[~found], length[~found] / 2
            if not len(rows):
                return
