"""A board as one JSON document: rows, ranks, entries, terms and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nfbench.boards.standing import Judged
from nfbench.records import SCHEMA, CellRecord
from nfbench.report.board import UNDEFENDED, Table, mean
from nfbench.report.evidence import Evidence
from nfbench.report.settled import rounded, settled

FORMAT = 1
"""Version of the document."""
PROVENANCE = ("command", "environment", "plan", "spec")
"""What of `run.json` is repeated."""
FACTS = {"clean_accuracy": "clean_accuracy", "false_alarms": "fpr_realised_at_5"}
"""What is said of a row besides its entries, and the metrics that it is the mean of."""
_Place = tuple[str, str]
"""A row and a threat model."""


def document(judged: Judged, evidence: Evidence) -> str:
    """The whole file; keys are sorted, and each row and cell has a line of its own."""
    board, terms, run = judged.board, judged.terms, judged.shown
    top = {
        "format": FORMAT,
        "schema_version": SCHEMA,
        "board": board.name,
        "title": run.info["title"],
        "statistic": board.statistic,
        "trust": evidence.level,
        "results_sha256": evidence.results_sha256,
        "terms": {
            "attacks": sorted(terms.asked or terms.named),
            "data_sha256": terms.data_sha256,
            "limit": terms.limit,
            "seeds": list(terms.seeds),
        },
        "provenance": {k: judged.stored.info[k] for k in PROVENANCE if k in judged.stored.info},
        "breaks": [one.model_dump(mode="json") for one in evidence.breaks],
    }
    found = settled(run, board.statistic)
    cells: dict[_Place, list[CellRecord]] = {}
    for cell in run.cells:
        cells.setdefault((cell.row, cell.threat_model.name), []).append(cell)
    lists = {
        "tables": [row for table in found for row in _rows(table, cells)],
        "not_ranked": _not_ranked(judged),
    }
    return _text(top, lists)


def _rows(table: Table, cells: Mapping[_Place, Sequence[CellRecord]]) -> list[dict[str, Any]]:
    """One object a row of a table; its facts are means over its cells, in six digits as all means."""
    found = []
    for defense, entries in table.rows.items():
        own = [c for c in cells.get((defense, table.threat_model), ()) if c.finished]
        shown = zip(table.columns, entries, strict=True)
        row: dict[str, Any] = {
            "threat_model": table.threat_model,
            "defense": defense,
            "entries": {column: asdict(entry) for column, entry in shown},
        }
        if defense != UNDEFENDED:
            row |= {n: rounded(mean(c.metrics[m].value for c in own)) for n, m in FACTS.items()}
        if defense in table.ranks:
            row["rank"] = asdict(table.ranks[defense])
        found.append(row)
    return found


def _not_ranked(judged: Judged) -> list[dict[str, Any]]:
    """Every cell that no rank rests on, and why."""
    found = []
    for cell in judged.stored.cells:
        standing = judged.standing(cell)
        if standing != "ranked":
            reasons = [*judged.held.get(cell.cell, ()), *cell.flags]
            why = reasons or [cell.reason]
            found.append({"cell": cell.cell, "standing": standing, "why": why})
    return found


def _text(top: Mapping[str, Any], lists: Mapping[str, list[dict[str, Any]]]) -> str:
    """JSON whose long lists have one item a line, so that a changed number is a changed line."""
    parts = {key: _line(value) for key, value in top.items()}
    for key, items in lists.items():
        parts[key] = "[\n" + ",\n".join(f"  {_line(item)}" for item in items) + "\n ]" if items else "[]"
    body = ",\n".join(f" {json.dumps(key)}: {parts[key]}" for key in sorted(parts))
    return "{\n" + body + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
