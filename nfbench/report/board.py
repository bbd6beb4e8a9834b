"""The tables of a leaderboard: one row a defense and one column an attack, for each threat model."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeVar

from nfbench.records import INTERRUPTED, MARK, CellRecord, Value
from nfbench.report.cells import budget, strongest, worst_case
from nfbench.report.flags import TOLERANCE
from nfbench.report.pooling import Case, averaged, grids, success
from nfbench.report.pooling import auroc as auroc_of
from nfbench.report.run import Run
from nfbench.stats.compare import Ranked, ranking

K = TypeVar("K", bound=Hashable)
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
    auroc_low: float | None = None
    auroc_high: float | None = None
    sr5_low: float | None = None
    sr5_high: float | None = None
    """Limits at 95 %: over images, and over seeds where there are several; None where unknown."""

    @classmethod
    def of(cls, auroc: Value, sr5: Value, **other: Any) -> Entry:
        """Of two numbers with their intervals."""
        return cls(
            auroc=auroc.value,
            sr5=sr5.value,
            auroc_low=auroc.low,
            auroc_high=auroc.high,
            sr5_low=sr5.low,
            sr5_high=sr5.high,
            **other,
        )

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


def balls_of(cells: Sequence[CellRecord]) -> list[str]:
    """The budgets of some cells: norm by norm, by radius."""
    norms = list(dict.fromkeys(c.norm for c in cells))
    found = {(norms.index(c.norm), math.inf if c.eps is None else c.eps): budget(c) for c in cells}
    return [found[place] for place in sorted(found)]


def grouped(cells: Iterable[CellRecord], key: Callable[[CellRecord], K]) -> dict[K, list[CellRecord]]:
    """Cells by what they have in common, in the order in which they come."""
    found: dict[K, list[CellRecord]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


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
    return Entry.of(auroc, sr5, turned=None if turned == auroc.value else turned, flagged=flagged)


def _pooled(run: Run, cells: Sequence[CellRecord], name: str) -> Value:
    """The mean of a metric over seeds, with its interval; of one seed what the record says."""
    values = [cell.metrics[name] for cell in cells]
    whole = {"auroc_worst": auroc_of, "sr_at_5_fpr": success}.get(name)
    found = averaged(values)
    if len(cells) == 1 or whole is None or found.value is None:
        return found
    over = whole([Case.of(run.samples[cell.cell]) for cell in cells])
    return found.model_copy(update={"low": over.low, "high": over.high})


def _ranks(run: Run, cells: Sequence[CellRecord], balls: Sequence[str]) -> dict[str, Ranked]:
    """Who can be told from whom under one threat model, over the ladder of its worst cases."""
    rows = ladders(run, cells, balls or balls_of(cells))
    return {one.name: one for one in ranking(grids(rows))} if len(rows) > 1 else {}


def ladders(
    run: Run, cells: Sequence[CellRecord], ladder: Sequence[str]
) -> dict[str, list[dict[int, Case]]]:
    """For each row that may be ranked its worst cases: by budget, then by seed."""
    rows: dict[str, list[dict[int, Case]]] = {}
    for defense, mine in grouped(cells, lambda c: c.row).items():
        within = grouped(mine, budget)
        own = [within.get(ball, []) for ball in ladder]
        if all(worst(run, some).rank is not None for some in own):
            rows[defense] = [cases_of(run, some) for some in own]
    return rows


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
    return Entry.of(auroc_of(found), success(found), flagged=flagged)


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
        found[seed] = Case.of(vectors, lowest)
    return found


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
