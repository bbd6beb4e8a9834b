"""What runs and studies say about a claim: its numbers, with what they were measured on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nfbench.records import CellRecord, Value
from nfbench.report.pooling import averaged
from nfbench.report.run import Run, Vectors
from nfbench.report.values import deviation, less
from nfbench.reproduce.paper import Cells, Claim

_LEFT = "accuracy_left"
"""Share of the attacked images that are still classified correctly: what Table 2 has."""
_RATIO = "median_score_ratio"
FEEBLE = 0.05
"""How much less an attack may fool than the paper's, and still be taken for it."""


class Measured(NamedTuple):
    """A number of ours, and what it is of."""

    label: str
    value: Value
    flagged: str = ""
    """Why the attack is weaker than it should be."""
    feeble: str = ""
    """Why it is not the paper's attack: it fools far fewer images."""


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

    defense: str
    attack: str
    threat_model: str
    eps: float | None
    point: str
    label: str
    cells: tuple[tuple[CellRecord, Vectors], ...]


def groups(ran: Sequence[Ran], wanted: Cells) -> list[Group]:
    """The cells a claim is about, seeds together."""
    found: dict[tuple[Any, ...], list[tuple[CellRecord, Vectors]]] = {}
    for one, cell in _cells(ran, wanted):
        if cell.finished:
            place = ",".join(f"{k.rpartition('.')[2]}={v}" for k, v in one.point.items())
            name, threat = cell.defense.name, cell.threat_model.name
            key = (name, cell.attack.name, threat, cell.eps, place, _label(cell, place))
            found.setdefault(key, []).append((cell, one.run.samples[cell.cell]))
    return [
        Group(name, attack, threat, eps, place, label, tuple(cells))
        for (name, attack, threat, eps, place, label), cells in found.items()
    ]


def unfinished(ran: Sequence[Ran], wanted: Cells) -> str:
    """Why some of the cells a claim is about have no number; empty if all have."""
    broken = [cell for _, cell in _cells(ran, wanted) if not cell.finished]
    points = int(ran[0].told.get("points", 1)) if ran else 0
    if len(ran) < points:
        return f"only {len(ran)} of {points} points were run"
    return f"{len(broken)} of its cells have no number: {broken[0].reason}" if broken else ""


def _cells(ran: Sequence[Ran], wanted: Cells) -> Iterator[tuple[Ran, CellRecord]]:
    for one in ran:
        if all(one.point.get(k) == v for k, v in wanted.point.items()):
            yield from ((one, cell) for cell in one.run.cells if _wanted(cell, wanted))


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


def _label(cell: CellRecord, place: str) -> str:
    ball = f"{cell.norm} ≤ {cell.eps:.4g}" if cell.eps is not None else cell.norm
    where = f"{cell.row}, {cell.attack.name}, {cell.threat_model.name}, {ball}"
    return where + (f", {place}" if place else "")


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


def measured(
    claim: Claim, ran: Sequence[Ran], against: Sequence[Ran], expected: Mapping[str, float]
) -> list[Measured]:
    """The numbers a claim is judged by; of a difference one for each pair, or that of the means.

    Args:
        claim: whose cells, and which statistic.
        ran: the runs of its experiment.
        against: those of what is subtracted.
        expected: the share of images that each attack fools in the paper.
    """
    ours = groups(ran, claim.cells)
    first = [_checked(pooled(group, claim.statistic), group, expected) for group in ours]
    if claim.test == "spread-at-most":
        return _spreads(ours, first)
    if claim.minus is None:
        return [_mean(ours, first)] if claim.over == "mean" and first else first
    others = groups(against, claim.minus)
    second = [_checked(pooled(group, claim.statistic), group, expected) for group in others]
    if not first or not second:
        return []
    if claim.over == "mean":
        return [_less(_mean(ours, first), _mean(others, second))]
    pairs = [_partner(claim, group, others) for group in ours]
    if None in pairs:
        return []
    return [_less(value, second[i]) for value, i in zip(first, pairs, strict=True) if i is not None]


def _partner(claim: Claim, group: Group, others: Sequence[Group]) -> int | None:
    """The cell to subtract: of the same attack and point, where the claim does not name others."""
    minus = claim.minus or Cells()
    named = bool(claim.cells.attacks and minus.attacks) and claim.cells.attacks != minus.attacks
    same = [
        i
        for i, other in enumerate(others)
        if (named or other.attack == group.attack)
        and (minus.point or claim.against or other.point == group.point)
        and (named or minus.eps or claim.against or other.eps == group.eps)
    ]
    return same[0] if len(same) == 1 else None


def _checked(one: Measured, group: Group, expected: Mapping[str, float]) -> Measured:
    """With the reason, where there is one, why the attack is not the paper's.

    What the paper's static attacks fool is known of its own networks alone; of others only that an
    attack without a limit, or of many steps, fools all.
    """
    wanted = expected.get(group.attack)
    if wanted is None or group.threat_model != "partial-whitebox":
        return one
    if group.defense != "neuralfp" and wanted < 1:
        return one
    return one._replace(feeble=too_feeble(wanted, group.attack, pooled(group, "success_rate").value))


def too_feeble(wanted: float, attack: str, rate: Value) -> str:
    """Why an attack is not the paper's: it fools far fewer images; else empty."""
    if rate.high is None or rate.high >= wanted - FEEBLE:
        return ""
    ours, theirs = 100 * (rate.value or 0.0), 100 * wanted
    return f"{attack} fools {ours:.0f} % of the images at this scale, the paper's {theirs:.0f} %"


def _spreads(among: Sequence[Group], values: Sequence[Measured]) -> list[Measured]:
    """The standard deviation over the points of a sweep, attack by attack, with its interval."""
    attacks: dict[str, list[float]] = {}
    for group, one in zip(among, values, strict=True):
        if one.value.value is not None:
            attacks.setdefault(group.attack, []).append(one.value.value)
    return [
        Measured(f"{name}, {len(found)} draws", deviation(np.array(found), "one draw has no spread"))
        for name, found in attacks.items()
    ]


def _less(one: Measured, other: Measured) -> Measured:
    label = f"{one.label} − {other.label}"
    flagged, feeble = one.flagged or other.flagged, one.feeble or other.feeble
    return Measured(label, less(one.value, other.value), flagged, feeble)


def _mean(among: Sequence[Group], values: Sequence[Measured]) -> Measured:
    """The mean over cells: points of a sweep are draws, and differ by chance; attacks are what they are.

    Errors of attacks on the same images are taken for one and the same, so the interval is wide.
    """
    attacks: dict[str, list[Value]] = {}
    for group, one in zip(among, values, strict=True):
        attacks.setdefault(group.attack, []).append(one.value)
    label = f"mean of {len(values)}: " + "; ".join(one.label for one in values)
    flagged = next((one.flagged for one in values if one.flagged), "")
    feeble = next((one.feeble for one in values if one.feeble), "")
    return Measured(label, _level([averaged(drawn) for drawn in attacks.values()]), flagged, feeble)


def _level(values: Sequence[Value]) -> Value:
    """The mean of numbers and of the ends of their intervals."""
    ends = [(v.value, v.low, v.high) for v in values if None not in (v.value, v.low, v.high)]
    if len(ends) < len(values):
        flag = next((value.flag for value in values if value.flag), "some cells have no interval")
        return Value(value=None, flag=flag)
    value, low, high = (statistics.fmean(part) for part in zip(*ends, strict=True))
    return Value(value=value, low=low, high=high)


def clean_accuracy(ran: Sequence[Ran], wanted: Cells) -> tuple[str, float] | None:
    """The lowest clean accuracy among the classifiers of the wanted cells, the mean over seeds."""
    means = []
    for group in groups(ran, wanted):
        known = [cell.metrics["clean_accuracy"].value for cell, _ in group.cells]
        values = [value for value in known if value is not None]
        if values:
            means.append((group.defense, statistics.fmean(values)))
    return min(means, key=lambda pair: pair[1]) if means else None
