"""A board as CSV (RFC 4180): a line a cell, a column a metric in full precision, limits in 6 digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from nfbench.boards.standing import Judged
from nfbench.records import CellRecord, Value
from nfbench.report.escaping import harmless

IDENTITY = (
    "cell",
    "defense",
    "defender",
    "attack",
    "threat_model",
    "norm",
    "eps",
    "seed",
    "dataset",
    "data_sha256",
    "model",
    "status",
    "standing",
    "reason",
    "schema_version",
)
"""Columns before the counts, the costs and the metrics."""
_EMPTY = Value(value=None)


def sheet(judged: Judged) -> str:
    """The whole file, with CRLF as the format asks; a metric without any interval has no bounds."""
    cells = judged.stored.cells
    counts = sorted({name for cell in cells for name in cell.counts})
    costs = sorted({name for cell in cells for name in cell.cost})
    metrics = bounds_of(cells)
    head = [*IDENTITY, *(f"count_{n}" for n in counts), *(f"cost_{n}" for n in costs)]
    for name, bounded in metrics.items():
        head += [name, f"{name}_low", f"{name}_high"] if bounded else [name]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(map(harmless, head))
    for cell in cells:
        row = _identity(judged, cell)
        row += [_number(cell.counts.get(name)) for name in counts]
        row += [_number(cell.cost.get(name)) for name in costs]
        writer.writerow(row + _numbers(cell, metrics))
    return out.getvalue()


def bounds_of(cells: Iterable[CellRecord]) -> dict[str, bool]:
    """Every metric by name, in order, and whether some cell has an interval of it."""
    found: dict[str, bool] = {}
    for cell in cells:
        for name, value in cell.metrics.items():
            bounded = value.low is not None or value.high is not None
            if bounded or name not in found:
                found[name] = bounded or found.get(name, False)
    return {name: found[name] for name in sorted(found)}


def _identity(judged: Judged, cell: CellRecord) -> list[str]:
    texts = [cell.cell, cell.defense.name, cell.defender, cell.attack.name, cell.threat_model.name]
    dataset, model = (str(one.get("name", "")) for one in (cell.dataset, cell.model))
    why = "; ".join([*judged.held.get(cell.cell, ()), *([cell.reason] if cell.reason else [])])
    standing = judged.standing(cell)
    return [
        *map(harmless, texts),
        cell.norm,
        _number(cell.eps),
        _number(cell.seed),
        harmless(dataset),
        harmless(str(cell.dataset.get("sha256", ""))),
        harmless(model),
        cell.status,
        standing,
        harmless(why),
        _number(cell.schema_version),
    ]


def _numbers(cell: CellRecord, metrics: Mapping[str, bool]) -> list[str]:
    row: list[str] = []
    for name, bounded in metrics.items():
        value = cell.metrics.get(name, _EMPTY)
        row.append(_number(value.value))
        if bounded:
            row += [_limit(value.low), _limit(value.high)]
    return row


def _number(value: float | None) -> str:
    """The shortest text that is read back as the same number; empty for null."""
    return "" if value is None else repr(value)


def _limit(value: float | None) -> str:
    """Six digits: an interval is never known better, and they are two thirds of the file."""
    return "" if value is None else f"{value:.6g}"
