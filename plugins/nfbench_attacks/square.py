"""Square Attack in batches, each image with its own draws: random search by squares of pixels."""

from abc import abstractmethod
from bisect import bisect_right
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from nfbench import (
    OBJECTIVES,
    Access,
    Attack,
    Budget,
    Count,
    Draws,
    Fraction,
    Images,
    Mask,
    Objective,
    per_image,
)
from nfbench_attacks.random_search import above, allowance, rank

BLOCK = 64
"""Queries whose random numbers are drawn together."""
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which squares cover half as much, as in the paper."""


class _SquareAttack(Attack):
    """What both norms share: try a square, keep what is better. Andriushchenko et al. (2020).

    Better is a larger loss. Where the detector is known the order is lexicographic: misclassified
    before not, then the lower score; weighted sums and distances are climbed as they are. A square
    that would change nothing is turned over, so that no query is spent on it.
    """

    paper = "https://arxiv.org/abs/1912.00049"
    needs = Access.SCORES
    rests = True
    static_objective = "margin"
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin",)

    queries: Count = 5000
    """Queries an image. Squares shrink as these run out, or the fewer that are granted."""
    area: Fraction = 0.8
    """Share of the image that the first squares cover."""

    @property
    def passes(self) -> int:
        return self.queries

    @torch.no_grad()
    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        objective = objective.begin()
        granted = allowance(objective, self.queries)
        best, worth = x.clone(), x.new_full((len(x), 2), -torch.inf)
        rows = torch.arange(len(x), device=x.device)
        numbers = x.new_empty(len(x), BLOCK, self.numbers(x))
        for k in range(self.queries):
            rows = rows[(granted[rows] > k) & ~objective.finished[rows]]
            if not len(rows):
                break
            if k % BLOCK == 0:
                numbers[rows] = draws.select(rows).uniform("square", numbers[rows])
            here, drawn = x[rows], numbers[rows, k % BLOCK]
            if k == 0:
                moved = self.start(here, budget, draws.select(rows))
            else:
                moved = self.move(here, best[rows], drawn, self._sides(x, k, granted[rows]), budget)
            moved = budget.project(here, moved)
            value = _worth(objective, moved, rows)
            better = above(value, worth[rows])
            best[rows[better]], worth[rows[better]] = moved[better], value[better]
        return best

    def _sides(self, x: Images, done: int, granted: Tensor) -> Tensor:
        """Side of each image's square after so many queries, (R,) int64."""
        height, width = x.shape[2:]
        passed = [bisect_right(HALVINGS, done / most) for most in granted.tolist()]
        sides = [round((self.area / 2**halved * height * width) ** 0.5) for halved in passed]
        return torch.tensor(sides, device=x.device).clamp(1, min(height, width))

    @staticmethod
    @abstractmethod
    def numbers(x: Images) -> int:
        """How many random numbers a query takes."""

    @abstractmethod
    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        """The first points."""

    @abstractmethod
    def move(self, x: Images, best: Images, drawn: Tensor, sides: Tensor, budget: Budget) -> Images:
        """The best points with a square changed, (R, C, H, W); `drawn` is (R, numbers) in [0, 1)."""


class Square(_SquareAttack):
    """Squares of plus or minus eps, on vertical stripes of plus or minus eps."""

    name = "square"
    norm = "linf"

    @staticmethod
    def numbers(x: Images) -> int:
        return 2 + x.shape[1]

    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        return x + budget.eps * _signs(draws.uniform("stripes", x[:, :, :1]))

    def move(self, x: Images, best: Images, drawn: Tensor, sides: Tensor, budget: Budget) -> Images:
        down, across = _offsets(best, drawn[:, :2], sides)
        inside = _inside(down, across, sides)
        step = budget.eps * _signs(drawn[:, 2:, None, None])
        moved, turned = (budget.project(x, (x + s).where(inside, best)) for s in (step, -step))
        idle = (moved == best).flatten(1).all(1)
        return turned.where(per_image(idle, x), moved)


class SquareL2(_SquareAttack):
    """Two windows at a time: one gives its length to the other, which gets a pair of pyramids.

    As the squares of pixels, but that a window is never smaller than 3 and of odd side.
    """

    name = "square-l2"
    norm = "l2"
    area: Fraction = 0.1

    @staticmethod
    def numbers(x: Images) -> int:
        return 5 + x.shape[1]

    def start(self, x: Images, budget: Budget, draws: Draws) -> Images:
        """Windows side by side, five across or as many as fit, each a pair of pyramids."""
        height, width = x.shape[2:]
        side = min(max(3, min(height, width) // 5), height, width)
        tall, wide = height // side, width // side
        signs = _signs(draws.uniform("stripes", x[:, :, :1, :1].expand(-1, -1, tall, wide)))
        delta = torch.zeros_like(x)
        tiles = _pyramids(side)[-1].to(x).repeat(tall, wide)
        spread = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
        delta[:, :, : tall * side, : wide * side] = tiles * spread
        return x + budget.eps * delta / _length(delta, (1, 2, 3)).clamp_min(1e-12)

    def move(self, x: Images, best: Images, drawn: Tensor, sides: Tensor, budget: Budget) -> Images:
        delta, least = best - x, min(x.shape[2:])
        sides = (sides.clamp_min(3) // 2 * 2 + 1).clamp_max(least - 1 + least % 2)
        down, across = _offsets(x, drawn[:, :2], sides)
        taker, giver = _inside(down, across, sides), _inside(*_offsets(x, drawn[:, 2:4], sides), sides)
        channels = (2, 3)
        unused = (budget.eps**2 - _length(delta, (1, 2, 3)).square()).clamp_min(0)
        both = _length(delta * (taker | giver), channels).square()
        length = (both + unused / x.shape[1]).sqrt()
        old = delta * taker
        shape = _placed(down, across, sides, drawn[:, 4] < 0.5) * taker
        new = _signs(drawn[:, 5:, None, None]) * shape + old / _length(old, channels).clamp_min(1e-12)
        new = new / _length(new, channels).clamp_min(1e-12) * length
        return x + torch.where(taker, new, delta.masked_fill(giver, 0))


def _worth(objective: Objective, x: Images, rows: Tensor) -> Tensor:
    """What candidates are compared by. (R, 2)"""
    if isinstance(objective, OBJECTIVES["lagrangian"] | OBJECTIVES["matching"]):
        loss = objective.loss(x, rows)
        return torch.stack([torch.zeros_like(loss), loss], 1)
    seen = objective.query(x, rows)
    return rank(objective, seen, rows, objective.value(seen, rows))


def _signs(drawn: Tensor) -> Tensor:
    """Fair coin flips in {-1, +1} from numbers in [0, 1)."""
    return 1 - 2 * (drawn < 0.5).to(drawn)


def _offsets(x: Images, drawn: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each pixel as seen from a window's corner. (R, H, 1), (R, 1, W) int64"""
    height, width = x.shape[2:]
    rooms = torch.stack([height - sides, width - sides], 1) + 1
    corner = (drawn * rooms).long().minimum(rooms - 1)
    down = torch.arange(height, device=x.device) - corner[:, :1]
    across = torch.arange(width, device=x.device) - corner[:, 1:]
    return down[:, :, None], across[:, None]


def _inside(down: Tensor, across: Tensor, sides: Tensor) -> Mask:
    """Which pixels lie in each image's window. (R, 1, H, W)"""
    sides = sides[:, None, None]
    return ((down >= 0) & (down < sides) & (across >= 0) & (across < sides))[:, None]


def _length(delta: Tensor, axes: tuple[int, ...]) -> Tensor:
    squares: Tensor = delta.square().sum(axes, keepdim=True)
    return squares.sqrt()


def _placed(down: Tensor, across: Tensor, sides: Tensor, turned: Mask) -> Tensor:
    """Each window's pair of pyramids, `turned` or not, where the window is. (R, 1, H, W)"""
    largest = int(sides.max())
    table = _pyramids(largest).to(down.device)
    down, across = down.clamp(0, largest - 1), across.clamp(0, largest - 1)
    sides, turned = sides[:, None, None], turned[:, None, None]
    return table[sides, down, across].where(~turned, table[sides, across, down])[:, None]


@cache
def _pyramids(largest: int) -> Tensor:
    """A pair of pyramids of opposite sign, of length 1, for each side. (largest + 1, largest, largest)

    Each fills half of the window: at distance m from its middle its height is the sum of 1 / (k + 1)^2
    over k >= m, equation 2 of the paper.
    """
    table = torch.zeros(largest + 1, largest, largest)
    for side in range(1, largest + 1):
        half = side // 2
        for sign, first, rows in ((1, 0, half), (-1, half, side - half)):
            down = (torch.arange(rows) - rows // 2).abs()[:, None]
            across = (torch.arange(side) - side // 2).abs()
            heights = torch.arange(1, side // 2 + 2).double().pow(-2).flip(0).cumsum(0).flip(0)
            peak = heights[torch.maximum(down, across)]
            table[side, first : first + rows, :side] = sign * peak / peak.norm().clamp_min(1e-12)
    return table / _length(table, (1, 2)).clamp_min(1e-12)
