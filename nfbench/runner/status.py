"""What a run is at, in a file of its directory, for `nfbench status` in another shell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from nfbench.leases import alive, process
from nfbench.runner.driver import Progress
from nfbench.store import Job, Key, write_atomic

NAME = "status.json"
EVERY = 1.0
"""Seconds between two writings."""


@dataclass(eq=False)
class Status:
    """Passes everything on to a progress display, and writes it down."""

    progress: Progress
    folder: Path
    _jobs: int = 0
    _done: int = 0
    _failed: int = 0
    _running: dict[Key, dict[str, Any]] = field(default_factory=dict)
    _began: float = field(default_factory=time.time)
    _written: float = 0.0

    def total(self, weight: float, jobs: int) -> None:
        self._jobs = jobs
        self.progress.total(weight, jobs)
        self._write(now=True)

    def started(self, job: Job) -> None:
        self._running[job.key] = {"label": job.label, "since": time.time(), "share": 0.0}
        self.progress.started(job)
        self._write()

    def advanced(self, job: Job, share: float) -> None:
        if job.key in self._running:
            self._running[job.key]["share"] = share
        self.progress.advanced(job, share)
        self._write()

    def finished(self, job: Job, seconds: float) -> None:
        self._running.pop(job.key, None)
        self._done += 1
        self.progress.finished(job, seconds)
        self._write()

    def failed(self, job: Job, reason: str) -> None:
        self._running.pop(job.key, None)
        self._failed += 1
        self.progress.failed(job, reason)
        self._write()

    def warned(self, message: str) -> None:
        self.progress.warned(message)

    def noted(self, message: str) -> None:
        self.progress.noted(message)

    def close(self) -> None:
        """The run is over; its results say what came of it."""
        self._written = inf
        with suppress(OSError):
            (self.folder / NAME).unlink(missing_ok=True)

    def _write(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._written < EVERY:
            return
        self._written = time.monotonic()
        told = {
            **process(os.getpid()),
            "began": self._began,
            "written": time.time(),
            "jobs": self._jobs,
            "done": self._done,
            "failed": self._failed,
            "running": list(self._running.values()),
        }
        with suppress(OSError):  # a full disk is told by those who must write
            write_atomic(self.folder / NAME, json.dumps(told).encode())


def read_status(folder: Path) -> Mapping[str, Any]:
    """What a run that goes on says of itself; empty if none does.

    `alive` is added: whether its process runs, None where that can't be told from here.
    """
    try:
        found: Any = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {**found, "alive": alive(found)} if isinstance(found, dict) else {}
