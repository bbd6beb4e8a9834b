"""What a study concludes from a few seeds: means, shares and spreads, each with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.records import Value
from nfbench.stats.intervals import over_seeds, student_quantile

Vector = NDArray[Any]

ALONE = "one seed: no interval"
"""What is said of a number that has none."""


def mean(values: Sequence[float] | Vector, *, bounded: bool = False, flag: str = "") -> Value:
    """The mean over seeds with Student's interval.

    Args:
        values: one a seed, (S,).
        bounded: whether they lie in [0, 1], and so must the interval.
        flag: what a reader must know of it.
    """
    values = np.asarray(values, dtype=np.float64)
    centre = float(values.mean())
    if len(values) == 1:
        return Value(value=centre, flag="; ".join(filter(None, (flag, ALONE))))
    half = student_quantile(0.95, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    low, high = centre - half, centre + half
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return Value(value=centre, low=low, high=high, flag=flag)


def geometric_mean(values: Sequence[float] | Vector, *, flag: str = "") -> Value:
    """The same of the logarithms of positive numbers, such as ratios, turned back."""
    logs = mean(np.log(values), flag=flag)
    assert logs.value is not None
    if logs.low is None or logs.high is None:
        return Value(value=math.exp(logs.value), flag=logs.flag)
    low, high = math.exp(logs.low), math.exp(logs.high)
    return Value(value=math.exp(logs.value), low=low, high=high, flag=logs.flag)


def share(hits: Vector, threshold: float = 0.0) -> Value:
    """The share of hits over seeds that share their images, (S, I), as `over_seeds` has it.

    Args:
        hits: booleans.
        threshold: variance that a calibrated threshold adds.
    """
    hits = np.asarray(hits, dtype=np.float64)
    rates = hits.mean(1)
    span = over_seeds(rates, (hits - rates[:, None]) / hits.shape[1], threshold=threshold)
    return Value(value=float(rates.mean()), **span._asdict())
