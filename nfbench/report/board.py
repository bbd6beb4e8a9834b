"""The tables of a leaderboard: one row a defense and one column an attack, for each threat model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from nfbench.records import INTERRUPTED, MARK, CellRecord
from nfbench.report.cells import budget, worst_case
from nfbench.report.flags import TOLERANCE
from nfbench.report.run import Run

UNDEFENDED = "(no defense)"
"""Row of the classifier trained without the defense: its error under the same attack."""


@dataclass(frozen=True)
class Entry:
    """What one table cell shows: means over seeds, or why there is nothing."""

    auroc: float | None = None
    sr5: float | None = None
    note: str = ""
    turned: float | None = None
    """AUROC with the sign of the score chosen on the test images, where that is another value."""
    flagged: bool = False
    """Whether it rests on an attack that is weaker than it should be."""

    @property
    def text(self) -> str:
        if self.note:
            return self.note
        turned = "" if self.turned is None else f" ({number(self.turned)})"
        return f"{number(self.auroc)}{turned} / {number(self.sr5)}" + f" {MARK}" * self.flagged

    @property
    def rank(self) -> float | None:
        """What defenses are compared by, SR@5 %; None where nothing may be compared."""
        return None if self.flagged else self.sr5


@dataclass(frozen=True)
class Table:
    """A leaderboard under one threat model."""

    threat_model: str
    columns: Sequence[str]
    rows: dict[str, list[Entry]]
    facts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By defense: clean accuracy, and false alarms at the 5 % threshold."""
    chosen: bool = True
    """Whether the attacker chooses image by image; else a worst case is the strongest attack."""


def tables(run: Run, statistic: str = "auroc_worst") -> list[Table]:
    """One table for each threat model of the run, most robust defense first."""
    names = list(dict.fromkeys(cell.threat_model.name for cell in run.cells))
    return [_table(run, name, statistic) for name in names]


def _table(run: Run, threat_model: str, statistic: str) -> Table:
    cells = [c for c in run.cells if c.threat_model.name == threat_model]
    balls = balls_of(cells)
    attacks = list(dict.fromkeys(c.attack.name for c in cells))
    pairs = [(a, b) for a in attacks for b in balls if any(_is(c, a, b) for c in cells)]
    balls = [b for b in balls if [ball for _, ball in pairs].count(b) > 1]
    rows, facts = {}, {}
    for defense in dict.fromkeys(c.row for c in cells):
        own = [c for c in cells if c.row == defense]
        entries = [_entry([c for c in own if _is(c, *pair)], statistic) for pair in pairs]
        worsts = [worst(run, [c for c in own if budget(c) == b]) for b in balls]
        if statistic != "auroc_worst":  # another statistic has no place in the same column
            worsts = [replace(entry, auroc=None) for entry in worsts]
        rows[defense], facts[defense] = entries + worsts, _facts(own)
    undefended = [_undefended([c for c in cells if _is(c, *pair)]) for pair in pairs]
    columns = [_column(*pair) for pair in pairs] + [f"worst {b}" for b in balls]
    order = sorted(rows, key=lambda d: _hardness(rows[d], len(balls)))
    rows = {d: rows[d] for d in order}
    rows[UNDEFENDED], facts[UNDEFENDED] = undefended + [Entry(note="–")] * len(balls), ("–", "–")
    return Table(threat_model, columns, rows, facts, all(c.asks_victim for c in cells))


def balls_of(cells: Sequence[CellRecord]) -> list[str]:
    """The budgets of some cells: norm by norm, by radius."""
    norms = list(dict.fromkeys(c.norm for c in cells))
    found = {(norms.index(c.norm), math.inf if c.eps is None else c.eps): budget(c) for c in cells}
    return [found[place] for place in sorted(found)]


def _is(cell: CellRecord, attack: str, ball: str) -> bool:
    return (cell.attack.name, budget(cell)) == (attack, ball)


def _hardness(entries: list[Entry], worsts: int) -> list[float]:
    """What rows are sorted by: SR@5 % on the whole ladder of worst cases, then column by column."""
    rates = [2.0 if entry.rank is None else entry.rank for entry in entries]
    return [fmean(rates[-worsts:]) if worsts else 0.0, *reversed(rates)]


def _undefended(cells: list[CellRecord]) -> Entry:
    return Entry(sr5=mean([c.metrics["undefended_error"].value for c in cells if c.finished]))


def _column(attack: str, ball: str) -> str:
    return f"{attack} ({ball})" if "≤" in ball else f"{attack} (smallest {ball})"


def _entry(cells: list[CellRecord], statistic: str) -> Entry:
    """The mean over seeds."""
    missing = [c.status for c in cells if not c.finished]
    if missing or not cells:
        return Entry(note=missing[0] if missing else "–")
    if statistic == "papers":
        statistic = "auroc_successes" if cells[0].adaptive else "auroc_returned"
    auroc, sr5 = (mean([c.metrics[name].value for c in cells]) for name in (statistic, "sr_at_5_fpr"))
    turned = mean(
        [c.metrics[name].value for c in cells if (name := f"{statistic}_oracle_sign") in c.metrics]
    )
    flagged = any(c.flags for c in cells)
    return Entry(auroc, sr5, turned=None if turned == auroc else turned, flagged=flagged)


def worst(run: Run, cells: Sequence[CellRecord]) -> Entry:
    """The worst case over attacks of equal knowledge and budget.

    Image by image where the attacker can ask the detector, else the strongest of the attacks. There is
    none where each attack met another detector, which had learnt from it.
    """
    if any(c.defender == "whitebox-defense" for c in cells):
        return Entry(note="–")
    if any(c.status == "failed" or c.reason == INTERRUPTED for c in cells):
        return Entry(note="incomplete")
    seeds = [[c for c in cells if c.seed == seed and c.finished] for seed in {c.seed: 0 for c in cells}]
    if not all(seeds) or not seeds:
        return Entry(note="–")
    found = [worst_of(run, own) for own in seeds]
    auroc, sr5 = (mean([f[name] for f in found]) for name in ("auroc_worst", "sr_at_5_fpr"))
    return Entry(auroc, sr5, flagged=any(_rests_on_flags(run, own) for own in seeds))


def worst_of(run: Run, cells: Sequence[CellRecord]) -> dict[str, float | None]:
    """AUROC and SR@5 % of the worst case over finished cells of one victim and threat model."""
    return worst_case([run.samples[c.cell] for c in cells], chosen=cells[0].asks_victim)


def _rests_on_flags(run: Run, cells: Sequence[CellRecord]) -> bool:
    """Whether a worst case would be another, or have no gradient attack, without the flagged cells."""
    sound = [c for c in cells if not c.flags]
    if len(sound) == len(cells):
        return False
    if not any(c.follows_gradient for c in sound):
        return True
    with_all, without = (worst_of(run, some)["sr_at_5_fpr"] or 0.0 for some in (cells, sound))
    return with_all - without > TOLERANCE


def _facts(cells: list[CellRecord]) -> tuple[str, str]:
    names = ("clean_accuracy", "fpr_realised_at_5")
    accuracy, alarms = (mean([c.metrics[n].value for c in cells if c.finished]) for n in names)
    return number(accuracy), number(alarms)


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def best_per_column(table: Table) -> list[set[str]]:
    """For each column the defenses of lowest SR@5 %; nobody where there is only one row."""
    best: list[set[str]] = []
    defenses = {d: entries for d, entries in table.rows.items() if d != UNDEFENDED}
    for column in range(len(table.columns)):
        rates = {d: e[column].rank for d, e in defenses.items()}
        lowest = min((r for r in rates.values() if r is not None), default=math.nan)
        best.append({d for d, r in rates.items() if r == lowest} if len(rates) > 1 else set())
    return best
