"""Where two versions of a board's file differ first: the table, the row and the column."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from nfbench.boards.html_tables import tables_of

NOTHING = "nothing"
"""Said of what only one of the two has."""
LONGEST = 80
"""Characters shown of a value."""
_ROW = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|[-:| ]+\|?")


@dataclass(frozen=True)
class Place:
    """One value in a file, as a person would point at it."""

    table: str
    row: str
    column: str
    value: str

    @property
    def address(self) -> tuple[str, str, str]:
        return self.table, self.row, self.column


@dataclass(frozen=True)
class Difference:
    """The first place where two texts say something else."""

    where: str
    committed: str
    rendered: str


def first_difference(suffix: str, committed: str, rendered: str) -> Difference | None:
    """None if they are the same but for the ends of lines, which checkouts may change."""
    old, new = (text.replace("\r\n", "\n") for text in (committed, rendered))
    if old == new:
        return None
    try:
        pairs = zip_longest(_PLACES[suffix](old), _PLACES[suffix](new))
        for one, other in pairs:
            if one != other:
                return _at(one, other)
    except (ValueError, RecursionError, csv.Error) as error:
        reason = f"{error} ".splitlines()[0].strip()
        return Difference("the whole file", f"unreadable ({reason})", "another")
    return _by_line(old, new)


def _at(one: Place | None, other: Place | None) -> Difference:
    if one is not None and other is not None and one.address != other.address:
        there, here = _told(one), _told(other)
        return Difference("the order of tables, rows and columns", there, here)
    where = one or other
    assert where is not None
    return Difference(_told(where), *(NOTHING if p is None else _short(p.value) for p in (one, other)))


def _told(place: Place) -> str:
    names = (("table", place.table), ("row", place.row), ("column", place.column))
    return ", ".join(f"{kind} {name!r}" for kind, name in names if name)


def _by_line(old: str, new: str) -> Difference:
    """The first line that differs, around the first character that does."""
    for number, (one, other) in enumerate(zip_longest(old.split("\n"), new.split("\n")), 1):
        if one != other:
            pair = (one or "", other or "")
            first = next((i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), 0)
            start = max(first - LONGEST // 2, 0)
            return Difference(f"line {number}", *(_short(text[start:]) or NOTHING for text in pair))
    raise AssertionError("the texts are the same")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


def _markdown(text: str) -> Iterator[Place]:
    """Every cell of every table, and the other lines."""
    section = ""
    head: list[str] = []
    for line in text.split("\n"):
        if not line.startswith("|"):
            head = []
            section = line.lstrip("# ") if line.startswith("#") else section
            yield Place(section, "", "text", line)
        elif not _RULE.fullmatch(line):
            cells = [cell.strip() for cell in _ROW.split(line.strip("|"))]
            names = head or ["header"] * len(cells)
            head = head or cells
            for name, cell in zip_longest(names, cells, fillvalue=""):
                yield Place(section, cells[0], name, cell)


def _csv(text: str) -> Iterator[Place]:
    lines = csv.reader(io.StringIO(text, newline=""))
    head = next(lines, [])
    yield from (Place("cells", "header", "", name) for name in head)
    for line in lines:
        for name, value in zip_longest(head, line, fillvalue=""):
            yield Place("cells", line[0] if line else "", name, value)


def _json(text: str) -> Iterator[Place]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # of a file's content, not of an argument
    for key, value in found.items():
        if isinstance(value, list):
            yield from (place for item in value for place in _item(key, item))
        else:
            yield from (Place(key, "", name, shown) for name, shown in _leaves(value))


def _item(key: str, item: Any) -> Iterator[Place]:
    """A row of a table, or a cell."""
    known: Mapping[str, Any] = item if isinstance(item, dict) else {}
    row = known.get("defense", known.get("cell", ""))
    table = f"{key}: {known['threat_model']}" if "threat_model" in known else key
    yield from (Place(table, str(row), name, shown) for name, shown in _leaves(item))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every number and text in a value, by its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else key)
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def _html(text: str) -> Iterator[Place]:
    for table in tables_of(text):
        head: Sequence[str] = table.rows[0] if table.rows else ()
        for row in table.rows:
            for name, cell in zip_longest(head, row, fillvalue=""):
                yield Place(table.caption, row[0] if row else "", name, cell)


_PLACES: Mapping[str, Callable[[str], Iterator[Place]]] = {
    "md": _markdown,
    "csv": _csv,
    "json": _json,
    "html": _html,
}
