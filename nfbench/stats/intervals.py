"""Intervals for rates, for rates at a calibrated threshold, for means over seeds and for differences.

Rates lie in [0, 1]. Every interval is two-sided at `level`, 95 % unless told otherwise, and keeps a
width where the observed rate is 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench.stats.two_sources import Sources, reach

Vector = NDArray[Any]

PRIOR_IMAGES = 4.0
"""Informative images that the binomial variance counts for beside an estimated one."""


class Interval(NamedTuple):
    """Where a number may lie; both ends belong to it."""

    low: float
    high: float


def normal_quantile(level: float) -> float:
    """How many standard errors a two-sided interval reaches to either side: 1.96 at 95 %."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def student_quantile(level: float, degrees: float) -> float:
    """The same where the standard error itself was estimated with so many degrees of freedom."""
    from scipy.special import stdtrit

    if math.isinf(degrees):
        return normal_quantile(level)
    return float(stdtrit(degrees, (1 + level) / 2))


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Score interval of a rate (Wilson 1927).

    Args:
        successes: how many of `n`; need not be whole where `n` is an effective number.
        n: images, or as many independent ones as the estimate is worth; above 0.
        level: coverage.

    Raises:
        ValueError: `n` is not above 0, or `successes` are not between 0 and `n`.
    """
    if not (n > 0 and -1e-9 <= successes <= n * (1 + 1e-9)):
        raise ValueError(f"{successes:g} successes of {n:g} are no rate")
    z, rate = normal_quantile(level), min(max(successes / n, 0.0), 1.0)
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low, high = ((centre + side * half) / (1 + z * z / n) for side in (-1, 1))
    return Interval(0.0 if rate == 0 else max(low, 0.0), 1.0 if rate == 1 else min(high, 1.0))


def threshold_variance(
    share: Callable[[Vector], Vector], calibration: Vector, fpr: float
) -> tuple[float, float]:
    """A rate at the calibrated threshold, and how much of its variance the threshold's error makes.

    The threshold is the order statistic of rank r = ceil((m + 1)(1 - fpr)) of m calibration scores.
    Were the scores resampled, it would be at most the j-th of them with the probability that a
    binomial variable of m trials and success probability j / m is at least r; so the bootstrap
    distribution of the rate is known, and its variance is a sum, not a simulation.

    Args:
        share: the rate at each of some thresholds, (m,) -> (m,).
        calibration: scores of held-out clean images, (m,).
        fpr: nominal false-alarm rate.

    Raises:
        ValueError: there are too few calibration scores for the rank to exist.
    """
    from scipy.special import betainc

    scores = np.sort(np.asarray(calibration, dtype=np.float64))
    m = len(scores)
    rank = math.ceil((m + 1) * (1 - fpr) - 1e-9)
    if not 0 < rank <= m:
        raise ValueError(f"{m} calibration images leave no threshold at a rate of {fpr:g}")
    upto = betainc(rank, m - rank + 1, np.arange(m + 1) / m)  # P(resampled threshold <= j-th score)
    weights, rates = np.diff(upto), share(scores)
    mean = float(weights @ rates)
    return float(rates[rank - 1]), float(weights @ (rates - mean) ** 2)


def evasion_rate(lowest: Vector, calibration: Vector, fpr: float, *, level: float = 0.95) -> Interval:
    """Interval of SR: the share of S* at most the threshold; infinity never counts.

    It covers the rate at the threshold that has the false-alarm rate `fpr` indeed: the threshold's
    own sampling error is in it, as if calibration and test images were both drawn again.

    Args:
        lowest: S* of each attacked image, (n,).
        calibration: scores of the clean images that the threshold came from, (m,).
        fpr: nominal false-alarm rate.
        level: coverage.
    """
    return at_threshold(evaded_shares(lowest), len(lowest), calibration, fpr, level=level)


def alarm_rate(scores: Vector, calibration: Vector, fpr: float, *, level: float = 0.95) -> Interval:
    """Interval of the share of scores strictly above the threshold; else as `evasion_rate`."""
    ordered = _ordered(scores)

    def share(taus: Vector) -> Vector:
        return 1 - np.searchsorted(ordered, taus, side="right") / len(ordered)

    return at_threshold(share, len(ordered), calibration, fpr, level=level)


def at_threshold(
    share: Callable[[Vector], Vector],
    n: int,
    calibration: Vector,
    fpr: float,
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of any rate over `n` images that depends on the calibrated threshold.

    The binomial variance and the threshold's are added; Wilson's interval is taken of as many
    independent images as have that variance.
    """
    rate, added = threshold_variance(share, calibration, fpr)
    return effective(rate, binomial_variance(rate, n, level) + added, n, level=level)


def evaded_shares(lowest: Vector) -> Callable[[Vector], Vector]:
    """SR as a function of thresholds; infinity never counts."""
    values = _ordered(lowest)
    finite = values[values < np.inf]

    def share(taus: Vector) -> Vector:
        return np.asarray(np.searchsorted(finite, taus, side="right") / len(values))

    return share


def binomial_variance(rate: float, n: float, level: float = 0.95) -> float:
    """Variance of a rate over n images, at Wilson's centre, so that it is above 0 at 0 and 1."""
    z = normal_quantile(level)
    centre = (rate * n + z * z / 2) / (n + z * z)
    return centre * (1 - centre) / n


def effective(rate: float, variance: float, n: float, *, level: float = 0.95) -> Interval:
    """Wilson's interval of as many images as make a rate as uncertain as `variance` says.

    Args:
        rate: the estimate, in [0, 1].
        variance: of the estimate; above 0, `binomial_variance` where nothing else is known.
        n: images that it rests on.
        level: coverage.
    """
    worth = n * binomial_variance(rate, n, level) / variance
    return wilson(rate * worth, worth, level=level)


def steadied(variance: float, informative: float, rate: float, n: float, level: float = 0.95) -> float:
    """An estimated variance where many images are informative, the binomial one where few are.

    Args:
        variance: the estimate.
        informative: how many images it rests on, see `participation`.
        rate: what it is the variance of, in [0, 1].
        n: images.
        level: of the interval it is for.
    """
    trust, doubt = informative**2, PRIOR_IMAGES**2
    return (trust * variance + doubt * binomial_variance(rate, n, level)) / (trust + doubt)


def participation(contributions: Vector) -> float:
    """As how many equally large contributions these weigh, (n,) -> [0, n]; 0 where all are 0."""
    sizes = np.abs(np.asarray(contributions, dtype=np.float64))
    largest = sizes.max(initial=0.0)
    if largest == 0:
        return 0.0
    squares = (sizes / largest) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


def over_seeds(
    values: Vector,
    contributions: Vector,
    *,
    n: int | None = None,
    threshold: float = 0.0,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean over seeds of a rate or an AUROC, where the seeds share their images.

    The spread between seeds holds the variance of training and of secrets, not that of the images
    all seeds share, which the contributions add (`shared_variance`); each counts with its own degrees
    of freedom (`two_sources`), so that the interval is Student's with S - 1 where the images add
    nothing. A bootstrap over three seeds would cover 73 %.
    The interval is Wilson's of as many images as have this variance: it stays in [0, 1], and has a
    width where all seeds agree. Of one seed it is the interval over images alone.

    Args:
        values: one a seed, (S,), in [0, 1].
        contributions: of each image to each seed's error, (S, I), see `shared_variance`.
        n: images that a seed rests on, all of them unless given.
        threshold: mean variance that the calibrated threshold adds (`threshold_variance`); seeds share
            the calibration images too, so it counts once and not once a seed.
        level: coverage.
    """
    values, rows = np.asarray(values, dtype=np.float64), np.asarray(contributions, dtype=np.float64)
    mean, seeds, n = float(values.mean()), len(values), n or rows.shape[1]
    between = float(values.var(ddof=1)) / seeds if seeds > 1 else 0.0
    informative = participation(rows.mean(0))
    shared = steadied(shared_variance(rows), informative, mean, n, level) + threshold
    sources = Sources(between, seeds - 1, shared, math.inf)
    return effective(mean, (reach(sources, level=level) / normal_quantile(level)) ** 2, n, level=level)


def shared_variance(contributions: Vector) -> float:
    """Variance of the mean over seeds that stems from the images which all seeds share.

    The mean over pairs of different seeds of their covariance; of one seed its variance.

    Args:
        contributions: what each image adds to the error of each seed's estimate, (S, I), so that the
            sum of a row's squares is the variance of its estimate; 0 where a seed lacks an image.
            Of a rate over n images it is (success - rate) / n, of an AUROC `Influence.total`.
    """
    rows = np.asarray(contributions, dtype=np.float64)
    squares = float((rows**2).sum())
    if len(rows) == 1:
        return squares
    pairs = len(rows) * (len(rows) - 1)
    return max(0.0, (float((rows.sum(0) ** 2).sum()) - squares) / pairs)


def aligned(images: Sequence[Vector], contributions: Sequence[Vector]) -> Vector:
    """Contributions of several seeds side by side: lists of S vectors (n_s,) -> (S, I), 0 where none."""
    everyone = np.unique(np.concatenate(images))
    rows = np.zeros((len(images), len(everyone)))
    for row, names, values in zip(rows, images, contributions, strict=True):
        row[np.searchsorted(everyone, names)] = values
    return rows


def difference(rate: float, own: Interval, other_rate: float, other: Interval) -> Interval:
    """Interval of `rate - other_rate` of two independent estimates, from their own intervals.

    Newcombe's hybrid score (1998, Statistics in Medicine 17, 873-890, method 10) where these are
    Wilson's; the recovery of variances from limits of Zou & Donner (2008) for any others.
    """
    value = rate - other_rate
    below = math.hypot(rate - own.low, other.high - other_rate)
    above = math.hypot(own.high - rate, other_rate - other.low)
    return Interval(value - below, value + above)


def _ordered(scores: Vector) -> Vector:
    scores = np.sort(np.asarray(scores, dtype=np.float64))
    if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
        raise ValueError("scores must be a non-empty vector without NaN")
    return scores
