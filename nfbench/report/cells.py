"""From a cell's vectors to its metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nfbench.records import CellRecord, Value
from nfbench.report import metrics
from nfbench.report.metrics import Vector

FPRS = {1: 0.01, 5: 0.05, 10: 0.10, 50: 0.50}
LEAST_FOR_1 = 1000
"""Calibration images below which a nominal 1 % false-alarm rate is too uncertain to report."""

BENIGN = ("noise", "brightness", "jpeg", "shift", "8bit")
"""Harmless changes of clean images, by the names of their vectors."""
TURNABLE = ("auroc_returned", "auroc_successes", "auroc_noisy")
"""Statistics that have a value with the oracle's sign; S* takes the score's own sign for granted."""
MOST_LOST = 1.0
"""Points of accuracy that a change may cost and still count as harmless."""


def measures(
    vectors: Mapping[str, Vector], undefended_error: float, *, stopped_at_median: bool = False
) -> dict[str, Value]:
    """Every metric of a cell, by name, from its per-image vectors.

    AUROC has three names (one statistic each): `auroc_returned` over the images the attack returned,
    `auroc_successes` over the misclassified ones only, `auroc_worst` over S*, failures infinite.
    Clean negatives are the clean originals of the attacked images.
    """
    clean, returned = vectors["clean_score"], vectors["adversarial_score"]
    evasion = vectors["evasion_score"].astype(np.float64)
    fooled = vectors["adversarial_prediction"] != vectors["label"]
    calibration = vectors["calibration_score"]
    correct = vectors["test_prediction"] == vectors["test_label"]
    found: dict[str, Value] = {
        "auroc_returned": _value(lambda: metrics.auroc(clean, returned)),
        "auroc_successes": _value(lambda: metrics.auroc(clean, returned[fooled]), "no success"),
        "auroc_worst": _value(lambda: metrics.auroc(clean, evasion)),
        "ap": _value(lambda: metrics.average_precision(clean, returned)),
        "fpr_at_95_tpr": _value(lambda: metrics.fpr_at_tpr(clean, returned)),
        "success_rate": Value(value=float(fooled.mean())),
        "undefended_error": Value(value=undefended_error),
        "clean_accuracy": Value(value=float(correct.mean())),
        "accuracy_under_attack": Value(value=float((~fooled).sum() / len(correct))),
    }
    if stopped_at_median and found["auroc_worst"].value is not None:
        bound = "upper bound: images were left alone once below the clean median"
        found["auroc_worst"] = found["auroc_worst"].model_copy(update={"flag": bound})
    thresholds = {percent: metrics.threshold(calibration, fpr) for percent, fpr in FPRS.items()}
    for percent, tau in thresholds.items():
        found |= _at(percent, tau, len(calibration), vectors, evasion)
    sr5 = found["sr_at_5_fpr"].value
    if sr5 is not None and "fresh_acceptance" in vectors:
        found["sr_at_5_fpr_fresh"] = Value(value=float(vectors["fresh_acceptance"].mean()))
    gain = None if sr5 is None else undefended_error - sr5
    if "half_budget_score" in vectors:
        half = vectors["half_budget_score"].astype(np.float64)
        found["sr_at_5_fpr_at_half_budget"] = _value(
            lambda: metrics.success_rate_at(thresholds[5], half)
        )
    found["gain"] = Value(value=gain, flag=found["sr_at_5_fpr"].flag)
    found |= _negatives(thresholds[5], vectors) | _harmless(thresholds[5], vectors)
    for name in TURNABLE:
        found[f"{name}_oracle_sign"] = _turned(found[name])
    for norm in ("linf", "l2", "l1", "l0"):
        mean = float(vectors[norm][fooled].mean()) if fooled.any() else None
        found[f"mean_{norm}"] = Value(value=mean, flag="" if fooled.any() else "no success")
    if "distance" in vectors:
        near = vectors["distance"][np.isfinite(vectors["distance"])]
        mean = float(near.mean()) if len(near) else None
        found["mean_distance"] = Value(value=mean, flag="" if len(near) else "no success")
    return found


def _at(
    percent: int, tau: float, n: int, vectors: Mapping[str, Vector], evasion: Vector
) -> dict[str, Value]:
    """What holds at one nominal false-alarm rate."""
    names = [f"tpr_at_{percent}_fpr", f"sr_at_{percent}_fpr", f"fpr_realised_at_{percent}"]
    names += [f"robust_accuracy_at_{percent}", f"sr_at_{percent}_fpr_8bit"]
    if math.isnan(tau) or (percent == 1 and n < LEAST_FOR_1):
        flag = f"{n} calibration images; {LEAST_FOR_1 if percent == 1 else 'more'} needed"
        return {name: Value(value=None, flag=flag) for name in names}
    correct = vectors["test_prediction"] == vectors["test_label"]
    values = [
        metrics.tpr_at(tau, vectors["adversarial_score"]),
        metrics.success_rate_at(tau, evasion),
        float((vectors["test_score"] > tau).mean()),
        metrics.robust_accuracy(tau, correct, vectors["test_score"], evasion),
        metrics.success_rate_at(tau, vectors["evasion_score_8bit"]),
    ]
    found = {name: Value(value=value) for name, value in zip(names, values, strict=True)}
    return found | {f"threshold_at_{percent}": _value(lambda: tau, "infinite clean scores")}


def _negatives(tau: float, vectors: Mapping[str, Vector]) -> dict[str, Value]:
    """With noise as large as the attack's among the negatives, and how much of it is rejected."""
    clean, noisy = vectors["clean_score"], vectors["noisy_score"]
    pool, returned = np.concatenate([clean, noisy]), vectors["adversarial_score"]
    kept = vectors["noisy_prediction"] == vectors["label"]
    return {
        "auroc_noisy": _value(lambda: metrics.auroc(pool, returned)),
        "fpr_on_attack_sized_noise_at_5": _alarms(tau, noisy[kept]),
        "accuracy_on_attack_sized_noise": Value(value=float(kept.mean())),
        "mean_l2_of_attack_sized_noise": Value(value=float(vectors["noisy_l2"].mean())),
    }


def _harmless(tau: float, vectors: Mapping[str, Vector]) -> dict[str, Value]:
    """False alarms on harmless changes of the test images that stay correctly classified."""
    correct = vectors["test_prediction"] == vectors["test_label"]
    found = {}
    for name in BENIGN:
        still = vectors[f"benign_{name}_prediction"] == vectors["test_label"]
        drop = 100 * float(correct.mean() - still.mean())
        value = _alarms(tau, vectors[f"benign_{name}_score"][still & correct])
        if drop > MOST_LOST:
            value = value.model_copy(
                update={"flag": f"not harmless here: accuracy drops {drop:.1f} points"}
            )
        found[f"fpr_on_{name}_at_5"] = value
    return found


def _alarms(tau: float, scores: Vector) -> Value:
    if math.isnan(tau) or not len(scores):
        return Value(value=None, flag="no threshold" if len(scores) else "no correct image")
    return Value(value=float((scores > tau).mean()))


def _turned(auroc: Value) -> Value:
    """What a detector would have that knew which way round its score goes."""
    if auroc.value is None:
        return auroc
    return Value(value=max(auroc.value, 1 - auroc.value), flag="uses the test labels to choose the sign")


def _value(compute: Callable[[], float], empty: str = "undefined") -> Value:
    """A metric, or null with a flag where it is not defined."""
    try:
        value = compute()
    except ValueError:
        return Value(value=None, flag=empty)
    return Value(value=value) if math.isfinite(value) else Value(value=None, flag=empty)


def counts(vectors: Mapping[str, Vector]) -> dict[str, int]:
    """How many images each number rests on."""
    fooled = vectors["adversarial_prediction"] != vectors["label"]
    return {
        "attempted": len(vectors["test_label"]),
        "clean": len(vectors["label"]),
        "adversarial": len(vectors["label"]),
        "successful": int(fooled.sum()),
        "calibration": len(vectors["calibration_score"]),
    }


def cost(vectors: Mapping[str, Vector]) -> dict[str, float]:
    """Passes through the victim for each attacked image, on average."""
    return {name: float(vectors[name].mean()) for name in ("forward", "backward")}


def winners(
    vectors: Mapping[str, Vector], objectives: Sequence[str], stages: Sequence[Sequence[str]]
) -> dict[str, int]:
    """How many images' S* each objective, or named stage of one, has found; most first."""
    won = Counter[str]()
    for winner, stage in zip(vectors["winner"].tolist(), vectors["stage"].tolist(), strict=True):
        if winner >= 0:
            part = stages[winner][stage] if stage >= 0 else ""
            objective, within, radius = objectives[winner].partition(" within ")
            won[(part or objective) + within + radius] += 1
    return dict(won.most_common())


def lowest(cells: Sequence[Mapping[str, Vector]]) -> Vector:
    """The lowest S* of each image over several cells of one victim, (B,).

    Cells of one (defense, seed) attack the same images in the same order. Of a stochastic detector it
    is S* of the cell whose image has the lowest expected score, not of the luckiest draw.
    """
    first = cells[0]
    assert all(np.array_equal(cell["index"], first["index"]) for cell in cells)
    evasion = np.stack([cell["evasion_score"].astype(np.float64) for cell in cells])  # (C, B)
    judged = [cell.get("expected_score", cell["evasion_score"]) for cell in cells]
    chosen = np.stack(judged).argmin(0)
    found: Vector = np.take_along_axis(evasion, chosen[None], 0)[0]
    return found


def threshold_at_5(vectors: Mapping[str, Vector]) -> float:
    """Score above which 5 % of clean images are rejected; NaN where there is no such threshold."""
    return metrics.threshold(vectors["calibration_score"], 0.05)


def budget(cell: CellRecord) -> str:
    """The ball, for people: `linf ≤ 0.25`, or the norm alone where it is unbounded."""
    return cell.norm if cell.eps is None else f"{cell.norm} ≤ {cell.eps:.4g}"


def worst_case(cells: Sequence[Mapping[str, Vector]], *, chosen: bool = True) -> dict[str, Any]:
    """AUROC and SR@5 % of the worst case over several attacks on one victim.

    Args:
        cells: what each attack left, of the same images in the same order.
        chosen: whether the attacker can ask the detector which attack served an image best; if not
            he has one attack for all images, and the worst case is the strongest one.
    """
    found = []
    for together in [cells] if chosen else [[cell] for cell in cells]:
        evasion, tau = lowest(together), threshold_at_5(together[0])
        auroc = metrics.auroc(together[0]["clean_score"], evasion)
        rate = None if math.isnan(tau) else metrics.success_rate_at(tau, evasion)
        found.append({"auroc_worst": auroc, "sr_at_5_fpr": rate})
    return max(found, key=lambda one: (one["sr_at_5_fpr"] or 0.0, -one["auroc_worst"]))
