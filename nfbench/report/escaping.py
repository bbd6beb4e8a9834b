"""Names in Markdown and CSV: what plugins call themselves comes out as text, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nfbench.records import CellRecord
from nfbench.report.run import Run

_SPECIAL = re.compile(r"[\\`*\[\]|<>&\x00-\x1f\x7f\u2028\u2029]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
"""A code span between single backticks, as our own sentences have."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula."""
_CODE = re.compile(r"[`\x00-\x1f\x7f\u2028\u2029]")


def text(raw: str) -> str:
    """Running text or a table's cell that shows `raw` and nothing else; different texts stay so."""
    return _SPECIAL.sub(_harmless, raw)


def code(raw: str) -> str:
    """The inside of a code span, outside of tables: no backtick, no line break."""
    return _CODE.sub(lambda found: f"\\x{ord(found[0]):02x}", raw)


def harmless(raw: str) -> str:
    """A field of a CSV file that no spreadsheet takes for a formula."""
    return f"'{raw}" if raw.startswith(_FORMULA) else raw


def _harmless(found: re.Match[str]) -> str:
    sign = found[0]
    if sign in _ENTITIES:
        return _ENTITIES[sign]
    return f"\\{sign}" if sign.isprintable() else f"&#{ord(sign) or 0xFFFD};"


def escaped(run: Run) -> Run:
    """A run whose names, reasons and summary can stand in a Markdown page; the numbers as they are."""
    info = {key: _plain(value) for key, value in run.info.items() if key in ("title", "summary")}
    return replace(run, info={**run.info, **info}, cells=[_cell(cell) for cell in run.cells])


def _plain(value: Any) -> Any:
    """Our own sentences keep their code spans; what is around these is text and nothing else."""
    if isinstance(value, str):
        parts = _SPAN.split(value)  # text and the insides of spans, by turns
        return "".join(f"`{code(p)}`" if i % 2 else text(p) for i, p in enumerate(parts))
    return [_plain(one) for one in value]


def _cell(cell: CellRecord) -> CellRecord:
    """A copy only where something has to change: boards have thousands of cells."""
    changes: dict[str, Any] = {}
    for role in ("defense", "attack", "threat_model"):
        plugin = getattr(cell, role)
        if _SPECIAL.search(plugin.name):
            changes[role] = plugin.model_copy(update={"name": text(plugin.name)})
    for field in ("defender", "caveat", "reason"):
        if _SPECIAL.search(value := getattr(cell, field)):
            changes[field] = text(value)
    if any(map(_SPECIAL.search, cell.flags)):
        changes["flags"] = [text(flag) for flag in cell.flags]
    if any(map(_SPECIAL.search, cell.winners)):
        changes["winners"] = {text(name): count for name, count in cell.winners.items()}
    return cell.model_copy(update=changes) if changes else cell


def names_of(info: Mapping[str, Any], key: str) -> str:
    """A text of `run.json`, escaped; empty where it is missing."""
    value = info.get(key, "")
    return text(value) if isinstance(value, str) else ""
