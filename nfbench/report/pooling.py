"""Several seeds as one number, with an interval over seeds and over the images that these share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfbench.records import Value
from nfbench.report import metrics
from nfbench.report.metrics import Vector
from nfbench.report.operating import success as at_five
from nfbench.report.values import sure
from nfbench.stats.auroc import influence, interval
from nfbench.stats.intervals import (
    aligned,
    evaded_shares,
    over_seeds,
    student_quantile,
    threshold_variance,
)

FPR = 0.05


@dataclass(frozen=True, eq=False)
class Case:
    """What one seed's attacks left of one victim: S*, and what it is judged by."""

    index: Vector
    """Which image each entry of `lowest` and of `clean` is of, (B,)."""
    lowest: Vector
    """S*, (B,)."""
    clean: Vector
    """Scores of the clean originals, (B,)."""
    calibration: Vector
    """Scores of the held-out clean images, (m,)."""
    aims: bool = False
    """Whether an attack aimed at the threshold, and would have followed another one."""

    @classmethod
    def of(
        cls, vectors: Mapping[str, Vector], lowest: Vector | None = None, *, aims: bool = False
    ) -> Case:
        """Of a cell's vectors, with another S* if one is given."""
        own = vectors["evasion_score"] if lowest is None else lowest
        clean, calibration = vectors["clean_score"], vectors["calibration_score"]
        return cls(vectors["index"], own, clean, calibration, aims)

    @property
    def threshold(self) -> float:
        return metrics.threshold(self.calibration, FPR)

    @property
    def drift(self) -> float:
        """Variance of SR@5 % that the threshold's own error makes; none if the attack follows it."""
        if self.aims:
            return 0.0
        return threshold_variance(evaded_shares(self.lowest), self.calibration, FPR)[1]

    @property
    def evaded(self) -> Vector:
        """Which images are misclassified and accepted at 5 %, (B,) bool."""
        return metrics.evaded(self.threshold, self.lowest)


def success(cases: Sequence[Case]) -> Value:
    """SR@5 %, the mean over seeds."""
    if any(math.isnan(case.threshold) for case in cases):
        return Value(value=None, flag="too few calibration images")
    if len(cases) == 1:
        (case,) = cases
        return at_five(case.lowest, case.calibration, FPR, follows=case.aims)
    rates = np.array([case.evaded.mean() for case in cases])
    errors = [(case.evaded - rate) / len(case.index) for case, rate in zip(cases, rates, strict=True)]
    drift = [c.drift for c in cases]
    rows = aligned([case.index for case in cases], errors)
    n = min(len(case.index) for case in cases)
    span = over_seeds(rates, rows, n=n, threshold=float(np.mean(drift)))
    return sure(float(rates.mean()), span)


def auroc(cases: Sequence[Case]) -> Value:
    """`auroc_worst`, the mean over seeds."""
    if len(cases) == 1:
        (case,) = cases
        return sure(metrics.auroc(case.clean, case.lowest), interval(case.clean, case.lowest))
    values = np.array([metrics.auroc(case.clean, case.lowest) for case in cases])
    errors = [influence(case.clean, case.lowest).total for case in cases]
    rows = aligned([case.index for case in cases], errors)
    n = min(len(case.index) for case in cases)
    return sure(float(values.mean()), over_seeds(values, rows, n=n))


def averaged(values: Sequence[Value]) -> Value:
    """The mean over seeds of any metric, by the intervals it was stored with.

    Without the vectors nothing tells how much of the seeds' errors comes from the images they share,
    so all of it is taken to: the interval is wide rather than narrow.
    """
    known = [value for value in values if value.value is not None]
    if not known or len(known) < len(values):
        return Value(value=None, flag=next((v.flag for v in values if v.value is None), "undefined"))
    found, flag = np.array([value.value for value in known]), next((v.flag for v in known if v.flag), "")
    mean = float(found.mean())
    ends = [(value.low, value.high) for value in known if None not in (value.low, value.high)]
    if len(ends) < len(known):
        return Value(value=mean, flag=flag)
    limits = np.array(ends, dtype=np.float64)  # (S, 2)
    low, high = limits.mean(0).tolist()
    if len(known) == 1:
        return Value(value=mean, low=low, high=high, flag=flag)
    reach = student_quantile(0.95, len(known) - 1) * float(found.std(ddof=1)) / math.sqrt(len(known))
    below, above = math.hypot(mean - low, reach), math.hypot(high - mean, reach)
    rates = limits.min() >= 0 and limits.max() <= 1
    least, most = (0.0, 1.0) if rates else (-math.inf, math.inf)
    low, high = max(mean - below, least), min(mean + above, most)
    return Value(value=mean, low=low, high=high, flag=flag)


def grids(rows: Mapping[str, Sequence[Mapping[int, Case]]]) -> dict[str, Vector]:
    """Rows as what is compared: how often an image evades, by seed and image. By name, (S, I).

    Args:
        rows: by defense, for each budget the cases by seed.

    Returns:
        Shares of the budgets, all on one list of images; NaN where a row did not attack an image.
    """
    if not rows:
        return {}
    seeds = sorted({seed for budgets in rows.values() for cases in budgets for seed in cases})
    images = np.unique(
        np.concatenate([c.index for budgets in rows.values() for cs in budgets for c in cs.values()])
    )
    return {name: _grid(budgets, seeds, images) for name, budgets in rows.items()}


def moved(rows: Mapping[str, Sequence[Mapping[int, Case]]]) -> dict[str, float]:
    """Variance that the thresholds' own error adds to each row's mean over budgets, by name.

    Seeds are calibrated on the same images, so it is taken as one error that all of them share, as
    over budgets it is one.
    """
    found = {}
    for name, budgets in rows.items():
        seeds = set[int]().union(*budgets)
        each = [_drift([cases[seed] for cases in budgets if seed in cases]) for seed in seeds]
        found[name] = float(np.mean(each)) if each else 0.0
    return found


def _drift(cases: Sequence[Case]) -> float:
    """Of one seed: variance of the mean SR@5 % over budgets, under one threshold for all."""
    free = [case for case in cases if not case.aims]
    if not free:
        return 0.0
    shares = [evaded_shares(case.lowest) for case in free]

    def share(taus: Vector) -> Vector:
        return np.asarray(sum(one(taus) for one in shares) / len(cases))

    return threshold_variance(share, free[0].calibration, FPR)[1]


def _grid(budgets: Sequence[Mapping[int, Case]], seeds: Sequence[int], images: Vector) -> Vector:
    """Share of the budgets at which each image evades, by seed; NaN where it was not attacked. (S, I)"""
    grid = np.full((len(seeds), len(images)), np.nan)
    for row, seed in zip(grid, seeds, strict=True):
        cases = [cases[seed] for cases in budgets if seed in cases]
        if len(cases) == len(budgets) and cases:
            where = np.searchsorted(images, cases[0].index)
            row[where] = np.mean([case.evaded for case in cases], axis=0)
    return grid
