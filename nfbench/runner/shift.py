"""A shift: an agenda and an engine, until nothing is left to do. Imports no torch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from nfbench.core.errors import UsageError
from nfbench.core.execution import Engine, Report, Task
from nfbench.leases import Leases
from nfbench.runner.agenda import Agenda
from nfbench.store import Job, Key, Store

RETRIES = 2
"""How often a job is started again whose worker died, and an artifact made again that is damaged."""
GLANCE = 0.5
"""Seconds between two looks at what others are doing."""


class Watcher(Protocol):
    """Who is told what happens."""

    def started(self, job: Job) -> None: ...
    def advanced(self, job: Job, share: float) -> None: ...
    def made(self, job: Job, report: Report) -> None: ...
    def found(self, job: Job) -> None: ...
    def given_up(self, job: Job, report: Report, lost: list[Key]) -> None: ...
    def discarded(self, key: Key, reason: str) -> None: ...
    def warned(self, message: str) -> None: ...


@dataclass(eq=False)
class Shift:
    """Has jobs done, in an order they allow, and starts again those that were lost."""

    jobs: Mapping[Key, Job]
    store: Store
    agenda: Agenda
    engine: Engine
    watcher: Watcher
    leases: Leases
    _flying: dict[Key, tuple[Task, int]] = field(default_factory=dict)
    """Tasks, and how many artifacts had been made again when each was started."""
    _elsewhere: set[Key] = field(default_factory=set)
    """Jobs that another run is at."""
    _attempts: Counter[Key] = field(default_factory=Counter)
    _mended: dict[Key, int] = field(default_factory=dict)
    """Artifacts that were made again, in order."""

    def work(self) -> None:
        """Returns once every job is made or given up."""
        while len(self.agenda):
            self._fill()
            if self._flying:
                for report in self.engine.wait(GLANCE):
                    self._take(report)
            elif self._elsewhere:
                time.sleep(GLANCE)
            self._look()

    def _fill(self) -> None:
        """Give the engine what it has room for; a job that measures time gets it for itself."""
        while self.agenda and len(self._flying) < self.engine.slots:
            job = self.jobs[self.agenda.peek()]
            task = task_of(job, self.jobs)
            if self._flying and (task.alone or any(one.alone for one, _ in self._flying.values())):
                return
            self._flying[self.agenda.pop()] = (task, len(self._mended))
            self.watcher.started(job)
            self.engine.submit(task)

    def _take(self, report: Report) -> None:
        key = report.key
        _, mended = self._flying.pop(key)
        job = self.jobs[key]
        if report.result == "made":
            self.watcher.made(job, report)
            self.agenda.made(key)
        elif report.result == "present":
            self._found(key)
        elif report.result == "busy":
            self._elsewhere.add(key)
        elif report.result == "lost" and self._again(key):
            self.watcher.warned(f"{job.label}: {report.reason}; starting it again")
            self.agenda.put_back(key)
        elif report.result == "damaged" and self._mend(report, mended):
            self.agenda.put_back(key)
        else:
            self.watcher.given_up(job, _conclusive(job, report), self.agenda.given_up(key))

    def _mend(self, report: Report, mended: int) -> bool:
        """Have a damaged artifact made again, unless others saw to that; False if it was too often."""
        about = report.about
        if about in self.agenda or self._mended.get(about, 0) > mended:
            return True
        if not self._again(about):
            return False
        self.watcher.discarded(about, report.reason)
        self._mended[about] = len(self._mended) + 1
        self.agenda.open(missing_of(self.jobs, self.store, [about]))
        return True

    def _found(self, key: Key) -> None:
        """Somebody else has made it."""
        self.watcher.found(self.jobs[key])
        self.agenda.made(key)

    def _again(self, key: Key) -> bool:
        self._attempts[key] += 1
        return self._attempts[key] <= RETRIES

    def _look(self) -> None:
        """At jobs that others do, and how far those of this run are."""
        for key in self._flying:
            share = self.leases.running(key).get("share")
            if isinstance(share, float):
                self.watcher.advanced(self.jobs[key], share)
        for key in list(self._elsewhere):
            if key in self.store:
                self._elsewhere.discard(key)
                self._found(key)
            elif self.leases.free(key):
                self._elsewhere.discard(key)
                self.agenda.put_back(key)


def _conclusive(job: Job, report: Report) -> Report:
    """With a reason that says which job, and how often it was tried."""
    if report.result != "lost":
        return report
    return replace(report, reason=f"{job.label}: tried {RETRIES + 1} times, {report.reason}")


def missing_of(jobs: Mapping[Key, Job], store: Store, wanted: Iterable[Key]) -> list[Key]:
    """Jobs to do, each after what it needs; inputs of artifacts that are there are not among them."""
    missing: dict[Key, None] = {}
    stack = [(key, False) for key in reversed(list(wanted))]
    while stack:
        key, ripe = stack.pop()
        if key in missing:
            continue
        if ripe:
            missing[key] = None
        elif key not in store:
            stack += [(key, True), *((need, False) for need in reversed(jobs[key].needs))]
    return list(missing)


def task_of(job: Job, jobs: Mapping[Key, Job]) -> Task:
    """A job for a worker, with what it must know of the jobs it needs."""
    told = {"key": job.key, "job": asdict(job), "needs": [asdict(jobs[key]) for key in job.needs]}
    return Task(job.key, job.label, json.dumps(told), alone=job.kind == "time")


def jobs_of(payload: str) -> tuple[Job, dict[Key, Job]]:
    """The job of a task, and those it needs.

    Raises:
        UsageError: if another version of nfbench or of a plugin made the task.
    """
    told = json.loads(payload)
    job, *needs = (_job(one) for one in (told["job"], *told["needs"]))
    if job.key != told["key"]:
        raise UsageError("the worker has another version of nfbench")
    return job, {one.key: one for one in needs}


def _job(plain: Mapping[str, Any]) -> Job:
    return Job(**{**plain, "needs": tuple(plain["needs"])})
