"""Numbers as a page shows them: rounded for the eye, in full for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nfbench.records import CellRecord, Value
from nfbench.report import board
from nfbench.report.board import Entry, number
from nfbench.report.page.markup import Html, el, join

DASH = "–"


@dataclass(frozen=True)
class Number:
    """A rate with the limits of its interval, where they are known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    bound: bool = False
    """Whether it is an upper bound."""

    @property
    def attributes(self) -> dict[str, str | None]:
        """In full precision, for an element that shows it."""
        names = ("value", "low", "high")
        return {f"data_{name}": full(getattr(self, name)) for name in names}

    @property
    def interval(self) -> str:
        """`[0.551, 0.699]`; nothing where there is none."""
        if self.low is None and self.high is None:
            return ""
        return f"[{number(self.low)}, {number(self.high)}]"

    @property
    def small(self) -> Html | None:
        """The interval, beside or below its number."""
        return el("small", self.interval, class_="ci") if self.interval else None

    @property
    def text(self) -> str:
        """Three digits, behind the sign of a bound."""
        return "≤ " * (self.bound and self.value is not None) + number(self.value)

    @property
    def shown(self) -> Html:
        """The text, and the interval in small."""
        return join(part for part in (self.text, self.small) if part is not None)


def full(value: float | None) -> str | None:
    """Every digit, so that a page can be held against its result file."""
    return None if value is None else repr(value)


def sr5_of(entry: Entry) -> Number:
    """SR@5 % of a board's entry."""
    return Number(entry.sr5, entry.sr5_low, entry.sr5_high)


def auroc_of(entry: Entry) -> Number:
    """The AUROC of a board's entry."""
    return Number(entry.auroc, entry.auroc_low, entry.auroc_high, entry.bound)


def metric(cell: CellRecord, name: str) -> Number:
    """A metric of a record; nothing where it has none."""
    value = cell.metrics.get(name, Value(value=None))
    return Number(value.value, value.low, value.high)


def average(cells: Sequence[CellRecord], name: str) -> float | None:
    """Mean of a metric over cells, as the tables take it."""
    return board.mean([c.metrics[name].value for c in cells if c.finished and name in c.metrics])


def statistic_of(cell: CellRecord, statistic: str) -> str:
    """The metric that a statistic is for a cell: `papers` depends on what the attacker knows."""
    if statistic != "papers":
        return statistic
    return "auroc_successes" if cell.adaptive else "auroc_returned"
