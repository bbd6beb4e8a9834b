"""Which rows of a board can be told apart: paired tests, Holm's correction, ranks and letters.

A row is an array (S, I): one number, such as evaded or not, for each seed and image; NaN where a seed
has no such image. Rows are compared over the images they share, seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench.stats.intervals import participation, shared_variance
from nfbench.stats.letters import letters
from nfbench.stats.two_sources import Sources, chance, reach

Vector = NDArray[Any]


class Difference(NamedTuple):
    """A mean difference, its interval, and the chance of one as large were there none."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Ranked:
    """A row and its place among the others."""

    name: str
    value: float
    rank: int
    """Shared by all rows between which no line can be drawn."""
    rank_low: int
    """1 + the number of rows that are better for sure."""
    rank_high: int
    """The number of rows that are not worse for sure."""
    letters: str
    """Rows that share a letter can't be told apart."""


def paired_difference(a: Vector, b: Vector, *, level: float = 0.95) -> Difference:
    """Mean of a - b over seeds and the images that both have.

    Seeds and images are both samples. The spread of the seeds' means holds what differs from seed to
    seed; what the seeds have in common because they share images is added, and each part counts with
    its own degrees of freedom (`two_sources`). With one seed only the images count, and the result is
    about these artifacts, not about the methods.

    Args:
        a: (S, I), or (I,) for one seed; NaN where missing.
        b: the same.
        level: of the interval.

    Returns:
        NaN with p = 1 where no image is common.
    """
    value, sources = _paired(a, b)
    if sources is None:
        return Difference(math.nan, math.nan, math.nan, 1.0)
    half = reach(sources, level=level)
    return Difference(value, value - half, value + half, chance(value, sources))


def _paired(a: Vector, b: Vector, moved: float = 0.0) -> tuple[float, Sources | None]:
    """The mean difference and what makes it vary, `moved` added; no sources without a common image."""
    gaps = np.atleast_2d(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
    known = ~np.isnan(gaps)
    gaps = gaps[known.any(axis=1)][:, known.any(axis=0)]
    known = ~np.isnan(gaps)
    if not known.size:
        return math.nan, None
    counts = known.sum(axis=1, keepdims=True)
    means = np.where(known, gaps, 0).sum(axis=1, keepdims=True) / counts
    rows = np.where(known, gaps - means, 0) / counts
    sources = _sources(means[:, 0], rows, float(np.abs(gaps[known]).max()))
    return float(means.mean()), sources._replace(images=sources.images + moved)


def _sources(means: Vector, rows: Vector, largest: float) -> Sources:
    """What makes the mean of the seeds' means vary.

    One more image that differs as much as the most different one is added to the images' variance, so
    that it is above 0 where all differences agree; and its degrees of freedom follow the kurtosis of
    the differences. So five images of hundreds that all point one way give p = .07 (McNemar's exact
    test: .06), not .03. Rates are rounded to whole images, which may hide a spread of seeds: the
    variance of that rounding is added to theirs.

    Args:
        means: of each seed, (S,).
        rows: of each image to each seed's error, (S, I).
        largest: the largest difference of an image.
    """
    seeds, n = rows.shape
    step = largest / n
    shared = shared_variance(rows) * n / max(n - 1, 1) + step**2
    between = (float(means.var(ddof=1)) + step**2 / 12) / seeds if seeds > 1 else 0.0
    weighing = participation(rows.mean(axis=0))
    free = 2 / (1 / weighing - 1 / n) if 0 < weighing < n else math.inf
    return Sources(between, seeds - 1, shared, max(1.0, min(free, n - 1.0)))


def holm(p: Vector) -> Vector:
    """Holm's (1979) adjusted p-values, in the order given: below 0.05 together at most 5 % false ones.

    The i-th smallest of m is multiplied by m - i + 1, none is less than a smaller one, none above 1.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def separated(
    rows: Mapping[str, Vector],
    *,
    thresholds: Mapping[str, float] | None = None,
    handicaps: Mapping[str, float] | None = None,
    lower_is_better: bool = True,
    level: float = 0.95,
) -> NDArray[np.bool_]:
    """Which row is better than which for sure, (R, R): entry (i, j) says i beats j.

    Every pair is tested, with Holm's correction over all: the chance that any of the trues is false
    is at most 1 - level.
    """
    names, values = list(rows), list(rows.values())
    moved = [(thresholds or {}).get(name, 0.0) for name in rows]
    beats = np.zeros((len(values), len(values)), dtype=bool)
    pairs = list(combinations(range(len(values)), 2))
    ahead, p = [], []
    for i, j in pairs:
        value, sources = _paired(values[i], values[j], moved[i] + moved[j])
        first, second = (i, j) if (value < 0) == lower_is_better else (j, i)
        lead = abs(value) - (handicaps or {}).get(names[first], 0.0)
        ahead.append((first, second))
        p.append(chance(lead, sources) if sources is not None and lead > 0 else 1.0)
    for places, sure in zip(ahead, holm(np.array(p)) <= 1 - level, strict=True):
        beats[places] = sure
    return beats


def ranking(
    rows: Mapping[str, Vector],
    *,
    thresholds: Mapping[str, float] | None = None,
    handicaps: Mapping[str, float] | None = None,
    lower_is_better: bool = True,
    level: float = 0.95,
) -> list[Ranked]:
    """The rows from best to worst, with ranks that claim no order that the data do not show.

    `rank` changes between two neighbours only where each row above is better for sure than each row
    below; so rows that can't be told apart always share it, and so may two that can, linked by others
    between them. `rank_low` to `rank_high` says how far a row's own place is known, and the letters
    which pairs are told apart. All rest on the same tests (`separated`).

    Args:
        rows: by name, (S, I) each, on one list of images; NaN where a row lacks an image.
        thresholds: by name, variance of the row's value that its calibrated threshold's own error
            makes, which the rows themselves do not show; none if left out.
        handicaps: by name, by how much a row may be worse than it looks; it is better than another
            only if it would be by that much less. None if left out.
        lower_is_better: as of the attack's success rate.
        level: 1 - the chance that any order claimed anywhere is false.
    """
    values = np.array([_mean(row) for row in rows.values()])
    order = np.argsort(values if lower_is_better else -values, kind="stable")
    tested = separated(
        rows, thresholds=thresholds, handicaps=handicaps, lower_is_better=lower_is_better, level=level
    )
    beats = tested[np.ix_(order, order)]
    marks = letters(~(beats | beats.T))
    names, ranked, rank = list(rows), list[Ranked](), 1
    for place, row in enumerate(order):
        if beats[:place, place:].all():
            rank = place + 1
        low, high = 1 + int(beats[:, place].sum()), len(order) - int(beats[place].sum())
        ranked.append(Ranked(names[row], float(values[row]), rank, low, high, marks[place]))
    return ranked


def _mean(row: Vector) -> float:
    """Mean over seeds of the mean over the images a seed has; NaN where there is none."""
    row = np.atleast_2d(np.asarray(row, dtype=np.float64))
    means = [float(one[~np.isnan(one)].mean()) for one in row if not np.isnan(one).all()]
    return sum(means) / len(means) if means else math.nan
