"""Showing what runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nfbench.cli.console import headed
from nfbench.store import Job, Key


class Display:
    """Jobs done of all, what is running, and the time left, from rough costs of what remains."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self._done = 0.0
        self._jobs = (0, 0)
        self._live: Progress | None = None
        if console.is_terminal and not quiet:
            self._live = Progress(
                SpinnerColumn("line" if console.options.ascii_only else "dots"),
                TextColumn("{task.fields[jobs]}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.description}", markup=False),
                console=console,
                transient=True,
            )
        self._task = None if self._live is None else self._live.add_task("", total=None, jobs="")
        self._lines: dict[Key, TaskID] = {}
        """Of each running job, where there are several."""
        self._running: dict[Key, tuple[Job, float]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def total(self, weight: float, jobs: int) -> None:
        self._jobs = (0, jobs)
        self._update(total=weight)
        self._say(f"{jobs} jobs to run")

    def started(self, job: Job) -> None:
        self._running[job.key] = (job, 0.0)
        self._refresh()

    def advanced(self, job: Job, share: float) -> None:
        if job.key in self._running:
            self._running[job.key] = (job, share)
        self._refresh()

    def finished(self, job: Job, seconds: float) -> None:
        self._running.pop(job.key, None)
        self._done += job.weight
        self._jobs = (self._jobs[0] + 1, max(self._jobs[0] + 1, self._jobs[1]))
        self._refresh()
        self._say(f"[{self._jobs[0]}/{self._jobs[1]}] {job.label} ({seconds:.1f} s)")

    def failed(self, job: Job, reason: str) -> None:
        self._running.pop(job.key, None)
        self._done += job.weight
        self._refresh()
        self.console.print(headed("failed", "red", reason))

    def warned(self, message: str) -> None:
        self.console.print(headed("warning", "yellow", message))

    def noted(self, message: str) -> None:
        if not self.quiet:
            self.console.print(message, highlight=False, markup=False, emoji=False)

    def _refresh(self) -> None:
        """The bar, and a line for each running job where there are several."""
        if self._live is None:
            return
        under_way = sum(share * job.weight for job, share in self._running.values())
        one = next(iter(self._running.values()))[0].label if len(self._running) == 1 else ""
        self._update(completed=self._done + under_way, description=one)
        shown = self._running if len(self._running) > 1 else {}
        for key in self._lines.keys() - shown.keys():
            self._live.remove_task(self._lines.pop(key))
        for key, (job, share) in shown.items():
            if key not in self._lines:
                self._lines[key] = self._live.add_task(job.label, total=1.0, jobs="")
            self._live.update(self._lines[key], completed=share)

    def _update(self, **changes: object) -> None:
        if self._live is not None and self._task is not None:
            jobs = f"{self._jobs[0]}/{self._jobs[1]} jobs"
            self._live.update(self._task, jobs=jobs, **changes)  # type: ignore[arg-type]

    def _say(self, line: str) -> None:
        if self._live is None and not self.quiet:
            self.console.print(line, highlight=False, markup=False, emoji=False)
