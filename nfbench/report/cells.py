"""From a cell's vectors to its metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from nfbench.records import CellRecord, Value
from nfbench.report import metrics
from nfbench.report.metrics import Vector
from nfbench.report.operating import FPRS, alarm_precision, at, success
from nfbench.report.robustness import rauc
from nfbench.report.values import auroc, less, mean, rate, resampled, sure
from nfbench.stats.intervals import wilson

BENIGN = ("noise", "brightness", "jpeg", "shift", "8bit")
"""Harmless changes of clean images, by the names of their vectors."""
TURNABLE = ("auroc_returned", "auroc_successes", "auroc_noisy")
"""Statistics that have a value with the oracle's sign; S* takes the score's own sign for granted."""
BOUND = "upper bound"
"""How the flag of a number begins that a longer attack could lower."""
BEYOND = "the attack stops at the 5 % threshold and says nothing of lower ones"
_BEYOND = (
    "rauc",
    *(f"sr_at_{p}_fpr{rounded}" for p in (10, 50) for rounded in ("", "_8bit")),
    *(f"robust_accuracy{kind}_at_{p}" for p in (10, 50) for kind in ("", "_lenient")),
    "rauc_to_10",
)
MOST_LOST = 1.0
"""Points of accuracy that a change may cost and still count as harmless."""


class Undefended(NamedTuple):
    """How the attack did against the same architecture trained without the defense."""

    fooled: int
    total: int

    @classmethod
    def of(cls, wrong: Vector) -> Self:
        """Of whether each image fooled that one, (B,) bool."""
        return cls(int(wrong.sum()), len(wrong))

    @property
    def error(self) -> float:
        return self.fooled / self.total


def measures(
    vectors: Mapping[str, Vector],
    undefended: Undefended,
    *,
    stopped_at_median: bool = False,
    aims_at_threshold: bool = False,
) -> dict[str, Value]:
    """Every metric of a cell, by name, from its per-image vectors, with 95 % intervals.

    AUROC has three names (one statistic each): `auroc_returned` over the images the attack returned,
    `auroc_successes` over the misclassified ones only, `auroc_worst` over S*, failures infinite.
    Clean negatives are the clean originals of the attacked images. An attack that stops at the median,
    or aims at the 5 % threshold, says nothing of what lies below that: bounds are called so, and what
    is no bound is null. Intervals are over images, of this
    classifier, detector and secret: `docs/metrics.md` has the method of each.
    """
    found = _ranks(vectors)
    fooled = vectors["adversarial_prediction"] != vectors["label"]
    correct = vectors["test_prediction"] == vectors["test_label"]
    still = np.concatenate([~fooled, np.zeros(len(correct) - len(fooled), dtype=bool)])
    found |= {
        "success_rate": rate(fooled),
        "undefended_error": sure(undefended.error, wilson(*undefended)),
        "clean_accuracy": rate(correct),
        "accuracy_under_attack": rate(still),
    }
    for percent in FPRS:
        found |= at(percent, vectors, follows=aims_at_threshold)
    found |= {"rauc": rauc(vectors), "rauc_to_10": rauc(vectors, upto=0.1)}
    if stopped_at_median or aims_at_threshold:
        found |= _bounded(found, "at the 5 % threshold" if aims_at_threshold else "at the clean median")
    if aims_at_threshold:
        found |= {name: Value(value=None, flag=BEYOND) for name in _BEYOND}
    tau = threshold_at_5(vectors)
    found |= _success(tau, vectors, found)
    found |= alarm_precision(found["tpr_at_5_fpr"], found["fpr_realised_at_5"])
    found |= _negatives(tau, vectors) | _harmless(tau, vectors)
    for name in TURNABLE:
        found[f"{name}_oracle_sign"] = turned(found[name])
    for norm in ("linf", "l2", "l1", "l0"):
        found[f"mean_{norm}"] = mean(vectors[norm][fooled].astype(np.float64), "no success")
    if "distance" in vectors:
        near = vectors["distance"][np.isfinite(vectors["distance"])].astype(np.float64)
        found["mean_distance"] = mean(near, "no success")
    return found


def _bounded(found: Mapping[str, Value], where: str) -> dict[str, Value]:
    """What an attack that stops leaves as an upper bound."""
    flag = f"{BOUND}: the attack leaves images alone {where}"
    known = (n for n in ("auroc_worst", "auroc_worst_8bit", "rauc") if found[n].value is not None)
    return {name: found[name].model_copy(update={"flag": flag}) for name in known}


def _ranks(vectors: Mapping[str, Vector]) -> dict[str, Value]:
    """The metrics that need no threshold."""
    clean, returned, images = (vectors[k] for k in ("clean_score", "adversarial_score", "index"))
    fooled = vectors["adversarial_prediction"] != vectors["label"]
    ordinary, rounded = vectors["evasion_score"], vectors["evasion_score_8bit"]
    return {
        "auroc_returned": auroc(clean, returned),
        "auroc_successes": auroc(clean, returned[fooled], images, images[fooled], empty="no success"),
        "auroc_worst": auroc(clean, ordinary),
        "auroc_worst_8bit": auroc(clean, rounded),
        **resampled(clean, returned),
    }


def _success(tau: float, vectors: Mapping[str, Vector], found: Mapping[str, Value]) -> dict[str, Value]:
    """Other readings of SR@5, and what the defense is worth by it."""
    sr5, error = found["sr_at_5_fpr"], found["undefended_error"]
    more: dict[str, Value] = {}
    if sr5.value is not None and "fresh_acceptance" in vectors:
        drawn = vectors["fresh_acceptance"].astype(np.float64)
        more["sr_at_5_fpr_fresh"] = mean(drawn, "no image", bounded=True)
    if sr5.value is not None and "half_budget_score" in vectors:
        half = success(vectors["half_budget_score"], vectors["calibration_score"], 0.05)
        more["sr_at_5_fpr_at_half_budget"] = half
        first, last = (metrics.evaded(tau, vectors[f"{k}_budget_score"]) for k in ("half", "full"))
        more["sr_at_5_fpr_late"] = rate(last & ~first)
    return more | {"gain": less(error, sr5)}


def _negatives(tau: float, vectors: Mapping[str, Vector]) -> dict[str, Value]:
    """With noise as large as the attack's among the negatives, and how much of it is rejected."""
    noisy, images = vectors["noisy_score"], vectors["index"]
    pool = np.concatenate([vectors["clean_score"], noisy])
    kept = vectors["noisy_prediction"] == vectors["label"]
    twice = np.concatenate([images, images])
    return {
        "auroc_noisy": auroc(pool, vectors["adversarial_score"], twice, images),
        "fpr_on_attack_sized_noise_at_5": _alarms(tau, noisy[kept]),
        "accuracy_on_attack_sized_noise": rate(kept),
        "mean_l2_of_attack_sized_noise": mean(vectors["noisy_l2"].astype(np.float64), "no image"),
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
    if math.isnan(tau):
        return Value(value=None, flag="no threshold" if len(scores) else "no correct image")
    return rate(scores > tau, "no correct image")


def turned(auroc: Value) -> Value:
    """What a detector would have that knew which way round its score goes."""
    if auroc.value is None:
        return auroc
    flag = "uses the test labels to choose the sign"
    if auroc.value >= 0.5 or auroc.low is None or auroc.high is None:
        return auroc.model_copy(update={"flag": flag})
    return Value(value=1 - auroc.value, low=1 - auroc.high, high=1 - auroc.low, flag=flag)


def counts(vectors: Mapping[str, Vector], undefended: Undefended) -> dict[str, int]:
    """How many images each number rests on."""
    fooled = vectors["adversarial_prediction"] != vectors["label"]
    return {
        "attempted": len(vectors["test_label"]),
        "clean": len(vectors["label"]),
        "adversarial": len(vectors["label"]),
        "successful": int(fooled.sum()),
        "calibration": len(vectors["calibration_score"]),
        "undefended": undefended.total,
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


def strongest(
    cells: Sequence[Mapping[str, Vector]], *, chosen: bool = True
) -> tuple[Mapping[str, Vector], Vector]:
    """The worst case over several attacks on one victim: a cell's vectors, and S* of each image.

    Args:
        cells: what each attack left, of the same images in the same order.
        chosen: whether the attacker can ask the detector which attack served an image best; if not
            he has one attack for all images, and the worst case is the one of highest SR@5 %.
    """
    if chosen or len(cells) == 1:
        return cells[0], lowest(cells)

    taus = [threshold_at_5(cell) for cell in cells]
    rates = [
        0.0 if math.isnan(tau) else metrics.success_rate_at(tau, cell["evasion_score"])
        for tau, cell in zip(taus, cells, strict=True)
    ]
    equals = [cell for cell, rate in zip(cells, rates, strict=True) if rate == max(rates)]
    best = min(equals, key=lambda c: metrics.auroc(c["clean_score"], c["evasion_score"]))
    return best, lowest([best])


def worst_case(cells: Sequence[Mapping[str, Vector]], *, chosen: bool = True) -> dict[str, Any]:
    """AUROC and SR@5 % of the worst case; arguments as of `strongest`."""
    vectors, evasion = strongest(cells, chosen=chosen)
    tau = threshold_at_5(vectors)
    rate = None if math.isnan(tau) else metrics.success_rate_at(tau, evasion)
    return {"auroc_worst": metrics.auroc(vectors["clean_score"], evasion), "sr_at_5_fpr": rate}
