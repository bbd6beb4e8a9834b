"""The in-process executor: makes the artifacts a plan wants and the store lacks, in order."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nfbench.core.errors import CorruptArtifact, DataMissing, NFBenchError
from nfbench.runner import jobs
from nfbench.runner.plan import Plan
from nfbench.runner.workshop import Workshop
from nfbench.store import Artifact, Job, Key, Store


class Progress(Protocol):
    """What an executor tells whoever watches."""

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
class Executor:
    """Runs one job at a time in this process."""

    plan: Plan
    store: Store
    shop: Workshop
    progress: Progress
    environment: Mapping[str, Any]
    on_finished: Callable[[Job, float], None] = lambda _job, _seconds: None
    outcome: Outcome = field(default_factory=Outcome)
    _recent: dict[Key, Artifact] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Make whatever the cells want. Safe to interrupt and to call again.

        Raises:
            DataMissing: before any work, if the data is not there.
        """
        wanted, missing = self._wanted(), self.check()
        self.outcome.reused = len(self.plan.jobs) - len(missing)
        if missing:
            self.progress.total(sum(self.plan.jobs[k].weight for k in missing), len(missing))
        try:
            for key in dict.fromkeys(wanted):
                self._make(key)
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        except _CannotStore as error:
            for key in wanted:
                if key not in self.store:
                    self.outcome.failures.setdefault(key, str(error))
        return self.outcome

    def check(self) -> list[Key]:
        """The jobs that `run` would run; refuses, before any work, what can't work.

        Raises:
            NFBenchError: if the data is not there, or a network can't be built.
        """
        missing = self._missing(self._wanted())
        self._preflight(missing)
        return missing

    def _wanted(self) -> list[Key]:
        """The jobs that fill cells."""
        cells = [(cell.undefended, cell.score, cell.timing) for cell in self.plan.cells]
        return [key for keys in cells for key in keys if key is not None]

    def _missing(self, wanted: list[Key]) -> list[Key]:
        """Jobs to run, inputs of present artifacts not among them."""
        missing: dict[Key, None] = {}
        stack = [key for key in wanted if key not in self.store]
        while stack:
            key = stack.pop()
            if key not in missing:
                missing[key] = None
                stack += [n for n in self.plan.jobs[key].needs if n not in self.store]
        return list(missing)

    def _preflight(self, missing: list[Key]) -> None:
        """Read the data and build each network once: what can't work is refused before any work."""
        for recipe in (self.plan.jobs[key].recipe for key in missing):
            self.shop.splits(recipe)
            if "model" in recipe:
                facts = self.shop.dataset(recipe).describe(self.shop.data_dir)
                self.shop.network(recipe["model"], facts)

    def _make(self, key: Key) -> bool:
        """Make an artifact and, first, what it needs; whether it is there."""
        if key in self.store:
            return True
        if key in self.outcome.failures:
            return False
        job = self.plan.jobs[key]
        for need in job.needs:
            if not self._make(need):
                self.outcome.failures[key] = self.outcome.failures[need]
                return False
        return self._run(job)

    def _run(self, job: Job) -> bool:
        start = time.perf_counter()
        self.progress.started(job)
        self.shop.say = self.progress.noted
        self.shop.tick = lambda share: self.progress.advanced(job, share)
        try:
            inputs = {need: self._get(need) for need in job.needs}
            artifact = jobs.run(job, self.plan.jobs, inputs, self.shop)
            seconds = time.perf_counter() - start
            self._save(job, artifact, seconds)
        except (DataMissing, _CannotStore):
            raise
        except Exception as error:  # a failed job must not take the others with it
            self._failed(job, _reason(job, error))
            return False
        self._keep(job.key, artifact)
        self.outcome.ran += 1
        self.progress.finished(job, seconds)
        try:
            self.on_finished(job, seconds)
        except Exception as error:  # somebody who only watches must not stop the run
            self.progress.warned(f"after {job.label}: {type(error).__name__}: {error}")
        return True

    def _save(self, job: Job, artifact: Artifact, seconds: float) -> None:
        provenance = {"seconds": seconds, "environment": dict(self.environment)}
        try:
            self.store.put(job, artifact, provenance)
        except OSError as error:
            reason = (
                f"{job.label}: can't write to the cache {self.store.root}: {error.strerror or error}; "
                "what is finished is kept, make room and run again"
            )
            self._failed(job, reason)
            raise _CannotStore(reason) from None

    def _failed(self, job: Job, reason: str) -> None:
        self.outcome.failures[job.key] = reason
        self.outcome.tracebacks[job.key] = traceback.format_exc()
        self.progress.failed(job, reason)

    def _get(self, key: Key) -> Artifact:
        if key not in self._recent:
            self._keep(key, self.read(key))
        return self._recent[key]

    def read(self, key: Key) -> Artifact:
        """An artifact of the plan; a damaged one is reported and made again.

        Raises:
            CorruptArtifact: if it can't be made again.
        """
        try:
            return self.store.get(key)
        except CorruptArtifact as error:
            self._make_again(key, error)
            return self.store.get(key)

    def manifest(self, key: Key) -> dict[str, Any]:
        """What is known of an artifact besides its tensors; made again if that is damaged.

        Raises:
            CorruptArtifact: if it can't be made again.
        """
        try:
            return self.store.manifest(key)
        except CorruptArtifact as error:
            self._make_again(key, error)
            return self.store.manifest(key)

    def _make_again(self, key: Key, error: CorruptArtifact) -> None:
        self.progress.warned(f"{error}; making it again")
        self.store.discard(key)
        try:
            made = self._make(key)
        except _CannotStore:
            made = False
        if not made:
            raise CorruptArtifact(self.outcome.failures[key]) from None

    def _keep(self, key: Key, artifact: Artifact) -> None:
        """Remember the last few artifacts; most jobs need what the one before them made."""
        self._recent[key] = artifact
        while len(self._recent) > 8:
            del self._recent[next(iter(self._recent))]


def _reason(job: Job, error: Exception) -> str:
    """One line: which job, and what went wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "" if isinstance(error, NFBenchError) else f"{type(error).__name__}: "
    return f"{job.label}: {kind}{text}"
