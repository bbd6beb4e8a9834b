"""The tables of a leaderboard: one row a defense and one column an attack, for each threat model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from nfbench.records import CellRecord, Value
from nfbench.report.cells import budget
from nfbench.report.entries import Entry, balls_of, grouped, mean, number
from nfbench.report.pooling import Case, averaged, grids, moved, success
from nfbench.report.pooling import auroc as auroc_of
from nfbench.report.run import Run
from nfbench.report.worst import ladders, late, worst
from nfbench.stats.compare import Ranked, ranking

__all__ = [
    "UNDEFENDED",
    "Entry",
    "Table",
    "balls_of",
    "best_per_column",
    "grouped",
    "ladders",
    "mean",
    "number",
    "tables",
    "worst",
]

UNDEFENDED = "(no defense)"
"""Row of the classifier trained without the defense: its error under the same attack."""


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
    ranks: Mapping[str, Ranked] = field(default_factory=dict)
    """Places by SR@5 % on the whole ladder of worst cases; none of rows that must not be ranked."""


def tables(run: Run, statistic: str = "auroc_worst") -> list[Table]:
    """One table for each threat model of the run, most robust defense first."""
    key = ("tables", statistic)
    if key not in run.memory:
        names = dict.fromkeys(cell.threat_model.name for cell in run.cells)
        run.memory[key] = [_table(run, name, statistic) for name in names]
    return list(run.memory[key])


def _table(run: Run, threat_model: str, statistic: str) -> Table:
    cells = [c for c in run.cells if c.threat_model.name == threat_model]
    balls = balls_of(cells)
    attacks = list(dict.fromkeys(c.attack.name for c in cells))
    columns_of = grouped(cells, lambda c: (c.attack.name, budget(c)))
    pairs = [(a, b) for a in attacks for b in balls if (a, b) in columns_of]
    balls = [b for b in balls if [ball for _, ball in pairs].count(b) > 1]
    rows, facts = {}, {}
    for defense, own in grouped(cells, lambda c: c.row).items():
        found = grouped(own, lambda c: (c.attack.name, budget(c)))
        entries = [_entry(run, found.get(pair, []), statistic) for pair in pairs]
        within = grouped(own, budget)
        worsts = [worst(run, within.get(b, [])) for b in balls]
        if statistic != "auroc_worst":  # another statistic has no place in the same column
            worsts = [replace(e, auroc=None, auroc_low=None, auroc_high=None) for e in worsts]
        rows[defense], facts[defense] = entries + worsts, _facts(own)
    undefended = [_undefended(columns_of[pair]) for pair in pairs]
    columns = [_column(*pair) for pair in pairs] + [f"worst {b}" for b in balls]
    order = sorted(rows, key=lambda d: _hardness(rows[d], len(balls)))
    rows = {d: rows[d] for d in order}
    rows[UNDEFENDED], facts[UNDEFENDED] = undefended + [Entry(note="–")] * len(balls), ("–", "–")
    chosen = all(c.asks_victim for c in cells)
    return Table(threat_model, columns, rows, facts, chosen, _ranks(run, cells, balls))


def _hardness(entries: list[Entry], worsts: int) -> list[float]:
    """What rows are sorted by: SR@5 % on the whole ladder of worst cases, then column by column."""
    rates = [2.0 if entry.rank is None else entry.rank for entry in entries]
    return [fmean(rates[-worsts:]) if worsts else 0.0, *reversed(rates)]


def _undefended(cells: list[CellRecord]) -> Entry:
    found = averaged([c.metrics["undefended_error"] for c in cells if c.finished])
    return Entry.of(Value(value=None), found)


def _column(attack: str, ball: str) -> str:
    return f"{attack} ({ball})" if "≤" in ball else f"{attack} (smallest {ball})"


def _entry(run: Run, cells: list[CellRecord], statistic: str) -> Entry:
    """The mean over seeds."""
    missing = [c.status for c in cells if not c.finished]
    if missing or not cells:
        return Entry(note=missing[0] if missing else "–")
    if statistic == "papers":
        statistic = "auroc_successes" if cells[0].adaptive else "auroc_returned"
    auroc, sr5 = (_pooled(run, cells, name) for name in (statistic, "sr_at_5_fpr"))
    turned = mean(
        [c.metrics[name].value for c in cells if (name := f"{statistic}_oracle_sign") in c.metrics]
    )
    flagged = any(c.flags for c in cells)
    return Entry.of(
        auroc, sr5, turned=None if turned == auroc.value else turned, flagged=flagged, late=late(cells)
    )


def _pooled(run: Run, cells: Sequence[CellRecord], name: str) -> Value:
    """The mean of a metric over seeds, with its interval; of one seed what the record says."""
    values = [cell.metrics[name] for cell in cells]
    whole = {"auroc_worst": auroc_of, "sr_at_5_fpr": success}.get(name)
    found = averaged(values)
    if len(cells) == 1 or whole is None or found.value is None:
        return found
    over = whole([Case.of(run.samples[c.cell], aims=c.aims_at_threshold) for c in cells])
    return found.model_copy(update={"low": over.low, "high": over.high})


def _ranks(run: Run, cells: Sequence[CellRecord], balls: Sequence[str]) -> dict[str, Ranked]:
    """Who can be told from whom under one threat model, over the ladder of its worst cases."""
    ladder = balls or balls_of(cells)
    rows = ladders(run, cells, ladder)
    if len(rows) < 2:
        return {}
    within = grouped(cells, lambda c: (c.row, budget(c)))
    more = {name: fmean(late(within[name, ball]) for ball in ladder) for name in rows}
    found = ranking(grids(rows), thresholds=moved(rows), handicaps=more)
    return {one.name: one for one in found}


def _facts(cells: list[CellRecord]) -> tuple[str, str]:
    names = ("clean_accuracy", "fpr_realised_at_5")
    accuracy, alarms = (mean([c.metrics[n].value for c in cells if c.finished]) for n in names)
    return number(accuracy), number(alarms)


def best_per_column(table: Table) -> list[set[str]]:
    """For each column the defense of lowest SR@5 %, and all whose intervals reach down to its own.

    Nobody where there is only one row.
    """
    best: list[set[str]] = []
    defenses = {d: entries for d, entries in table.rows.items() if d != UNDEFENDED}
    for column in range(len(table.columns)):
        ranked = {d: e[column] for d, e in defenses.items() if e[column].rank is not None}
        first = min(ranked.values(), key=lambda entry: entry.rank or 0.0, default=Entry())
        reach = first.sr5_high if first.sr5_high is not None else first.rank or 0.0
        lows = {d: e.sr5_low if e.sr5_low is not None else e.rank or 0.0 for d, e in ranked.items()}
        near = {d for d, low in lows.items() if low <= reach}
        best.append(near if len(defenses) > 1 else set())
    return best
