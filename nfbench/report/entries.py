"""What one cell of a table shows, and how cells are grouped for that."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from nfbench.records import MARK, CellRecord, Value
from nfbench.report.cells import BOUND, budget

CLIMBING = "↑"
"""Beside numbers that more passes would raise."""
TOLERANCE = 0.02
"""Difference of SR@5 that is no sign of anything yet."""
K = TypeVar("K", bound=Hashable)


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
    late: float = 0.0
    """How much of SR@5 % only the second half of the attack's passes found."""
    bound: bool = False
    """Whether the AUROC is an upper bound: the attack stopped before it could be lower."""
    auroc_low: float | None = None
    auroc_high: float | None = None
    sr5_low: float | None = None
    sr5_high: float | None = None
    """Limits at 95 %: over images, and over seeds where there are several; None where unknown."""

    @classmethod
    def of(cls, auroc: Value, sr5: Value, **other: Any) -> Entry:
        """Of two numbers with their intervals."""
        return cls(
            bound=auroc.flag.startswith(BOUND),
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
        bound = "≤ " * (self.bound and self.auroc is not None)
        signs = f" {CLIMBING}" * self.climbing + f" {MARK}" * self.flagged
        return f"{bound}{number(self.auroc)}{turned} / {number(self.sr5)}{signs}"

    @property
    def climbing(self) -> bool:
        """Whether more passes would find more: the second half still did, and much is left to find."""
        return self.late > TOLERANCE and self.sr5 is not None and self.sr5 < 1 - TOLERANCE

    @property
    def rank(self) -> float | None:
        """What defenses are compared by, SR@5 %; None where nothing may be compared."""
        return None if self.flagged else self.sr5


def balls_of(cells: Sequence[CellRecord]) -> list[str]:
    """The budgets of some cells: norm by norm, by radius."""
    norms = list(dict.fromkeys(c.norm for c in cells))
    found = {(norms.index(c.norm), c.radius): budget(c) for c in cells}
    return [found[place] for place in sorted(found)]


def grouped(cells: Iterable[CellRecord], key: Callable[[CellRecord], K]) -> dict[K, list[CellRecord]]:
    """Cells by what they have in common, in the order in which they come."""
    found: dict[K, list[CellRecord]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"
