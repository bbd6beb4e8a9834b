"""Versions of the result files: which can be read, and what older ones lack."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import strict_json
from nfbench.records import SCHEMA, CellRecord

CELL_NAME = re.compile(r"\w[\w .,+()=@~-]{0,250}")
"""Names of cells, which are names of files: nothing in them leads out of a directory."""


def require_known(found: object, where: str) -> int:
    """The schema version of a file or line.

    Raises:
        UsageError: if a newer nfbench wrote it.
        CorruptArtifact: if it is no version at all.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise CorruptArtifact(f"{where}: schema_version is {found!r:.40}, expected 1 to {SCHEMA}")
    if found > SCHEMA:
        raise UsageError(
            f"{where} was written under schema {found}, this nfbench reads up to {SCHEMA}: "
            "install a newer one"
        )
    return found


def record_of(line: Any, where: str) -> CellRecord:
    """A cell's record from the JSON object of its line, whatever schema that was written under.

    It keeps the version it had, so that a board can tell that it is older.

    Raises:
        UsageError: if a newer nfbench wrote it.
        CorruptArtifact: naming the field that is wrong.
    """
    if not isinstance(line, dict):
        raise CorruptArtifact(f"{where} is no JSON object")
    version = require_known(line.get("schema_version"), where)
    try:
        return CellRecord.model_validate(_UPGRADES[version](line))
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        raise CorruptArtifact(f"{where}: {field}: {detail['msg'].lower()}") from None


def records_of(data: bytes, where: str) -> list[CellRecord]:
    """The cells of the lines of a `results.jsonl`.

    Raises:
        UsageError: if a newer nfbench wrote one of them.
        CorruptArtifact: naming the line that is no cell, or whose name no file can have or comes twice.
    """
    lines = data.strip(b"\n").split(b"\n")
    places = [f"{where}, line {number}" for number in range(1, len(lines) + 1)]
    cells = [
        record_of(strict_json(line, place), place) for line, place in zip(lines, places, strict=True)
    ]
    seen: set[str] = set()
    for place, cell in zip(places, cells, strict=True):
        if not CELL_NAME.fullmatch(cell.cell) or cell.cell in seen:
            raise CorruptArtifact(f"{place}: {cell.cell!r:.80} is no name of a cell, or comes twice")
        seen.add(cell.cell)
    return cells


def _from_1(line: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had git's description of the source tree in one string, of the reporting process."""
    found = line.get("environment")
    environment = dict(found) if isinstance(found, dict) else {}
    described = str(environment.pop("git", ""))
    commit = described.removesuffix("-dirty")
    dirty = described.endswith("-dirty") if commit else None
    return line | {"environment": {**environment, "git_commit": commit, "git_dirty": dirty}}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: dict}
