"""Rank metrics under thousands of resamples of the images at once.

A resample is a vector of counts: how often each image was drawn. Scores are sorted once, and a metric
under all resamples is a few sums along that order. An image is drawn with all its scores, clean and
adversarial, so what these have in common is kept.

Scores: higher = more suspicious; positives are adversarial; infinities are allowed, NaN is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.stats.auroc import checked, influence
from nfbench.stats.intervals import Interval, effective, participation, steadied

Vector = NDArray[Any]

DRAWS = 2000
"""Resamples behind an interval."""
MOST_WEIGHTS = 2_000_000
"""Weights held at once, 16 MB; more images are resampled in blocks."""


@lru_cache(maxsize=2)
def draws(n: int, count: int = DRAWS, seed: int = 0) -> Vector:
    """How often each of n images is drawn in each of so many resamples; read-only.

    The same for all cells of n images, so that their replicates can be compared. (count, n); rows sum
    to n.
    """
    chosen = np.random.default_rng(seed).integers(n, size=(count, n))
    chosen = chosen * count + np.arange(count)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=n * count).reshape(n, count).astype(np.float64)
    counts.flags.writeable = False
    return counts.T  # an image's counts lie side by side, as they are read


@dataclass(frozen=True)
class Levels:
    """Two weighted samples along the scores of the adversarial one, under B weightings.

    L is the number of different adversarial scores; level 0 is the highest.
    """

    hits: Vector
    """Adversarial weight at or above each level, (L, B)."""
    below: Vector
    """Clean weight below each level, (L, B)."""
    upto: Vector
    """Clean weight at or below each level, (L, B)."""
    clean_total: Vector
    """(B,)."""

    @property
    def steps(self) -> Vector:
        """Adversarial weight of each level itself, (L, B)."""
        return np.diff(self.hits, axis=0, prepend=0.0)


def levels(
    clean: Vector, adversarial: Vector, clean_weights: Vector, adversarial_weights: Vector
) -> Levels:
    """Lays out both samples for the metrics below.

    Args:
        clean: scores of negatives, (N,).
        adversarial: scores of positives, (M,).
        clean_weights: of each negative under each resample, (B, N): a selection of the columns of
            `draws`, one of them twice where an image has two negatives.
        adversarial_weights: of each positive, (B, M).

    Raises:
        ValueError: a vector is empty or has NaN.
    """
    clean, adversarial = checked("clean", clean), checked("adversarial", adversarial)
    order, falling = np.argsort(clean), np.argsort(-adversarial)
    ordered, scores = clean[order], adversarial[falling]
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    summed = np.zeros((len(clean) + 1, len(clean_weights)))
    np.cumsum(clean_weights.T[order], axis=0, out=summed[1:])
    hits = np.cumsum(adversarial_weights.T[falling], axis=0)
    left, right = (np.searchsorted(ordered, scores[ends], side=side) for side in ("left", "right"))
    below = summed[left]
    upto = below if (left == right).all() else summed[right]
    return Levels(hits if len(ends) == len(scores) else hits[ends], below, upto, summed[-1])


def auroc(at: Levels) -> Vector:
    """Probability that an adversarial score lies above a clean one, ties one half, (B,)."""
    right = np.einsum(
        "lb,lb->b", at.steps, at.below if at.upto is at.below else (at.below + at.upto) / 2
    )
    return np.asarray(_over(right, at.clean_total * at.hits[-1]))


def average_precision(at: Levels) -> Vector:
    """Area under precision against recall, stepwise, at the resample's own prevalence, (B,)."""
    alarms = at.clean_total - at.below
    precision = at.hits / np.maximum(at.hits + alarms, 1.0)
    return np.asarray(_over(np.einsum("lb,lb->b", at.steps, precision), at.hits[-1]))


def fpr_at_tpr(at: Levels, tpr: float = 0.95) -> Vector:
    """Share of clean weight rejected where at least `tpr` of the adversarial weight is, (B,)."""
    needed = np.ceil(tpr * at.hits[-1] - 1e-9)
    cut = np.minimum((at.hits < needed).sum(axis=0), len(at.hits) - 1)
    below = np.take_along_axis(at.below, cut[None], axis=0)[0]
    return np.asarray(_over(at.clean_total - below, at.clean_total))


def thresholds(calibration: Vector, weights: Vector, fpr: float) -> Vector:
    """The threshold of each resample of the calibration images, (m,) and (B, m) -> (B,).

    The order statistic of rank ceil((m + 1)(1 - fpr)); NaN where there is no such rank.
    """
    scores = checked("calibration", calibration)
    order = np.argsort(scores)
    rank = np.ceil((len(scores) + 1) * (1 - fpr) - 1e-9)
    if not 0 < rank <= len(scores):
        return np.full(len(weights), np.nan)
    reached = np.cumsum(weights.T[order], axis=0) < rank
    return np.asarray(scores[order][np.minimum(reached.sum(axis=0), len(scores) - 1)])


def success_rate(lowest: Vector, weights: Vector, taus: Vector) -> Vector:
    """Share of S* at most the resample's own threshold; infinity never counts.

    Args:
        lowest: S* of each image, (n,).
        weights: of each image under each resample, (B, n).
        taus: thresholds, of resampled calibration images, (B,).
    """
    lowest = checked("lowest", lowest)
    order = np.argsort(lowest)
    finite = np.sort(lowest[lowest < np.inf])
    summed = np.zeros((len(lowest) + 1, len(weights)))
    np.cumsum(weights.T[order], axis=0, out=summed[1:])
    count = np.searchsorted(finite, taus, side="right")
    return np.asarray(_over(np.take_along_axis(summed, count[None], axis=0)[0], summed[-1]))


def percentile(replicates: Vector, *, level: float = 0.95) -> Interval:
    """The middle `level` of a metric's replicates, (B,); a resample without a value is left out."""
    low, high = np.nanquantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def interval(value: float, replicates: Vector, informative: Vector, *, level: float = 0.95) -> Interval:
    """Interval of a metric in [0, 1] from its replicates, that keeps a width at 0 and 1.

    It holds the percentiles, and Wilson's interval of as many images as have the replicates' variance,
    which gives way to the binomial one where few images tell adversarial from clean: near perfection
    all resamples agree, and percentiles alone would claim certainty (coverage of average precision
    .47 at an AUROC of .999 and 50 images, of FPR at 95 % TPR .38 to .9; both together cover .92 to 1).

    Args:
        value: the metric.
        replicates: the same under resamples, (B,).
        informative: what each image adds to the AUROC's error, `Influence.total`, (n,).
        level: coverage.
    """
    n = len(informative)
    variance = float(np.nanvar(replicates))
    steady = steadied(variance, participation(informative), value, n, level)
    one, other = percentile(replicates, level=level), effective(value, steady, n, level=level)
    return Interval(min(one.low, other.low), max(one.high, other.high))


def rank_intervals(
    clean: Vector,
    adversarial: Vector,
    clean_image: Vector | None = None,
    adversarial_image: Vector | None = None,
    *,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals, at 95 %, of `ap` and `fpr_at_95_tpr`, by 2000 resamples of the images.

    Arguments as of `nfbench.stats.auroc.influence`; the images are resampled, with all their scores.
    """
    found = influence(clean, adversarial, clean_image, adversarial_image)
    n = len(found.images)
    negative, positive = (
        np.searchsorted(found.images, np.arange(len(scores)) if images is None else images)
        for scores, images in ((clean, clean_image), (adversarial, adversarial_image))
    )
    block = max(1, min(DRAWS, MOST_WEIGHTS // n))
    replicates = []
    for number, start in enumerate(range(0, DRAWS, block)):
        weights = draws(n, min(block, DRAWS - start), seed + number)
        at = levels(clean, adversarial, _columns(weights, negative), _columns(weights, positive))
        replicates.append((average_precision(at), fpr_at_tpr(at)))
    own = levels(clean, adversarial, np.ones((1, len(clean))), np.ones((1, len(adversarial))))
    values = average_precision(own), fpr_at_tpr(own)
    rows: Vector = np.concatenate(replicates, axis=1)
    names = ("ap", "fpr_at_95_tpr")
    return {
        name: interval(float(value[0]), row, found.total)
        for name, value, row in zip(names, values, rows, strict=True)
    }


def _columns(weights: Vector, chosen: Vector) -> Vector:
    """Weights of chosen images, (B, n) -> (B, m), laid out as they came."""
    everyone = np.array_equal(chosen, np.arange(weights.shape[1]))
    return weights if everyone else np.asarray(weights.T[chosen].T)


def _over(part: Vector, whole: Vector) -> Vector:
    """Quotients; NaN where a resample has nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))
