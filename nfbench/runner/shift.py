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
    _flying: dict[Key, Task] = field(default_factory=dict)
    _elsewhere: dict[Key, float] = field(default_factory=dict)
    """Jobs that another run is at, and when to look again."""
    _attempts: Counter[Key] = field(default_factory=Counter)

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
            if self._flying and (job.kind == "time" or any(t.alone for t in self._flying.values())):
                return
            task = self._flying[self.agenda.pop()] = task_of(job, self.jobs)
            self.watcher.started(job)
            self.engine.submit(task)

    def _take(self, report: Report) -> None:
        key = report.key
        del self._flying[key]
        job = self.jobs[key]
        if report.result in ("made", "present"):
            if report.result == "made":
                self.watcher.made(job, report)
            self.agenda.made(key)
        elif report.result == "busy":
            self._elsewhere[key] = time.monotonic() + 2 * GLANCE
        elif report.result == "lost" and self._again(key):
            self.watcher.warned(f"{job.label}: {report.reason}; starting it again")
            self.agenda.put_back(key)
        elif report.result == "damaged" and self._again(report.about):
            self.watcher.discarded(report.about, report.reason)
            self.agenda.open(missing_of(self.jobs, self.store, [report.about]))
            self.agenda.put_back(key)
        else:
            self.watcher.given_up(job, _conclusive(job, report), self.agenda.given_up(key))

    def _again(self, key: Key) -> bool:
        self._attempts[key] += 1
        return self._attempts[key] <= RETRIES

    def _look(self) -> None:
        """At jobs that others do, and how far those of this run are."""
        for key in self._flying:
            share = self.leases.running(key).get("share")
            if isinstance(share, float):
                self.watcher.advanced(self.jobs[key], share)
        for key, when in list(self._elsewhere.items()):
            if key in self.store:
                del self._elsewhere[key]
                self.agenda.made(key)
            elif time.monotonic() > when:
                del self._elsewhere[key]
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
