"""What holds at one threshold: detection, success of the attack, and how much an alarm is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nfbench.records import Value
from nfbench.report import metrics, robustness
from nfbench.report.metrics import Vector
from nfbench.report.values import at_rate, rate, threshold
from nfbench.stats.intervals import evaded_shares

FPRS = {1: 0.01, 5: 0.05, 10: 0.10, 50: 0.50}
LEAST_FOR_1 = 1000
"""Calibration images below which a nominal 1 % false-alarm rate is too uncertain to report."""
BASE_RATES = (100, 1_000, 10_000, 100_000, 1_000_000)
"""Clean images for each attacked one, where alarms are counted."""


def at(percent: int, vectors: Mapping[str, Vector], *, follows: bool = False) -> dict[str, Value]:
    """The metrics of one nominal false-alarm rate; null, with the reason, where it has no threshold.

    Args:
        percent: the rate.
        vectors: of the cell.
        follows: whether the attack aims at the threshold and would have followed another, whose error
            is then no error of its success.
    """
    calibration, fpr = vectors["calibration_score"], FPRS[percent]
    names = [f"tpr_at_{percent}_fpr", f"sr_at_{percent}_fpr", f"fpr_realised_at_{percent}"]
    names += [f"robust_accuracy_at_{percent}", f"robust_accuracy_lenient_at_{percent}"]
    names += [f"sr_at_{percent}_fpr_8bit"]
    n = len(calibration)
    tau = metrics.threshold(calibration, fpr)
    if math.isnan(tau) or (percent == 1 and n < LEAST_FOR_1):
        flag = f"{n} calibration images; {LEAST_FOR_1 if percent == 1 else 'more'} needed"
        return {name: Value(value=None, flag=flag) for name in names}
    returned, attempted = vectors["adversarial_score"], len(vectors["test_label"])
    detected = np.sort(metrics.checked("adversarial", returned))

    def tpr(taus: Vector) -> Vector:
        return np.asarray(1 - np.searchsorted(detected, taus, side="right") / len(detected))

    values = [
        at_rate(tpr, len(returned), calibration, fpr),
        success(vectors["evasion_score"], calibration, fpr, follows=follows),
        rate(vectors["test_score"] > tau),
        at_rate(robustness.strict(vectors), attempted, calibration, fpr),
        at_rate(robustness.lenient(vectors), attempted, calibration, fpr),
        success(vectors["evasion_score_8bit"], calibration, fpr, follows=follows),
    ]
    found = dict(zip(names, values, strict=True))
    return found | {f"threshold_at_{percent}": threshold(calibration, fpr)}


def success(evasion: Vector, calibration: Vector, fpr: float, *, follows: bool = False) -> Value:
    """SR: the share of S* at or below the threshold of a false-alarm rate; `follows` as in `at`."""
    if follows:
        return rate(metrics.evaded(metrics.threshold(calibration, fpr), evasion))
    return at_rate(evaded_shares(evasion), len(evasion), calibration, fpr)


def alarm_precision(detection: Value, alarms: Value) -> dict[str, Value]:
    """Of all alarms the share that an attack caused, where one image in so many is attacked.

    detection / (detection + alarms x clean images for each attacked one). The limits are those of
    both rates at their worst and at their best together, so they are wide rather than narrow.
    """
    found = {}
    for base in BASE_RATES:
        name = f"alarm_precision_1_in_{base}"
        if detection.value is None or alarms.value is None:
            found[name] = Value(value=None, flag=detection.flag or alarms.flag)
            continue
        best = _precision(detection.high or 0.0, alarms.low or 0.0, base)
        worst = _precision(detection.low or 0.0, alarms.high or 0.0, base)
        value = _precision(detection.value, alarms.value, base)
        flag = "" if value is not None else "no alarm at all"
        found[name] = Value(value=value, low=worst, high=1.0 if best is None else best, flag=flag)
    return found


def _precision(detection: float, alarms: float, base: int) -> float | None:
    everything = detection + alarms * base
    return detection / everything if everything > 0 else None
