"""Student's test of a mean whose variance is the sum of two estimates, such as seeds' and images'.

Satterthwaite's degrees of freedom are too many whenever the few seeds happen to agree: on boards of six
equal rows and three seeds they drew a false line in one of four, where one of twenty was promised. Here
the seeds' true variance is integrated out instead, as in the Behrens-Fisher test, given the estimate.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]

POINTS = 160
"""Of the integral over the seeds' variance."""
KNOWN = 1e9
"""Degrees of freedom with which a variance is as good as known."""


class Sources(NamedTuple):
    """Two parts of the variance of a mean, and how many degrees of freedom each was estimated with."""

    seeds: float
    seed_degrees: float
    images: float
    image_degrees: float

    @property
    def variance(self) -> float:
        return self.seeds + self.images


def chance(value: float, sources: Sources) -> float:
    """Two-sided p of a mean of 0: that estimates with these errors stray from 0 by `value` or more.

    With one source it is Student's t. With two it is the Behrens-Fisher p: the seeds' part of the
    error is its estimate over chi-square, the images' is known much better and enters by the degrees
    of freedom that it has left (Satterthwaite's) given the seeds'. 1 where nothing varies.
    """
    from scipy.special import stdtr

    if sources.variance == 0:
        return 1.0
    if sources.seeds == 0:
        return float(
            2 * stdtr(min(sources.image_degrees, KNOWN), -abs(value) / math.sqrt(sources.images))
        )
    factors, weights = _inflation(sources.seed_degrees)
    total = sources.seeds * factors + sources.images
    left = (total / max(sources.images, 1e-12 * sources.seeds)) ** 2 * sources.image_degrees
    degrees = np.minimum(left, KNOWN)
    return min(1.0, float(weights @ (2 * stdtr(degrees, -abs(value) / np.sqrt(total)))))


def reach(sources: Sources, *, level: float = 0.95) -> float:
    """How far from its estimate the mean may lie: where `chance` is 1 - level."""
    from scipy.optimize import brentq

    if sources.variance == 0:
        return 0.0
    unit, far = math.sqrt(sources.variance), 4.0
    while chance(far * unit, sources) > 1 - level:
        far *= 2
    return unit * float(brentq(lambda t: chance(t * unit, sources) - (1 - level), 0.0, far, xtol=1e-4))


@lru_cache(maxsize=16)
def _inflation(degrees: float) -> tuple[Vector, Vector]:
    """Ratios of a true variance to its estimate, and their probabilities: degrees over chi-square."""
    logs = np.linspace(
        math.log(1e-10 * degrees), math.log(degrees + 12 * math.sqrt(degrees) + 30), POINTS
    )
    density = degrees / 2 * logs - np.exp(logs) / 2
    weights = np.exp(density - density.max())
    return degrees / np.exp(logs), weights / weights.sum()
