"""Tables that are the same on every processor: what is computed for them has six digits.

The last bits of a sum depend on the instructions that a processor has. What a record says stays as it
is; a mean over seeds, a worst case and the limits of either are computed while a page is made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, overload

from nfbench.report.board import UNDEFENDED, Table, tables
from nfbench.report.cells import budget
from nfbench.report.entries import Entry, balls_of
from nfbench.report.run import Run

_NUMBERS = ("auroc", "sr5", "turned", "auroc_low", "auroc_high", "sr5_low", "sr5_high")


@overload
def rounded(value: float) -> float: ...
@overload
def rounded(value: None) -> None: ...
def rounded(value: float | None) -> float | None:
    """Six digits: far more than an interval is known to, and fewer than rounding errors reach."""
    return None if value is None else float(f"{value:.6g}")


def settled(run: Run, statistic: str) -> list[Table]:
    """The tables of a run, `nfbench.report.board.tables`, settled; computed once."""
    key = ("settled", statistic)
    if key not in run.memory:
        run.memory[key] = [_settled(run, table) for table in tables(run, statistic)]
    return list(run.memory[key])


def _settled(run: Run, table: Table) -> Table:
    cells = [c for c in run.cells if c.threat_model.name == table.threat_model]
    own = Counter((c.row, c.attack.name, budget(c)) for c in cells)
    everywhere = Counter((c.attack.name, budget(c)) for c in cells)
    balls, attacks = balls_of(cells), dict.fromkeys(c.attack.name for c in cells)
    columns = [(a, b) for a in attacks for b in balls if (a, b) in everywhere]  # then the worst cases
    rows = {}
    for defense, entries in table.rows.items():
        cells_of = [
            everywhere[column] if defense == UNDEFENDED else own[defense, *column] for column in columns
        ]
        alone = [count == 1 for count in cells_of] + [False] * (len(entries) - len(columns))
        pairs = zip(entries, alone, strict=True)
        rows[defense] = [entry if one else _rounded(entry) for entry, one in pairs]
    ranks = {name: replace(one, value=rounded(one.value)) for name, one in table.ranks.items()}
    return replace(table, rows=rows, ranks=ranks)


def _rounded(entry: Entry) -> Entry:
    changes: dict[str, Any] = {name: rounded(getattr(entry, name)) for name in _NUMBERS}
    return replace(entry, **changes)
