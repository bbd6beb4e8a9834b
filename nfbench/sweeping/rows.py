"""What came of a sweep: rows of numbers, one for each point and detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from nfbench.records import INTERRUPTED, CellRecord, Value
from nfbench.report.board import UNDEFENDED
from nfbench.report.entries import Entry, grouped
from nfbench.report.page.columns import parts_of
from nfbench.report.pooling import averaged
from nfbench.report.run import Run
from nfbench.report.settled import rounded, settled
from nfbench.sweeping.unrolling import Axis

NOT_RUN = "not run"
"""Stands for the numbers of a point that was not reached."""
NOTHING = Value(value=None)
WORST = "worst case"
"""Stands for an attack where a number is of all of them together."""


class Column(NamedTuple):
    """An attack, or the worst of all, under one threat model and at one budget."""

    threat_model: str
    attack: str
    """Empty for the worst case over attacks."""
    ball: str
    """`linf ≤ 0.25`; of attacks that look for the smallest perturbation the norm alone."""

    @property
    def title(self) -> str:
        """Without the threat model."""
        return f"{self.attack or WORST} ({self.ball})"


@dataclass(frozen=True)
class Row:
    """One detector at one point: means over seeds, with intervals at 95 %."""

    defense: str
    accuracy: Value
    """Of the classifier on clean images."""
    alarms: Value
    """Share of clean images rejected at the threshold that is set for 5 %."""
    entries: Mapping[Column, Entry]


@dataclass(frozen=True)
class Result:
    """One point, and what came of its run."""

    values: Mapping[str, Any]
    folder: str
    """Its run directory, within that of the sweep."""
    rows: Sequence[Row] = ()
    reasons: Sequence[str] = ()
    """Why numbers are missing, each once."""
    statuses: frozenset[str] = frozenset()
    """Of its cells; none where it has not been reached."""
    plan: str = ""
    """Digest of its plan."""

    @property
    def status(self) -> str:
        """`done`, `failed` or `incomplete` if a cell is, `skipped` if nothing can be done, `not run`."""
        if self.statuses <= {NOT_RUN, "skipped"}:
            return "skipped" if self.statuses == {"skipped"} else NOT_RUN
        if "failed" in self.statuses:
            return "failed"
        return "incomplete" if NOT_RUN in self.statuses else "done"


@dataclass(frozen=True)
class Swept:
    """A sweep: its results in the order of its points."""

    axes: Sequence[Axis]
    statistic: str
    results: Sequence[Result]
    dataset: str
    summary: str = ""
    """Model, images and seeds, a sentence."""
    command: str = ""
    interrupted: bool = False
    ran: int = 0
    """Jobs that ran."""

    @property
    def columns(self) -> list[Column]:
        """Whatever any row has numbers for: by threat model, and in the order of tables."""
        found = dict.fromkeys(c for result in self.results for row in result.rows for c in row.entries)
        order = {threat: i for i, threat in enumerate(dict.fromkeys(c.threat_model for c in found))}
        return sorted(found, key=lambda column: order[column.threat_model])

    @property
    def defenses(self) -> list[str]:
        """Detectors that rows are of."""
        return list(dict.fromkeys(row.defense for result in self.results for row in result.rows))

    def lines(self) -> list[tuple[Result, Row]]:
        """The rows of a table; a point without numbers has an empty one."""
        empty = Row("–", NOTHING, NOTHING, {})
        return [(result, row) for result in self.results for row in result.rows or [empty]]

    def label(self, result: Result) -> str:
        """A point in words."""
        return ", ".join(axis.said(result.values) for axis in self.axes)

    def entry(self, result: Result, row: Row, column: Column) -> Entry:
        """What stands in a column of a row."""
        return row.entries.get(column, Entry(note="–" if row.entries else result.status))


def values_of(entry: Entry) -> list[Value]:
    """AUROC and SR@5 % with their intervals; nothing of a cell that has no numbers."""
    if entry.note:
        return []
    auroc = Value(value=entry.auroc, low=entry.auroc_low, high=entry.auroc_high)
    return [auroc, Value(value=entry.sr5, low=entry.sr5_low, high=entry.sr5_high)]


def rows_of(run: Run, statistic: str) -> list[Row]:
    """The rows of one point, by detector."""
    entries: dict[str, dict[Column, Entry]] = {}
    for table in settled(run, statistic):
        columns = [Column(table.threat_model, *parts_of(name)) for name in table.columns]
        for defense, found in table.rows.items():
            if defense != UNDEFENDED:
                entries.setdefault(defense, {}).update(zip(columns, found, strict=True))
    own = grouped(run.cells, lambda cell: cell.row)
    facts = {
        name: (_fact(cells, "clean_accuracy"), _fact(cells, "fpr_realised_at_5"))
        for name, cells in own.items()
    }
    return [Row(name, *facts[name], entries[name]) for name in own]


def statuses_of(cells: Iterable[CellRecord]) -> frozenset[str]:
    """Of cells; `not run` of those that an interruption left out."""
    return frozenset(NOT_RUN if cell.reason == INTERRUPTED else cell.status for cell in cells)


def reasons_of(cells: Iterable[CellRecord]) -> list[str]:
    """Why cells have no numbers, each reason once with how many cells it empties."""
    troubles = Counter((c.status, c.reason) for c in cells if not c.finished)
    return [
        f"{count} {'cell' if count == 1 else 'cells'} {status}: {reason}"
        for (status, reason), count in troubles.items()
    ]


def _fact(cells: Sequence[CellRecord], metric: str) -> Value:
    """A number about clean images, the mean over seeds; cells that share a detector have the same."""
    by_seed = grouped([cell for cell in cells if cell.finished], lambda cell: cell.seed)
    each = [_shared([cell.metrics[metric] for cell in own]) for own in by_seed.values()]
    if not each:
        return NOTHING
    found = averaged(each)
    if len(each) == 1:
        return found
    return found.model_copy(update={k: rounded(getattr(found, k)) for k in ("value", "low", "high")})


def _shared(values: Sequence[Value]) -> Value:
    """What all say; where detectors differ, as under `whitebox-defense`, their mean without interval."""
    if all(value == values[0] for value in values):
        return values[0]
    known = [value.value for value in values if value.value is not None]
    return Value(value=rounded(fmean(known)) if known else None)
