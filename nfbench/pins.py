"""Pins: a cache remembers which runs used it, so that clearing it leaves alone what they refer to."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from nfbench.store import Store, write_atomic

FOLDER = "runs"


def remember(store: Store, out: Path) -> None:
    """Note where a run lies; a cache that takes no notes goes without."""
    path = str(out.absolute())
    note = store.root / FOLDER / f"{sha256(path.encode()).hexdigest()[:16]}.json"
    with suppress(OSError):
        if not note.is_file():
            write_atomic(note, json.dumps({"run": path}).encode())


def known_runs(store: Store) -> list[Path]:
    """Directories of runs that used this cache and are still there."""
    found = []
    for note in sorted((store.root / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(Path(json.loads(note.read_text("utf-8"))["run"]))
    return [path for path in found if (path / "results.jsonl").is_file()]
