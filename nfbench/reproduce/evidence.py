"""What runs and studies say about a claim: its numbers, with what they were measured on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nfbench.records import CellRecord, Value
from nfbench.report.pooling import averaged
from nfbench.report.run import Run, Vectors
from nfbench.report.values import less
from nfbench.reproduce.paper import Cells, Claim

_LEFT = "accuracy_left"
"""Share of the attacked images that are still classified correctly: what Table 2 has."""
_RATIO = "median_score_ratio"


class Measured(NamedTuple):
    """A number of ours, and what it is of."""

    label: str
    value: Value
    flagged: str = ""
    """Why the attack is weaker than it should be."""


@dataclass(frozen=True)
class Ran:
    """One run of an experiment, and which point of its sweep it is."""

    run: Run
    point: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> Mapping[str, Any]:
        """What it reproduces: paper, experiment, scale, stand-in, point, sizes, command."""
        found: Mapping[str, Any] = self.run.info.get("reproduces", {})
        return found


class Group(NamedTuple):
    """Cells that differ in nothing but their seeds."""

    attack: str
    eps: float | None
    point: str
    label: str
    cells: tuple[tuple[CellRecord, Vectors], ...]


def groups(ran: Sequence[Ran], wanted: Cells) -> list[Group]:
    """The cells a claim is about, seeds together."""
    found: dict[tuple[Any, ...], list[tuple[CellRecord, Vectors]]] = {}
    for one in ran:
        if any(one.point.get(k) != v for k, v in wanted.point.items()):
            continue
        for cell in one.run.cells:
            if cell.finished and _wanted(cell, wanted):
                place = ",".join(f"{k.rpartition('.')[2]}={v}" for k, v in one.point.items())
                key = (cell.row, cell.attack.name, cell.threat_model.name, cell.norm, cell.eps, place)
                found.setdefault(key, []).append((cell, one.run.samples[cell.cell]))
    return [Group(key[1], key[4], key[5], _label(key), tuple(cells)) for key, cells in found.items()]


def _wanted(cell: CellRecord, wanted: Cells) -> bool:
    return (
        wanted.defense in ("", cell.defense.name)
        and (not wanted.attacks or cell.attack.name in wanted.attacks)
        and wanted.threat_model in ("", cell.threat_model.name)
        and wanted.defender in ("", cell.defender)
        and wanted.norm in ("", cell.norm)
        and (not wanted.eps or _among(cell.eps, wanted.eps))
    )


def _among(eps: float | None, wanted: Iterable[float]) -> bool:
    size = math.inf if eps is None else eps
    return any(math.isclose(size, one, rel_tol=1e-6) for one in wanted)


def _label(key: tuple[Any, ...]) -> str:
    row, attack, threat, norm, eps, place = key
    ball = f"{norm} ≤ {eps:.4g}" if eps is not None else norm
    return f"{row}, {attack}, {threat}, {ball}" + (f", {place}" if place else "")


def pooled(group: Group, statistic: str) -> Measured:
    """A statistic over the seeds of a group, with its interval."""
    values = [_metric(cell, vectors, statistic) for cell, vectors in group.cells]
    flags = [flag for cell, _ in group.cells for flag in cell.flags]
    return Measured(group.label, averaged(values), flags[0] if flags else "")


def _metric(cell: CellRecord, vectors: Vectors, statistic: str) -> Value:
    if statistic == _RATIO:
        return score_ratio(vectors)
    if statistic != _LEFT:
        return cell.metrics.get(statistic, Value(value=None, flag=f"no {statistic}"))
    rate = cell.metrics["success_rate"]
    if rate.value is None or rate.low is None or rate.high is None:
        return rate
    return Value(value=1 - rate.value, low=1 - rate.high, high=1 - rate.low)


def score_ratio(vectors: Vectors) -> Value:
    """The median of S* over the clean score, of images that were ever misclassified (Appendix K).

    Its interval are the order statistics that a binomial puts around the median; none where there are
    too few images for that.
    """
    from scipy.stats import binom

    found = np.isfinite(vectors["evasion_score"])
    ratios = np.sort(vectors["evasion_score"][found].astype(float) / vectors["clean_score"][found])
    if not len(ratios):
        return Value(value=None, flag="no success")
    below = int(binom.ppf(0.025, len(ratios), 0.5)) - 1
    if below < 0:
        return Value(value=float(np.median(ratios)), flag="too few images for an interval")
    low, high = float(ratios[below]), float(ratios[len(ratios) - 1 - below])
    return Value(value=float(np.median(ratios)), low=low, high=high)


def measured(claim: Claim, ran: Sequence[Ran], against: Sequence[Ran]) -> list[Measured]:
    """The numbers a claim is judged by; of a difference one for each pair, or that of the means."""
    ours = groups(ran, claim.cells)
    first = [pooled(group, claim.statistic) for group in ours]
    if claim.test == "spread-at-most":
        return _spreads(ours, first)
    if claim.minus is None:
        return [_mean(first)] if claim.over == "mean" and first else first
    others = groups(against, claim.minus)
    second = [pooled(group, claim.statistic) for group in others]
    if not first or not second:
        return []
    if claim.over == "mean":
        return [_less(_mean(first), _mean(second))]
    pairs = []
    for group, value in zip(ours, first, strict=True):
        partner = _partner(group, others)
        if partner is not None:
            pairs.append(_less(value, second[partner]))
    return pairs


def _partner(group: Group, others: Sequence[Group]) -> int | None:
    """The cell to subtract: that of the same attack, or the only one there is."""
    same = [i for i, other in enumerate(others) if other.attack == group.attack]
    if len(same) == 1:
        return same[0]
    return 0 if len(others) == 1 else None


def _spreads(among: Sequence[Group], values: Sequence[Measured]) -> list[Measured]:
    """The standard deviation over the points of a sweep, attack by attack, with its interval."""
    attacks: dict[str, list[float]] = {}
    for group, one in zip(among, values, strict=True):
        if one.value.value is not None:
            attacks.setdefault(group.attack, []).append(one.value.value)
    return [Measured(f"{name}, {len(found)} draws", deviation(found)) for name, found in attacks.items()]


def deviation(values: Sequence[float]) -> Value:
    """The standard deviation of a sample from a normal distribution, with its chi-squared interval."""
    from scipy.stats import chi2

    n = len(values)
    if n < 2:
        return Value(value=None, flag="one draw has no spread")
    found = statistics.stdev(values)
    low, high = (found * math.sqrt((n - 1) / chi2.ppf(q, n - 1)) for q in (0.975, 0.025))
    return Value(value=found, low=low, high=high)


def _less(one: Measured, other: Measured) -> Measured:
    label = f"{one.label} − {other.label}"
    return Measured(label, less(one.value, other.value), one.flagged or other.flagged)


def _mean(values: Sequence[Measured]) -> Measured:
    """The mean over cells, as wide as if their errors were one and the same."""
    known = [one.value for one in values if one.value.value is not None]
    label = f"mean of {len(values)}: " + "; ".join(one.label for one in values)
    flagged = next((one.flagged for one in values if one.flagged), "")
    if not known or len(known) < len(values) or any(v.low is None or v.high is None for v in known):
        return Measured(label, Value(value=None, flag="some cells have no number"), flagged)
    n = len(known)
    mean = sum(v.value or 0.0 for v in known) / n
    low, high = sum(v.low or 0.0 for v in known) / n, sum(v.high or 0.0 for v in known) / n
    return Measured(label, Value(value=mean, low=low, high=high), flagged)


def fooled(ran: Sequence[Ran], wanted: Cells) -> list[tuple[str, Value]]:
    """The share of images that each attack among the wanted cells fools, seeds together."""
    found = groups(ran, wanted)
    return [(group.attack, pooled(group, "success_rate").value) for group in found]


def clean_accuracy(ran: Sequence[Ran]) -> tuple[str, Value] | None:
    """The lowest clean accuracy among the classifiers of runs, seeds together; its defense."""
    rows: dict[tuple[str, str], dict[int, Value]] = {}
    for one in ran:
        for cell in one.run.cells:
            if cell.finished:
                seeds = rows.setdefault((cell.defense.name, str(one.point)), {})
                seeds[cell.seed] = cell.metrics["clean_accuracy"]
    means = [(name, averaged(list(seeds.values()))) for (name, _), seeds in rows.items()]
    known = [(name, value) for name, value in means if value.value is not None]
    return min(known, key=lambda pair: pair[1].value or 0.0) if known else None
