"""How well scores separate adversarial from clean images. Plain functions of score vectors.

Scores: higher = more suspicious; infinities are allowed, NaN is not. Positives are adversarial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.core.threshold import threshold as threshold  # noqa: PLC0414  # part of this page's vocabulary
from nfbench.stats.auroc import checked as checked  # noqa: PLC0414  # likewise

Vector = NDArray[Any]


def auroc(clean: Vector, adversarial: Vector) -> float:
    """Probability that an adversarial image scores above a clean one; ties count one half.

    Exact and from ranks, so any increasing transformation of the scores gives the same value.
    """
    clean, adversarial = checked("clean", clean), checked("adversarial", adversarial)
    ordered = np.sort(clean)
    below = np.searchsorted(ordered, adversarial, side="left")
    upto = np.searchsorted(ordered, adversarial, side="right")
    return float((below + upto).sum() / (2 * len(clean) * len(adversarial)))


def average_precision(clean: Vector, adversarial: Vector) -> float:
    """Area under precision against recall, stepwise, at the prevalence of the two vectors."""
    clean, adversarial = checked("clean", clean), checked("adversarial", adversarial)
    levels = np.unique(adversarial)[::-1]
    hits = len(adversarial) - np.searchsorted(np.sort(adversarial), levels, side="left")
    alarms = len(clean) - np.searchsorted(np.sort(clean), levels, side="left")
    recall_steps = np.diff(hits, prepend=0) / len(adversarial)
    return float((recall_steps * hits / (hits + alarms)).sum())


def fpr_at_tpr(clean: Vector, adversarial: Vector, tpr: float = 0.95) -> float:
    """Share of clean images rejected where at least `tpr` of the adversarial ones are."""
    clean, adversarial = checked("clean", clean), checked("adversarial", adversarial)
    needed = int(np.ceil(tpr * len(adversarial) - 1e-9))
    cut = np.sort(adversarial)[::-1][needed - 1]
    return float((clean >= cut).mean())


def tpr_at(tau: float, adversarial: Vector) -> float:
    """Share of adversarial images rejected at a threshold."""
    return float((checked("adversarial", adversarial) > tau).mean())


def success_rate_at(tau: float, evasion: Vector) -> float:
    """SR: share of attacked images that some misclassified point makes accepted, S* <= tau."""
    return float(evaded(tau, evasion).mean())


def robust_accuracy(tau: float, clean_correct: Vector, clean_scores: Vector, evasion: Vector) -> float:
    """Share of all attempted images that are classified correctly, accepted, and not evaded.

    `evasion` has one value for each *correct* attempted image, in order; clean errors and clean
    rejections count against the defense.
    """
    correct = np.asarray(clean_correct, dtype=bool)
    accepted = np.asarray(clean_scores)[correct] <= tau
    return float((accepted & ~evaded(tau, evasion)).sum() / len(correct))


def evaded(tau: float, evasion: Vector) -> Vector:
    """Where S* <= tau; infinity, never misclassified, is no evasion even if nothing is rejected."""
    lowest = checked("evasion", evasion)
    return np.asarray((lowest <= tau) & (lowest < np.inf))
