"""Numbers with their intervals, as result files hold them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nfbench.records import Value
from nfbench.report import metrics
from nfbench.report.metrics import Vector
from nfbench.stats import auroc as aurocs
from nfbench.stats.bootstrap import rank_intervals
from nfbench.stats.intervals import Interval, at_threshold, difference, student_quantile, wilson


def sure(value: float, interval: Interval, flag: str = "") -> Value:
    """A number and its interval."""
    return Value(value=value, low=interval.low, high=interval.high, flag=flag)


def rate(hits: Vector, empty: str = "no image") -> Value:
    """The share of a vector of booleans, with Wilson's interval; null where there is none."""
    if not len(hits):
        return Value(value=None, flag=empty)
    return sure(float(hits.mean()), wilson(int(hits.sum()), len(hits)))


def mean(values: Vector, empty: str, *, bounded: bool = False) -> Value:
    """The mean over images, with Student's interval; null where there is none.

    Args:
        values: one number an image.
        empty: what to say where there is none.
        bounded: whether the values lie in [0, 1], and so must the interval.
    """
    if not len(values):
        return Value(value=None, flag=empty)
    centre = float(values.mean())
    around = wilson(centre * len(values), len(values)) if bounded else None
    if len(values) == 1:
        if around is not None:
            return sure(centre, around)
        return Value(value=centre, flag="one image: no interval")
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = student_quantile(0.95, len(values) - 1) * error
    low, high = centre - half, centre + half
    if around is not None:  # where all images agree, Student's has no width
        low, high = max(min(low, around.low), 0.0), min(max(high, around.high), 1.0)
    return Value(value=centre, low=low, high=high)


def deviation(values: Vector, empty: str) -> Value:
    """The standard deviation of a sample, with the interval that chi-square gives normal values."""
    from scipy.stats import chi2

    degrees = len(values) - 1
    if degrees < 1:
        return Value(value=None, flag=empty)
    found = float(np.asarray(values, dtype=np.float64).std(ddof=1))
    low, high = (found * math.sqrt(degrees / float(chi2.ppf(q, degrees))) for q in (0.975, 0.025))
    return Value(value=found, low=low, high=high)


def at_rate(share: Callable[[Vector], Vector], n: int, calibration: Vector, fpr: float) -> Value:
    """A rate over `n` images as a function of thresholds, at the threshold of a false-alarm rate."""
    tau = metrics.threshold(calibration, fpr)
    value = float(share(np.array([tau]))[0])
    return sure(value, at_threshold(share, n, calibration, fpr))


def auroc(
    clean: Vector,
    adversarial: Vector,
    clean_image: Vector | None = None,
    adversarial_image: Vector | None = None,
    *,
    empty: str = "undefined",
) -> Value:
    """AUROC over images that may be in both samples; null where one of these is empty."""
    if not len(clean) or not len(adversarial):
        return Value(value=None, flag=empty)
    interval = aurocs.interval(clean, adversarial, clean_image, adversarial_image)
    return sure(metrics.auroc(clean, adversarial), interval)


def threshold(calibration: Vector, fpr: float) -> Value:
    """The threshold itself; its interval has the order statistics that bracket the quantile."""
    from scipy.stats import binom

    ordered = np.sort(np.asarray(calibration, dtype=np.float64))
    value = metrics.threshold(ordered, fpr)
    if not math.isfinite(value):
        return Value(value=None, flag="infinite clean scores")
    low, high = (int(binom.ppf(q, len(ordered), 1 - fpr)) for q in (0.025, 0.975))
    bounds = [ordered[i] if 0 <= i < len(ordered) else math.inf for i in (low - 1, high)]
    known = [float(b) if math.isfinite(b) else None for b in bounds]  # none where nothing brackets it
    return Value(value=value, low=known[0], high=known[1])


def resampled(clean: Vector, adversarial: Vector) -> dict[str, Value]:
    """Average precision and FPR at 95 % TPR, with intervals by resampling images."""
    spans = rank_intervals(clean, adversarial)
    return {
        "ap": sure(metrics.average_precision(clean, adversarial), spans["ap"]),
        "fpr_at_95_tpr": sure(metrics.fpr_at_tpr(clean, adversarial), spans["fpr_at_95_tpr"]),
    }


def less(one: Value, other: Value) -> Value:
    """The difference of two independent rates, by the intervals of each; null if one is."""
    values = (one.value, one.low, one.high, other.value, other.low, other.high)
    if any(value is None for value in values):
        return Value(value=None, flag=one.flag or other.flag)
    rate_, low, high, subtracted, least, most = (float(value or 0.0) for value in values)
    span = difference(rate_, Interval(low, high), subtracted, Interval(least, most))
    return sure(rate_ - subtracted, span)
