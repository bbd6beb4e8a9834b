"""How much of a classifier is left behind its detector: robust accuracy with reject, and RAUC.

Robust accuracy counts attempted images, not attacked ones: clean errors and clean rejections are the
defense's failures too. *Strict*: classified correctly, accepted when clean, and never misclassified and
accepted. *Lenient*: no version of the image, clean or attacked, is misclassified and accepted; to reject
costs nothing (the two readings of Tramèr 2022, arXiv:2107.11630).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from nfbench.records import Value
from nfbench.report.metrics import Vector
from nfbench.report.values import sure
from nfbench.stats.intervals import Interval, binomial_variance, effective, normal_quantile

Shares = Callable[[Vector], Vector]


def strict(vectors: Mapping[str, Vector]) -> Shares:
    """Strict robust accuracy as a function of thresholds, (T,) -> (T,)."""
    begin, end = _safe(vectors)
    first, last = np.sort(begin), np.sort(end[end < np.inf])
    total = len(vectors["test_label"])

    def share(taus: Vector) -> Vector:
        accepted = np.searchsorted(first, taus, side="right")
        return np.asarray((accepted - np.searchsorted(last, taus, side="right")) / total)

    return share


def lenient(vectors: Mapping[str, Vector]) -> Shares:
    """Lenient robust accuracy as a function of thresholds, (T,) -> (T,)."""
    correct = _correct(vectors)
    worst = np.concatenate(
        [vectors["evasion_score"].astype(np.float64), vectors["test_score"][~correct].astype(np.float64)]
    )
    fatal = np.sort(worst[worst < np.inf])  # each image's lowest score while misclassified
    total = len(vectors["test_label"])

    def share(taus: Vector) -> Vector:
        return np.asarray(1 - np.searchsorted(fatal, taus, side="right") / total)

    return share


def rauc(vectors: Mapping[str, Vector], *, upto: float = 1.0) -> Value:
    """Area under strict robust accuracy / (1 - p) against the false-alarm rate p in (0, upto].

    Nobody's strict robust accuracy exceeds 1 - p, so what nobody can reach is divided out: 1 is
    perfect. The threshold of rate p is an order statistic of the m calibration scores, so the area is
    a mean over those ranks r, of strict(tau_r) (m + 1) / r. The interval has the error of the
    attempted images and, by its influence function, that of the calibration scores.
    """
    taus = np.sort(vectors["calibration_score"].astype(np.float64))
    m, total = len(taus), len(vectors["test_label"])
    ranks = np.arange(1, m + 1)
    used = ranks >= (1 - upto) * (m + 1) - 1e-9
    if not used.any() or not np.isfinite(taus).all():
        return Value(value=None, flag=f"{m} calibration images leave no threshold there")
    level = ranks / (m + 1)
    share = strict(vectors)(taus)
    value = float((share[used] / level[used]).mean())
    weights = np.where(used, 1 / level, 0) / used.sum()
    begin, end = _safe(vectors)
    above = np.concatenate([[0.0], np.cumsum(weights)])
    gained = above[np.searchsorted(taus, end, side="left")]
    images = gained - above[np.minimum(np.searchsorted(taus, begin, side="left"), m)]
    everyone = np.concatenate([np.maximum(images, 0), np.zeros(total - len(images))])
    bounded = min(max(value, 0.0), 1.0)
    variance = float(everyone.var(ddof=1)) / total if total > 1 else 0.0
    variance = max(variance, binomial_variance(bounded, total))  # few images may tell it from 0 or 1
    variance += _calibration_variance(share, level, used)
    score, half = effective(bounded, variance, total), normal_quantile(0.95) * math.sqrt(variance)
    low, high = min(score.low, max(0.0, value - half)), max(score.high, min(1.0, value + half))
    return sure(bounded, Interval(low, high))


def _calibration_variance(share: Vector, level: Vector, used: Vector) -> float:
    """Variance that the calibration scores add to the area, from their influence on it."""
    m = len(level)
    own = np.where(used, share / level, 0)
    slope = np.where(used, share / level**2, 0)
    later = np.cumsum(slope[::-1])[::-1]  # sum over thresholds at or above one
    first = int(np.argmax(used))
    edge = np.where(np.arange(m) <= first, 1 - level[first], -level[first])
    boundary = share[first] / level[first] * edge if first else 0.0
    influence = own - later / m + (slope * level).sum() / m + boundary
    centred = (influence - influence.mean()) / (used.sum() / m)
    return float((centred**2).mean()) / m


def _correct(vectors: Mapping[str, Vector]) -> Vector:
    return np.asarray(vectors["test_prediction"] == vectors["test_label"])


def _safe(vectors: Mapping[str, Vector]) -> tuple[Vector, Vector]:
    """Of each correct image the threshold from which it is accepted, and that from which it is lost."""
    begin = vectors["test_score"][_correct(vectors)].astype(np.float64)
    return begin, np.maximum(begin, vectors["evasion_score"].astype(np.float64))
