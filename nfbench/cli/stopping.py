"""Being stopped: Ctrl-C, and a scheduler's SIGTERM, which is taken for the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """By what a command was stopped."""

    exit_code: int = 130


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Take SIGTERM for Ctrl-C: what is finished is kept and written, and the exit code says it."""
    stop = Stop()

    def terminated(_number: int, _frame: FrameType | None) -> None:
        stop.exit_code = 128 + signal.SIGTERM
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main one may
        yield stop
        return
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
