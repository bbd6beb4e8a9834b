"""How sure an AUROC is when clean and adversarial scores come from the same images.

Scores: higher = more suspicious; positives are adversarial; ties count one half; infinities are
allowed, NaN is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.stats.intervals import Interval, effective, participation, steadied

Vector = NDArray[Any]


@dataclass(frozen=True)
class Influence:
    """An AUROC and what each image adds to its error, as its adversarial and as its clean version."""

    value: float
    images: Vector
    """(I,), ascending."""
    adversarial: Vector
    """(I,), sums to 0; 0 for an image without an adversarial score."""
    clean: Vector
    """(I,), sums to 0."""
    counts: tuple[int, int]
    """Images with an adversarial score, with a clean one."""

    @property
    def total(self) -> Vector:
        """(I,): the sum of squares estimates the variance, but for a factor I / (I - 1).

        What is left of two parts that cancel but for rounding counts as nothing.
        """
        both = self.adversarial + self.clean
        size = np.maximum(np.abs(self.adversarial), np.abs(self.clean))
        return np.where(np.abs(both) <= 1e-12 * size, 0.0, both)

    @property
    def variance(self) -> float:
        """Of the AUROC, over images drawn anew with all their scores (Obuchowski 1997, eq. 4-6)."""
        positives, negatives = self.counts
        everyone = len(self.images)
        own = _corrected(positives) * (self.adversarial**2).sum()
        others = _corrected(negatives) * (self.clean**2).sum()
        both = 2 * _corrected(everyone) * (self.adversarial * self.clean).sum()
        return max(0.0, float(own + others + both))


def _corrected(count: int) -> float:
    return count / (count - 1) if count > 1 else 1.0


def placements(clean: Vector, adversarial: Vector) -> tuple[Vector, Vector]:
    """For each score the share of the other kind that lies on its right side; ties count one half.

    Returns:
        share of clean scores below each adversarial one, (M,), and share of adversarial scores above
        each clean one, (N,). The mean of either is the AUROC.
    """
    clean, adversarial = checked("clean", clean), checked("adversarial", adversarial)
    below = _ranks(clean, adversarial)
    above = 1 - _ranks(adversarial, clean)
    return below, above


def _ranks(among: Vector, scores: Vector) -> Vector:
    ordered = np.sort(among)
    left, right = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(ordered)))


def influence(
    clean: Vector,
    adversarial: Vector,
    clean_image: Vector | None = None,
    adversarial_image: Vector | None = None,
) -> Influence:
    """What each image adds to the error of the AUROC; O(n log n).

    Args:
        clean: scores of negatives, (N,).
        adversarial: scores of positives, (M,).
        clean_image: which image each is of, (N,); an image may occur in both, in one, or several
            times. By position where neither is given.
        adversarial_image: the same of the positives, (M,).

    Raises:
        ValueError: a vector is empty or has NaN, or there are more or fewer images than scores.
    """
    below, above = placements(clean, adversarial)
    negative, positive = _images(len(above), clean_image), _images(len(below), adversarial_image)
    value = float(below.mean())
    images, where = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    own, other = where[: len(below)], where[len(below) :]
    return Influence(
        value,
        images,
        np.bincount(own, (below - value) / len(below), len(images)),
        np.bincount(other, (above - value) / len(above), len(images)),
        (len(np.unique(own)), len(np.unique(other))),
    )


def _images(count: int, given: Vector | None) -> Vector:
    images = np.arange(count) if given is None else np.asarray(given)
    if images.shape != (count,):
        raise ValueError(f"{count} scores and images of shape {images.shape}: one image a score")
    return images


def interval(
    clean: Vector,
    adversarial: Vector,
    clean_image: Vector | None = None,
    adversarial_image: Vector | None = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of the AUROC; arguments as of `influence`."""
    return of_influence(influence(clean, adversarial, clean_image, adversarial_image), level=level)


def of_influence(found: Influence, *, level: float = 0.95) -> Interval:
    """Interval of an AUROC from its influences.

    Wilson's interval of as many images as have the clustered variance; where few images decide the
    AUROC, that variance gives way to the binomial one (`steadied`), which is the most that independent
    images can have. At exactly 1 it is [n / (n + 3.84), 1] of n images of the rarer kind.

    Measured (`benchmarks/coverage.py`; AUROC .6 to .999, 50 to 2000 images, ten kinds of scores, among
    them correlations of -.5 to .9, heavy ties and infinite shares): coverage .955 on average, .948 and
    at most .962 where n (1 - AUROC) >= 10, no less than .93 for any AUROC and n; least of a single kind
    .91 at an AUROC of .999, of images that are evaded altogether or not at all, which is Wilson's own
    dip. Wald's interval covers .48 at .999 and 50 images; one shrunk to the variance of Hanley & McNeil
    (1982) instead of the binomial one .81 for that last kind.
    """
    n = min(found.counts)
    variance = steadied(found.variance, participation(found.total), found.value, n, level)
    return effective(found.value, variance, n, level=level)


def checked(what: str, scores: Vector) -> Vector:
    """The scores in double precision.

    Raises:
        ValueError: if there are none, or some are NaN.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
        raise ValueError(f"{what} scores must be a non-empty vector without NaN")
    return scores
