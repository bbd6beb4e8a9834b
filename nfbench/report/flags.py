"""Flags: signs that an attack is weaker than it should be, so that its cell must not be ranked.

All are about attacks that follow the gradient of the victim's own detector: no smaller ball, and nobody
who knows less, should do better than they.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from nfbench.records import CellRecord
from nfbench.report.cells import budget, lowest, threshold_at_5, worst_case
from nfbench.report.entries import TOLERANCE, grouped
from nfbench.report.metrics import Vector, evaded, success_rate_at
from nfbench.report.run import Run, Vectors

UNBOUNDED_LEAST = 0.99
"""SR@5 of an attack that may turn any image into any other."""
UNHEALTHY = 0.1
"""Share of the images probed on which a gradient may be at fault."""
MISLED = 0.5
"""What a surrogate's rank correlation with the score may lack of 1."""
RANDOM_SEARCH = "random-search"
READY_MADE = {"probes", "from a guide"}
"""Stages that have points which evade to begin with; what they break says nothing of the search."""

Samples = Mapping[str, Vectors]
Found = Iterator[tuple[CellRecord, str]]


def flagged(run: Run) -> Run:
    """`run` with suspicious cells flagged instead of done, and why."""
    finished = [cell for cell in run.cells if cell.finished]
    found: dict[str, list[str]] = defaultdict(list)
    for check in (unhealthy, shrinking, unbounded, beaten, missed):
        for cell, reason in check(finished, run.samples):
            found[cell.cell].append(reason)
    return replace(run, cells=[_marked(cell, found[cell.cell]) for cell in run.cells])


def _marked(cell: CellRecord, reasons: list[str]) -> CellRecord:
    if not reasons:
        return cell
    changes = {"status": "flagged", "flags": reasons, "reason": "; ".join(reasons)}
    return cell.model_copy(update=changes)


def unhealthy(cells: Sequence[CellRecord], samples: Samples) -> Found:
    """The gradient that was followed is zero, not finite, or not what finite differences say.

    Or it is that of a surrogate which hardly orders images as the score does. Nothing is held against
    an attack that has broken nearly every image all the same.
    """
    for cell in _gradient(cells):
        if _rate(samples[cell.cell], "evasion_score") >= 1 - TOLERANCE:
            continue
        for fault in faults(cell.health):
            yield cell, fault


def faults(health: Mapping[str, float]) -> Iterator[str]:
    """What is wrong with gradients that were followed, a line each; nothing if they are sound."""
    if (lack := health.get("surrogate_misled", 0.0)) > MISLED:
        yield f"the surrogate's rank correlation with the detector's score is {1 - lack:.2f}"
    for prefix, what in (("", "the detector's score"), ("margin_", "the class margin")):
        zero = health.get(f"{prefix}zero_gradient", 0.0)
        broken = health.get(f"{prefix}non_finite_gradient", 0.0)
        off = health.get(f"{prefix}finite_difference_off", 0.0)
        if zero + broken > UNHEALTHY:
            shares = f"zero on {zero:.0%} and not finite on {broken:.0%} of the images probed"
            yield f"the gradient of {what} is {shares}"
        if off > UNHEALTHY:
            shares = f"more than 10 % off finite differences on {off:.0%} of the images probed"
            yield f"the gradient of {what} is {shares}"


def shrinking(cells: Sequence[CellRecord], samples: Samples) -> Found:
    """At a larger radius the attack alone reaches less than at the next smaller one."""

    def ladder(cell: CellRecord) -> Hashable:
        return *cell.victim, cell.attack.name, cell.threat_model.name

    for rungs in grouped(_gradient(cells), ladder).values():
        rungs.sort(key=lambda cell: cell.radius)
        for small, large in pairwise(rungs):
            before = _rate(samples[small.cell], "evasion_score")
            alone = _rate(samples[large.cell], "evasion_score_own")
            if alone < min(before, 1 - TOLERANCE) - TOLERANCE:
                yield (
                    large,
                    f"a larger radius made it worse: SR@5 {alone:.3f} at {budget(large)} by its own "
                    f"points, {before:.3f} at {budget(small)}",
                )


def unbounded(cells: Sequence[CellRecord], samples: Samples) -> Found:
    """The attack is free to reach any image, other classes' accepted ones too, and yet fails."""
    free = [c for c in _gradient(cells) if c.eps is None or (c.norm == "linf" and c.eps >= 1)]
    for cell in free:
        vectors = samples[cell.cell]
        searched = vectors["evasion_score"][~_ready_made(cell, vectors)]
        if not len(searched):
            continue
        rate = _rate({**vectors, "evasion_score": searched}, "evasion_score")
        if rate < UNBOUNDED_LEAST:
            yield cell, f"without a bound SR@5 must reach {UNBOUNDED_LEAST}, and is {rate:.3f}"


def beaten(cells: Sequence[CellRecord], samples: Samples) -> Found:
    """Who knows less, or takes no gradient, does better at the same radius."""
    for group in grouped(cells, _ball).values():
        rivals = [cell for cell in group if not cell.follows_gradient]
        worst = [(_worst(own, samples), own) for own in grouped(rivals, _threat).values()]
        if not worst:
            continue
        best, own = max(worst, key=lambda one: one[0])
        names = ", ".join(dict.fromkeys(cell.attack.name for cell in own))
        for knowing in grouped(_gradient(group), _threat).values():
            rate = _worst(knowing, samples)
            if best > rate + TOLERANCE:
                reason = (
                    f"{names} under {own[0].threat_model.name} reached SR@5 {best:.3f}, the gradient "
                    f"attacks under {knowing[0].threat_model.name} together only {rate:.3f}"
                )
                yield from ((cell, reason) for cell in knowing)


def missed(cells: Sequence[CellRecord], samples: Samples) -> Found:
    """Points drawn at random broke an image that the gradient attacks together did not."""
    for group in grouped(cells, _ball).values():
        drawn = [cell for cell in group if cell.attack.name == RANDOM_SEARCH]
        if not drawn:
            continue
        chance = _broken(drawn, samples)
        for knowing in grouped(_gradient(group), _threat).values():
            count = int((chance & ~_broken(knowing, samples)).sum())
            if count:
                reason = (
                    f"{RANDOM_SEARCH} broke {count} of {len(chance)} images that the gradient attacks "
                    f"under {knowing[0].threat_model.name} did not"
                )
                yield from ((cell, reason) for cell in knowing)


def _gradient(cells: Iterable[CellRecord]) -> list[CellRecord]:
    return [cell for cell in cells if cell.follows_gradient]


def _ball(cell: CellRecord) -> Hashable:
    return *cell.victim, cell.eps


def _threat(cell: CellRecord) -> Hashable:
    return cell.threat_model.name


def _rate(vectors: Vectors, name: str) -> float:
    """SR@5 of a vector of S*; NaN, which no comparison holds for, where there is no threshold."""
    tau = threshold_at_5(vectors)
    return math.nan if math.isnan(tau) else success_rate_at(tau, vectors[name])


def _worst(cells: Sequence[CellRecord], samples: Samples) -> float:
    """SR@5 of the worst case over the attacks of one threat model; NaN without a threshold."""
    found = worst_case([samples[c.cell] for c in cells], chosen=cells[0].asks_victim)["sr_at_5_fpr"]
    return math.nan if found is None else float(found)


def _broken(cells: Sequence[CellRecord], samples: Samples) -> Vector:
    """Which images some cell's S* takes past the 5 % threshold. (B,) bool"""
    vectors = [samples[cell.cell] for cell in cells]
    return evaded(threshold_at_5(vectors[0]), lowest(vectors))


def _ready_made(cell: CellRecord, vectors: Vectors) -> Vector:
    """Which images' best points are ready-made ones. (B,) bool"""
    pairs = zip(vectors["winner"].tolist(), vectors["stage"].tolist(), strict=True)
    won = [w >= 0 and s >= 0 and cell.stages[w][s] in READY_MADE for w, s in pairs]
    return np.array(won, dtype=bool)
