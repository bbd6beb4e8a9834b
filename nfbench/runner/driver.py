"""The driver: gets the artifacts made that a plan wants and the store lacks, wherever that is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.core.execution import Engine, Report, Task
from nfbench.runner.agenda import Agenda
from nfbench.runner.crew import Crew
from nfbench.runner.plan import Plan
from nfbench.runner.shift import Shift, missing_of
from nfbench.runner.worker import Worker, site_of
from nfbench.runner.workshop import Workshop
from nfbench.store import Artifact, Job, Key, Store

T = TypeVar("T")


class Progress(Protocol):
    """What a driver tells whoever watches."""

    def total(self, weight: float, jobs: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def advanced(self, job: Job, share: float) -> None: ...
    def finished(self, job: Job, seconds: float) -> None: ...
    def failed(self, job: Job, reason: str) -> None: ...
    def warned(self, message: str) -> None: ...
    def noted(self, message: str) -> None: ...


@dataclass
class Outcome:
    """What came of a plan: how many jobs ran, and why others could not."""

    ran: int = 0
    reused: int = 0
    failures: dict[Key, str] = field(default_factory=dict)
    tracebacks: dict[Key, str] = field(default_factory=dict)
    interrupted: bool = False


class _CannotStore(Exception):
    """The cache takes no more artifacts; to go on would be work for nothing."""


@dataclass
class Driver:
    """Runs a plan."""

    plan: Plan
    store: Store
    shop: Workshop
    progress: Progress
    environment: Mapping[str, Any]
    on_finished: Callable[[Job, float], None] = lambda _job, _seconds: None
    crew: Crew | None = None
    """Workers elsewhere; without any, jobs run in this process, one at a time."""
    outcome: Outcome = field(default_factory=Outcome)
    _worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self._worker = Worker.here(self.store, self.shop, self.environment)

    def run(self) -> Outcome:
        """Make whatever the cells want. Safe to interrupt and to call again.

        Raises:
            NFBenchError: before any work, if the data is not there or a device is not.
        """
        missing = self.check()
        self.outcome.reused = len(self.plan.jobs) - len(missing)
        if missing:
            self.progress.total(sum(self.plan.jobs[k].weight for k in missing), len(missing))
        try:
            self._make(missing)
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        except _CannotStore as error:
            for key in self.plan.wanted:
                if key not in self.store:
                    self.outcome.failures.setdefault(key, str(error))
        return self.outcome

    def check(self) -> list[Key]:
        """The jobs that `run` would run; refuses, before any work, what can't work.

        Raises:
            NFBenchError: if the data is not there, or a network can't be built.
        """
        missing = missing_of(self.plan.jobs, self.store, self.plan.wanted)
        if missing and not self.store.writable:
            raise UsageError(
                f"can't write to the cache {self.store.root}, and {len(missing)} jobs are not in it; "
                "set --cache-dir"
            )
        self._preflight(missing)
        return missing

    def _preflight(self, missing: list[Key]) -> None:
        """Read the data and build each network once: what can't work is refused before any work."""
        for recipe in (self.plan.jobs[key].recipe for key in missing):
            self.shop.splits(recipe)
            if "model" in recipe:
                facts = self.shop.dataset(recipe).describe(self.shop.data_dir)
                self.shop.network(recipe["model"], facts)

    def _make(self, missing: list[Key]) -> None:
        """Have jobs done, in whatever order they allow."""
        if not missing:
            return
        self.shop.say = self.progress.noted
        if self.crew is None:
            agenda = Agenda(self.plan.jobs, missing)
            engine: Engine = _Here(self._worker, self.plan.jobs, self.progress)
        else:
            agenda = Agenda(self.plan.jobs, missing, lambda job: job.weight)
            engine = self.crew.engine(site_of(self.store, self.shop))
        try:
            Shift(self.plan.jobs, self.store, agenda, engine, self, self._worker.leases).work()
        except BaseException:
            if self.crew is not None:
                self.crew.dismiss(abandon=True)
            raise

    def started(self, job: Job) -> None:
        self.progress.started(job)

    def advanced(self, job: Job, share: float) -> None:
        self.progress.advanced(job, share)

    def warned(self, message: str) -> None:
        self.progress.warned(message)

    def made(self, job: Job, report: Report) -> None:
        self.outcome.ran += 1
        self.progress.finished(job, report.seconds)
        try:
            self.on_finished(job, report.seconds)
        except Exception as error:  # somebody who only watches must not stop the run
            self.progress.warned(f"after {job.label}: {type(error).__name__}: {error}")

    def found(self, job: Job) -> None:
        """Another run has made it."""
        self.outcome.reused += 1
        self.progress.finished(job, 0.0)

    def given_up(self, job: Job, report: Report, lost: list[Key]) -> None:
        """Remember why, also for those that needed it."""
        self.outcome.failures |= dict.fromkeys(lost, report.reason)
        self.outcome.tracebacks[job.key] = report.traceback
        self.progress.failed(job, report.reason)
        if report.result == "unwritable":
            raise _CannotStore(report.reason)

    def discarded(self, key: Key, reason: str) -> None:
        """Forget a damaged artifact."""
        self.progress.warned(f"{reason}; making it again")
        self.store.discard(key)
        self._worker.forget(key)

    def read(self, key: Key) -> Artifact:
        """An artifact of the plan; a damaged one is reported and made again.

        Raises:
            CorruptArtifact: if it can't be made again.
        """
        return self._mended(key, self.store.get)

    def manifest(self, key: Key) -> dict[str, Any]:
        """What is known of an artifact besides its tensors; made again if that is damaged.

        Raises:
            CorruptArtifact: if it can't be made again.
        """
        return self._mended(key, self.store.manifest)

    def _mended(self, key: Key, get: Callable[[Key], T]) -> T:
        try:
            return get(key)
        except CorruptArtifact as error:
            with suppress(_CannotStore):  # told as the reason below
                self.discarded(key, str(error))
                self._make(missing_of(self.plan.jobs, self.store, [key]))
            if key not in self.store:
                raise CorruptArtifact(self.outcome.failures[key]) from None
            return get(key)


@dataclass(eq=False)
class _Here(Engine):
    """This process, one job at a time."""

    worker: Worker
    jobs: Mapping[Key, Job]
    progress: Progress
    slots: int = 1
    _task: Task | None = None

    def submit(self, task: Task) -> None:
        self._task = task

    def wait(self, seconds: float) -> list[Report]:
        task, self._task = self._task, None
        if task is None:
            return []
        job = self.jobs[task.key]
        return [self.worker.perform(job, self.jobs, lambda share: self.progress.advanced(job, share))]

    def close(self, *, abandon: bool) -> None:
        """Nothing to free."""
