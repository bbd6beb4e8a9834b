"""Pins: a cache remembers what each run needs of it, so that clearing leaves that alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from nfbench.store import Key, Store, write_atomic

FOLDER = "runs"


def pin(store: Store, out: Path, keys: Iterable[Key]) -> None:
    """Note which artifacts a run is made of, before it begins.

    A cache that takes no notes goes without.
    """
    note = {"run": str(out.absolute()), "host": socket.gethostname(), "keys": sorted(keys)}
    name = sha256(f"{note['host']} {note['run']}".encode()).hexdigest()[:16]
    with suppress(OSError):
        write_atomic(store.root / FOLDER / f"{name}.json", json.dumps(note).encode())


def pins(store: Store) -> list[set[Key]]:
    """What runs need, finished or not; of those of this machine only where they still are."""
    found = []
    for path in sorted((store.root / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            note: Any = json.loads(path.read_text("utf-8"))
            if note["host"] != socket.gethostname() or Path(note["run"]).is_dir():
                found.append(set(note["keys"]))
    return found
