"""Workers on this machine: processes that live as long as the run, each on one device."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from nfbench import Count, Engine, Executor, Positive, Report, Task, UsageError, perform


class Local(Executor):
    """Processes of this machine, one torch thread each; a GPU is shared by several if asked for.

    A worker that dies costs the job it was at, which is started again; when the run dies, however it
    does, its workers go with it.
    """

    name = "local"

    devices: tuple[str, ...] = ("auto",)
    """`cpu:2` is two workers, `cuda:1` a GPU, `cuda` all of them, `auto` all GPUs or else all cores."""
    jobs_per_device: Count = 1
    """Workers on each GPU."""
    timeout: Positive | None = None
    """Seconds after which a job is stopped and counts as failed; none by default."""

    def engine(self, site: str) -> Engine:
        found = [one for name in self.devices for one in self._workers(name)]
        if not found:
            raise UsageError("--devices is empty: give cpu:2, cuda or cuda:0,cuda:1")
        return _Processes(site, found, self.timeout)

    def _workers(self, name: str) -> list[str]:
        """The device of each worker that a name stands for."""
        kind, _, number = name.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
            raise UsageError(f"--devices {name}: expected auto, cpu, cpu:2, cuda or cuda:0")
        gpus = 0 if kind == "cpu" else _gpus()
        if kind == "cpu" or (kind == "auto" and not gpus):
            return ["cpu"] * (int(number) if number else _cores())
        if kind == "cuda" and number and int(number) >= gpus:
            raise UsageError(f"--devices {name}: this machine has {gpus} GPUs")
        if kind == "cuda" and not gpus:
            raise UsageError(f"--devices {name}: this machine has no GPU; give cpu:{_cores()}")
        chosen = [int(number)] if number else range(gpus)
        return [f"cuda:{i}" for i in chosen for _ in range(self.jobs_per_device)]


@dataclass(eq=False)
class _Seat:
    """A worker's place: a pool of one, which gets a new process when that dies."""

    device: str
    pool: ProcessPool
    crashes: Path
    """What the interpreter wrote when it was killed by its own fault."""
    task: Task | None = None

    def renew(self) -> None:
        """A new pool for one that broke: its worker died without a task."""
        self.pool.stop()
        self.pool.join()
        self.pool = _pool(self.crashes)

    def crash(self) -> str:
        """What was written since it was last asked for."""
        try:
            text = self.crashes.read_text("utf-8", errors="replace")
            os.truncate(self.crashes, 0)
        except OSError:
            return ""
        return text


@dataclass(eq=False)
class _Processes(Engine):
    site: str
    devices: list[str]
    timeout: float | None
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _seats: list[_Seat] = field(default_factory=list)
    _running: dict[Any, _Seat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = len(self.devices)
        for number, device in enumerate(self.devices):
            crashes = Path(self._folder.name) / f"crash-{number}"
            crashes.touch()
            self._seats.append(_Seat(device, _pool(crashes), crashes))

    def submit(self, task: Task) -> None:
        seat = next(seat for seat in self._seats if seat.task is None)
        if not seat.pool.active:
            seat.renew()
        future = seat.pool.schedule(
            perform, args=[self.site, task.payload, seat.device], timeout=self.timeout
        )
        seat.task = task
        self._running[future] = seat

    def wait(self, seconds: float) -> list[Report]:
        done, _ = wait(self._running, seconds, FIRST_COMPLETED)
        return [self._report(future) for future in done]

    def _report(self, future: Any) -> Report:
        seat = self._running.pop(future)
        task, seat.task = seat.task, None
        assert task is not None
        try:
            return Report.from_json(future.result())
        except BrokenProcessPool:
            return Report(task.key, "lost", reason=f"its worker on {seat.device} died at the start")
        except ProcessExpired as error:
            why = f"its worker on {seat.device} died ({_said(error.exitcode)})"
            return Report(task.key, "lost", reason=why, traceback=seat.crash())
        except CancelledError:
            return Report(task.key, "lost", reason="it was stopped")
        except TimeoutError:
            reason = f"{task.label}: took longer than local.timeout = {self.timeout:g} s"
            return Report(task.key, "failed", reason=reason)
        except Exception as error:  # whatever the worker could not even begin with
            reason = f"{task.label}: {type(error).__name__}: {error}"
            return Report(task.key, "failed", reason=reason, traceback=str(error))

    def close(self, *, abandon: bool) -> None:
        for seat in self._seats:
            if abandon:
                seat.pool.stop()
            else:
                seat.pool.close()
        for seat in self._seats:
            seat.pool.join()
        self._folder.cleanup()


def _pool(crashes: Path) -> ProcessPool:
    context = multiprocessing.get_context("spawn")
    return ProcessPool(1, context=context, initializer=_begin, initargs=[str(crashes)])


def _said(code: int | None) -> str:
    """What an exit code means."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else str(-code)
        return f"killed by {name}" + ("; out of memory?" if name == "SIGKILL" else "")
    return f"exit code {code}"


def _begin(crashes: str) -> None:
    """What a worker does first: one thread, no Ctrl-C of its own, and an end with its parent."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(Path(crashes).open("a", encoding="utf-8"))  # noqa: SIM115  # as long as it lives
    threading.Thread(target=_follow, name="nfbench parent", daemon=True).start()


def _follow() -> None:
    """Go when the parent goes, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
