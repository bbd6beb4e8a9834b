"""A sweep as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from nfbench.records import Value
from nfbench.report.entries import Entry
from nfbench.report.escaping import harmless
from nfbench.sweeping.rows import Column, Result, Row, Swept, values_of
from nfbench.sweeping.unrolling import text_of

FORMAT = 1
"""Version of `sweep.json`."""


def document(swept: Swept) -> str:
    """`sweep.json`: everything the tables show."""
    found = {
        "format": FORMAT,
        "dataset": swept.dataset,
        "summary": swept.summary,
        "command": swept.command,
        "statistic": swept.statistic,
        "vary": [{"name": axis.name, "label": axis.label} for axis in swept.axes],
        "interrupted": swept.interrupted,
        "points": [_point(swept, result) for result in swept.results],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _point(swept: Swept, result: Result) -> dict[str, Any]:
    return {
        "values": dict(result.values),
        "run": result.folder,
        "plan": result.plan,
        "status": result.status,
        "reasons": list(result.reasons),
        "rows": [_row(swept, row) for row in result.rows],
    }


def _row(swept: Swept, row: Row) -> dict[str, Any]:
    return {
        "defense": row.defense,
        "clean_accuracy": _plain(row.accuracy),
        "false_alarms": _plain(row.alarms),
        "cells": [_cell(swept, column, entry) for column, entry in row.entries.items()],
    }


def _cell(swept: Swept, column: Column, entry: Entry) -> dict[str, Any]:
    numbers = dict(zip((swept.statistic, "sr_at_5_fpr"), map(_plain, values_of(entry)), strict=False))
    return {
        "threat_model": column.threat_model,
        "attack": column.attack or None,
        "budget": column.ball,
        **numbers,
        "flags": signs(entry),
    }


def _plain(value: Value) -> dict[str, float | None]:
    return {"value": value.value, "low": value.low, "high": value.high}


def signs(entry: Entry) -> list[str]:
    """What is said beside the numbers of a cell, in words."""
    told = {
        entry.note: bool(entry.note) and entry.note != "–",
        "upper bound": entry.bound and entry.auroc is not None,
        "climbing": entry.climbing,
        "flagged": entry.flagged,
    }
    return [word for word, holds in told.items() if holds]


def sheet(swept: Swept) -> str:
    """`sweep.csv` (RFC 4180): a line a point and detector, a column a number or limit."""
    columns = swept.columns
    head = [axis.name for axis in swept.axes] + ["defense", "status", "reason"]
    head += _three("clean_accuracy") + _three("false_alarms")
    for column in columns:
        name = f"{column.attack or 'worst'}@{column.threat_model} {column.ball.replace(' ≤ ', '<=')}"
        head += _three(f"{name} {swept.statistic}") + _three(f"{name} sr_at_5_fpr") + [f"{name} flags"]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(map(harmless, head))
    for result, row in swept.lines():
        line = [_field(result.values[axis.name]) for axis in swept.axes]
        line += [harmless(row.defense), result.status, harmless("; ".join(result.reasons))]
        line += _limits(row.accuracy) + _limits(row.alarms)
        for column in columns:
            entry = swept.entry(result, row, column)
            for value in values_of(entry) or [Value(value=None)] * 2:
                line += _limits(value)
            line.append("; ".join(signs(entry)))
        writer.writerow(line)
    return out.getvalue()


def _three(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _field(value: object) -> str:
    """A number that is read back as the same; anything else as people see it."""
    return repr(value) if isinstance(value, (int, float)) else harmless(text_of(value))


def _limits(value: Value) -> list[str]:
    limits = ["" if one is None else f"{one:.6g}" for one in (value.low, value.high)]
    return ["" if value.value is None else repr(value.value), *limits]
