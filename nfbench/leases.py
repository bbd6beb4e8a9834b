"""Leases: who is making which artifact, so that two runs on one cache don't do the same job at once.

A lease is a small file beside the artifacts. Its holder rewrites it every few seconds; whoever
finds one watches whether that goes on. Only the watcher's own monotonic clock counts, so neither
clocks that jump nor those of other machines matter. A job done twice all the same is harmless: an
artifact is put in place once.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

BEAT = 2.0
"""Seconds between two signs of life of a holder."""
EXPIRY = 60.0
"""Seconds without one after which a lease of another machine is void."""


@dataclass(eq=False)
class Held:
    """A lease of this process."""

    path: Path
    about: dict[str, Any]

    def beat(self) -> None:
        """A sign of life; none if somebody has taken the lease over."""
        if _read(self.path).get("token") != self.about["token"]:
            return
        self.about["beat"] += 1
        _write(self.path, self.about)


@dataclass(eq=False)
class Leases:
    """The leases of a store, as one process sees them."""

    folder: Path
    clock: Callable[[], float] = time.monotonic
    _held: Held | None = None
    _seen: dict[Path, tuple[object, float]] = field(default_factory=dict)
    """What a lease of somebody else said last, and since when."""
    _pulse: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def take(self, key: str, label: str = "", device: str = "") -> Iterator[bool]:
        """Hold the lease of `key` for the time being; False if somebody alive has it.

        Without one where leases can't be written: the disk is full or the cache read-only.
        """
        path = self.folder / f"{key}.json"
        about = {
            "token": secrets.token_hex(8),
            **process(os.getpid()),
            "label": label,
            "device": device,
            "share": 0.0,
            "beat": 0,
        }
        try:
            taken = self._create(path, about) or (self._void(path) and self._create(path, about))
        except OSError:
            yield True
            return
        if not taken:
            yield False
            return
        self._hold(Held(path, about))
        try:
            yield True
        finally:
            with self._lock:  # no sign of life comes after it is given back
                self._held = None
                if _read(path).get("token") == about["token"]:
                    path.unlink(missing_ok=True)

    def tick(self, share: float) -> None:
        """Remember how much of the running job is done; the next sign of life says it."""
        if (held := self._held) is not None:
            held.about["share"] = share

    def running(self, key: str) -> Mapping[str, Any]:
        """What the holder of a lease says of it; empty if nobody has it."""
        return _read(self.folder / f"{key}.json")

    def free(self, key: str) -> bool:
        """Whether nobody alive has the lease of `key`; one that is void is removed.

        Whoever lives long enough must ask: a process that has just begun can't tell a silent holder.
        """
        path = self.folder / f"{key}.json"
        return not path.exists() or self._void(path)

    def _create(self, path: Path, about: Mapping[str, Any]) -> bool:
        """Write a lease that nobody has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(about))
        except FileExistsError:
            return False
        self._seen.pop(path, None)
        return True

    def _void(self, path: Path) -> bool:
        """Remove the lease of a holder that is dead; whether that was so."""
        about = _read(path)  # empty while somebody is about to write it, or died before he did
        if path.exists() and not self._dead(path, about):
            return False
        aside = path.with_name(f".{path.name}-void-{secrets.token_hex(4)}")
        try:
            path.rename(aside)
        except FileNotFoundError:  # given back, or somebody else was quicker
            return True
        mine = _read(aside).get("token") == about.get("token")
        if not mine:  # somebody has voided it before, and this is that of the next holder
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)
        return mine

    def _dead(self, path: Path, about: Mapping[str, Any]) -> bool:
        """Whether its process is gone, or it has given no sign of life for too long."""
        if alive(about) is False:
            return True
        sign, now = (about.get("token"), about.get("beat")), self.clock()
        last, since = self._seen.get(path, (None, now))
        if last != sign:
            self._seen[path] = (sign, now)
            return False
        return now - since > EXPIRY

    def _hold(self, held: Held) -> None:
        """Give signs of life from now on."""
        with self._lock:
            self._held = held
            if self._pulse is None:
                self._pulse = threading.Thread(target=self._beat, name="nfbench leases", daemon=True)
                self._pulse.start()

    def _beat(self) -> None:
        """Until nothing is held any more."""
        while True:
            time.sleep(BEAT)
            with self._lock:
                if self._held is None:
                    self._pulse = None
                    return
                with suppress(OSError):
                    self._held.beat()


@cache
def process(pid: int) -> Mapping[str, Any]:
    """Identifies a process of this machine that runs, for `alive` to ask about later."""
    return {"host": socket.gethostname(), "pid": pid, "started": started_of(pid)}


def alive(about: Mapping[str, Any]) -> bool | None:
    """Whether the process that wrote this runs; None where that can't be told from here.

    Another process may have got its number, so when it was started counts too.
    """
    pid, started = about.get("pid"), about.get("started")
    if about.get("host") != socket.gethostname() or not isinstance(pid, int):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, and there
        return True
    now = started_of(pid)
    return not (started and now and started != now)


def started_of(pid: int) -> str:
    """When a process began, by the kernel's clock; empty where that can't be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""
    return f"{boot}-{stat.rpartition(')')[2].split()[19]}"


def _read(path: Path) -> dict[str, Any]:
    """What a lease says; empty if there is none, or none that can be read."""
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, about: Mapping[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}-{about['token']}")
    try:
        scratch.write_text(json.dumps(about), "utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
