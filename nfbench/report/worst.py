"""Worst cases over attacks of equal knowledge and budget, and which of them may be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from nfbench.records import INTERRUPTED, CellRecord
from nfbench.report.cells import budget, strongest, worst_case
from nfbench.report.entries import TOLERANCE, Entry, grouped
from nfbench.report.pooling import Case, success
from nfbench.report.pooling import auroc as auroc_of
from nfbench.report.run import Run

PORTFOLIO = "detector-breaker"
"""How the names of portfolios begin."""
LATE = "sr_at_5_fpr_late"
SUBMITTED = "submitted"
"""Attack of cells that stand for images which others submitted; no row must have them."""


def worst(run: Run, cells: Sequence[CellRecord]) -> Entry:
    """The worst case over attacks of equal knowledge and budget.

    Image by image where the attacker can ask the detector, else the strongest of the attacks. There is
    none where each attack met another detector, which had learnt from it.
    """
    key = ("worst", *(c.cell for c in cells))
    if key not in run.memory:
        run.memory[key] = _worst(run, cells)
    found: Entry = run.memory[key]
    return found


def _worst(run: Run, cells: Sequence[CellRecord]) -> Entry:
    if any(c.defender == "whitebox-defense" for c in cells):
        return Entry(note="–")
    if any(c.status == "failed" or c.reason == INTERRUPTED for c in cells):
        return Entry(note="incomplete")
    seeds = [[c for c in cells if c.seed == seed and c.finished] for seed in {c.seed: 0 for c in cells}]
    if not all(seeds) or not seeds:
        return Entry(note="–")
    found = list(cases_of(run, cells).values())
    flagged = any(_rests_on_flags(run, own) for own in seeds)
    bounds = [c.metrics["auroc_worst"].flag for c in cells if c.finished]
    auroc = auroc_of(found)
    if bound := next((flag for flag in bounds if flag), ""):
        auroc = auroc.model_copy(update={"flag": bound})
    return Entry.of(auroc, success(found), flagged=flagged, late=late(cells))


def cases_of(run: Run, cells: Sequence[CellRecord]) -> dict[int, Case]:
    """The worst case of each seed over finished cells of one row, threat model and budget."""
    key = ("cases", *(c.cell for c in cells))
    if key not in run.memory:
        run.memory[key] = _cases_of(run, cells)
    return dict(run.memory[key])


def _cases_of(run: Run, cells: Sequence[CellRecord]) -> dict[int, Case]:
    found = {}
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed and cell.finished]
        vectors, lowest = strongest([run.samples[c.cell] for c in own], chosen=own[0].asks_victim)
        aims = any(cell.aims_at_threshold for cell in own)
        found[seed] = Case.of(vectors, lowest, aims=aims)
    return found


def worst_of(run: Run, cells: Sequence[CellRecord]) -> dict[str, float | None]:
    """AUROC and SR@5 % of the worst case over finished cells of one victim and threat model."""
    return worst_case([run.samples[c.cell] for c in cells], chosen=cells[0].asks_victim)


def _rests_on_flags(run: Run, cells: Sequence[CellRecord]) -> bool:
    """Whether a worst case is in doubt because cells of it are flagged.

    It is if it would be another without them, if no gradient attack is left then, or if one of them is
    a portfolio: its number is too low, and what it would be nobody knows. Nothing is held against a
    worst case that has broken nearly every image all the same.
    """
    sound = [c for c in cells if not c.flags]
    if len(sound) == len(cells):
        return False
    with_all = worst_of(run, cells)["sr_at_5_fpr"] or 0.0
    if with_all >= 1 - TOLERANCE:
        return False
    if not any(c.follows_gradient for c in sound):
        return True
    portfolio = any(c.attack.name.startswith(PORTFOLIO) for c in cells if c.flags)
    without = worst_of(run, sound)["sr_at_5_fpr"] or 0.0
    return portfolio or with_all - without > TOLERANCE


def late(cells: Sequence[CellRecord]) -> float:
    """How much of SR@5 % only the second half of a portfolio's passes found, the mean over seeds."""
    found: dict[int, float] = {}
    for cell in cells:
        value = cell.metrics.get(LATE)
        own = 0.0 if value is None or value.value is None else value.value
        found[cell.seed] = max(found.get(cell.seed, 0.0), own)
    return fmean(found.values()) if found else 0.0


def ladders(
    run: Run, cells: Sequence[CellRecord], ladder: Sequence[str]
) -> dict[str, list[dict[int, Case]]]:
    """For each row that may be ranked its worst cases: by budget, then by seed.

    A row that lacks an attack or a seed which another row has may not: what was not tried did not
    fail.
    """
    rows: dict[str, list[dict[int, Case]]] = {}
    asked = {ball: _tried([c for c in cells if budget(c) == ball]) for ball in ladder}
    for defense, mine in grouped(cells, lambda c: c.row).items():
        within = grouped(mine, budget)
        own = [within.get(ball, []) for ball in ladder]
        whole = all(asked[ball] <= _tried(some) for ball, some in zip(ladder, own, strict=True))
        if whole and all(worst(run, some).rank is not None for some in own):
            rows[defense] = [cases_of(run, some) for some in own]
    return rows


def _tried(cells: Sequence[CellRecord]) -> set[tuple[str, int]]:
    """Attacks and seeds that there are numbers of."""
    return {(c.attack.name, c.seed) for c in cells if c.finished and c.attack.name != SUBMITTED}
