"""How many images and seeds it takes to tell two rows apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.stats.intervals import shared_variance
from nfbench.stats.two_sources import Sources, reach

Vector = NDArray[Any]

MOST_IMAGES = 10_000_000
"""What needs more images is called out of reach."""


@dataclass(frozen=True)
class Components:
    """What makes the difference of two rows vary, as variances of a single image of a single seed."""

    seeds: float
    """Of the mean over all images, from seed to seed."""
    images: float
    """Of an image's mean over all seeds."""
    interaction: float
    """Of what is left: images that matter with one seed and not with another."""
    basis: str
    """Where these come from, a sentence."""

    def variance(self, n: int, seeds: int) -> float:
        """Of the mean difference over n images and so many seeds.

        With one seed it is of these two artifacts, and the seeds' part is left out.
        """
        if seeds == 1:
            return (self.images + self.interaction) / n
        return self.seeds / seeds + self.images / n + self.interaction / (n * seeds)

    def sources(self, n: int, seeds: int) -> Sources:
        """The same as a test would estimate it on average."""
        if seeds == 1:
            return Sources(0.0, 1.0, self.variance(n, 1), max(n - 1.0, 1.0))
        between = self.seeds / seeds + self.interaction / (n * seeds)
        return Sources(between, seeds - 1.0, self.images / n, max(n - 1.0, 1.0))


def assumed(*, disagreement: float = 0.5, seed_deviation: float = 0.05) -> Components:
    """Components without a pilot: a bound for the images, an assumption for the seeds.

    Args:
        disagreement: share of images that just one of the two rows loses. Two independent rows
            disagree on at most one half; the images' variance is no larger than this share.
        seed_deviation: standard deviation of the difference from seed to seed; nothing bounds it
            usefully, so measure it.
    """
    basis = (
        f"no pilot: rows that disagree on {disagreement:.0%} of the images (the most that independent "
        f"rows can), and an assumed {seed_deviation:g} of standard deviation between seeds"
    )
    return Components(seed_deviation**2, disagreement, 0.0, basis)


def piloted(rows: Mapping[str, Vector]) -> Components:
    """Components from a pilot: the mean over all pairs of rows.

    Args:
        rows: by name, (S, I) each, at least two, on one list of images; NaN where a row lacks one.

    Raises:
        ValueError: no two rows share two images.
    """
    found = [one for a, b in combinations(rows.values(), 2) if (one := _components(a, b)) is not None]
    if not found:
        raise ValueError("a pilot needs two rows with at least two common images")
    seeds, images, interaction = np.mean([one[:3] for one in found], axis=0).tolist()
    least = min(one[3] for one in found)
    basis = f"a pilot of {len(found)} pairs of rows"
    if least == 1:
        basis += " with one seed: what differs between seeds is unknown and left out"
    return Components(seeds, images, interaction, basis)


def _components(a: Vector, b: Vector) -> tuple[float, float, float, int] | None:
    """Seeds, images, interaction and the number of seeds, from images that all seeds have."""
    gaps = np.atleast_2d(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
    gaps = gaps[~np.isnan(gaps).all(axis=1)]
    gaps = gaps[:, ~np.isnan(gaps).any(axis=0)]
    seeds, n = gaps.shape
    if not seeds or n < 2:
        return None
    means = gaps.mean(axis=1, keepdims=True)
    centred = (gaps - means) / math.sqrt(n - 1)
    images = shared_variance(centred)
    if seeds == 1:
        return 0.0, images, 0.0, 1
    interaction = max(0.0, float((centred**2).sum()) / seeds - images)
    return max(0.0, float(means.var(ddof=1)) - interaction / n), images, interaction, seeds


def detectable(
    n: int,
    seeds: int,
    components: Components,
    *,
    pairs: int = 1,
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    """Smallest difference that the first step of Holm's test over so many pairs finds so often.

    Args:
        n: common images.
        seeds: of each row; 1 speaks of the two artifacts.
        components: `piloted` or `assumed`.
        pairs: comparisons on the board, R (R - 1) / 2.
        level: 1 - the chance of any false order.
        power: the chance to find the difference.
    """
    from scipy.special import stdtrit

    sources = components.sources(n, seeds)
    known = sources.seeds**2 / sources.seed_degrees + sources.images**2 / sources.image_degrees
    degrees = sources.variance**2 / known if known > 0 else 1e9
    missed = float(stdtrit(degrees, power)) * math.sqrt(sources.variance)
    return reach(sources, level=1 - (1 - level) / pairs) + missed


def images_needed(
    difference: float,
    components: Components,
    *,
    seeds: Iterable[int] = (1, 3, 5, 10),
    pairs: int = 1,
    level: float = 0.95,
    power: float = 0.8,
) -> dict[int, int | None]:
    """Common images that tell such a difference apart, by number of seeds; None: no number does.

    Raises:
        ValueError: the difference is not in (0, 1].
    """
    if not 0 < difference <= 1:
        raise ValueError(f"a difference of rates lies in (0, 1], not {difference:g}")

    def enough(count: int, n: int) -> bool:
        return detectable(n, count, components, pairs=pairs, level=level, power=power) <= difference

    return {count: _least(partial(enough, count)) for count in seeds}


def _least(enough: Callable[[int], bool]) -> int | None:
    """The smallest n from 2 on that is enough, if all larger ones are."""
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_IMAGES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
