"""Running a sweep: every point is checked before any work, and what points share is made once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path

from nfbench.core.errors import NFBenchError
from nfbench.core.registry import Registry
from nfbench.report import leaderboard
from nfbench.report.run import Run, require_writable
from nfbench.runner.driver import Driver, Progress
from nfbench.runner.environment import pick_device
from nfbench.runner.plan import Plan, make_plan
from nfbench.runner.workshop import Workshop
from nfbench.session import Place, carry_out
from nfbench.store import Job, Key, Store
from nfbench.sweeping.rows import NOT_RUN, Result, Swept, reasons_of, rows_of, statuses_of
from nfbench.sweeping.unrolling import Point, Unrolled

_LONGEST = 120
"""Characters of a directory's name."""


@dataclass(frozen=True, eq=False)
class Planned:
    """A sweep with the plan of each point."""

    unrolled: Unrolled
    plans: Sequence[Plan]
    folders: Sequence[str]
    """Names of the points' run directories."""

    @property
    def digest(self) -> str:
        """Identifies the sweep: equal for equal points in the same order."""
        return sha256("\n".join(plan.digest for plan in self.plans).encode()).hexdigest()[:12]

    @property
    def jobs(self) -> dict[Key, Job]:
        """Of all points, those they share once."""
        return {key: job for plan in self.plans for key, job in plan.jobs.items()}


def planned(unrolled: Unrolled) -> Planned:
    """The plans of all points.

    Raises:
        NFBenchError: for a hyperparameter that names something the model does not have.
    """
    plans = [make_plan(point.spec) for point in unrolled.points]
    return Planned(unrolled, plans, _folders(unrolled))


def sweep(
    what: Planned, place: Place, registry: Registry, progress: Progress, command: str = ""
) -> Swept:
    """Run what is missing of each point, in order, each into a run directory within `place.out`.

    Interrupted, it leaves out whatever is not done already; the same call goes on from there. A point
    that fails leaves a reason, and the others go on.

    Raises:
        NFBenchError: before any work, for what is wrong with any of the points.
    """
    leaderboard.require_statistic(place.statistic)
    out = place.out or default_out(what)
    shops = _shops(what.unrolled.points, registry, pick_device(place.device))
    relay = _Relay(progress, len(what.plans))
    store = Store(place.cache)
    missing: dict[Key, Job] = {}
    for plan, shop in zip(what.plans, shops, strict=True):
        missing |= {key: plan.jobs[key] for key in Driver(plan, store, shop, relay, {}).check()}
    require_writable(out / what.folders[0])
    if missing:
        progress.total(sum(job.weight for job in missing.values()), len(missing))
    visit = _Visit(what, replace(place, out=out), relay, store, command)
    results = [visit.point(i, shop) for i, shop in enumerate(shops)]
    spec = what.unrolled.points[0].spec
    return Swept(
        axes=what.unrolled.axes,
        statistic=place.statistic,
        results=results,
        dataset=spec.dataset.name,
        summary=visit.summary,
        command=command,
        interrupted=visit.interrupted,
        ran=visit.ran,
    )


def default_out(what: Planned) -> Path:
    """Where a sweep goes that nobody gave a directory."""
    return Path("runs") / f"sweep-{what.unrolled.points[0].spec.dataset.name}-{what.digest}"


@dataclass(eq=False)
class _Visit:
    """Goes through the points, and remembers what came of it."""

    what: Planned
    place: Place
    relay: _Relay
    store: Store
    command: str
    summary: str = ""
    interrupted: bool = False
    ran: int = 0

    def point(self, i: int, shop: Workshop) -> Result:
        """Of the i-th point what there is, and before an interruption what can be made."""
        values = self.what.unrolled.points[i].values
        empty = Result(values, self.what.folders[i], plan=self.what.plans[i].digest)
        try:
            return self._run(i, shop, empty)
        except KeyboardInterrupt:  # jobs stop by themselves; this is while results were collected
            self.interrupted = True
            return empty
        except NFBenchError as error:
            return replace(empty, reasons=[f"failed: {error}"], statuses=frozenset({"failed"}))

    def _run(self, i: int, shop: Workshop, empty: Result) -> Result:
        plan = self.what.plans[i]
        if self.interrupted and not all(key in self.store for key in plan.wanted):
            return empty
        self.relay.begin(i, ", ".join(axis.said(empty.values) for axis in self.what.unrolled.axes))
        own = replace(self.place, out=(self.place.out or Path()) / empty.folder)
        finished = carry_out(plan, shop, own, self.relay, self.command)
        self.interrupted |= finished.outcome.interrupted
        self.ran += finished.outcome.ran
        self.summary = self.summary or " ".join(finished.run.info["summary"])
        return _filled(empty, finished.run, self.place.statistic)


def _filled(empty: Result, run: Run, statistic: str) -> Result:
    """With rows where any cell was tried."""
    statuses, reasons = statuses_of(run.cells), reasons_of(run.cells)
    result = replace(empty, reasons=reasons, statuses=statuses)
    tried = result.status not in (NOT_RUN, "skipped")
    return replace(result, rows=rows_of(run, statistic)) if tried else result


def _shops(points: Sequence[Point], registry: Registry, device: str) -> list[Workshop]:
    """A workshop for each point; points on the same data share one, which reads that once."""
    found: dict[str, Workshop] = {}
    shops = []
    for point in points:
        data = json.dumps(point.spec.dataset.identity(), sort_keys=True)
        options = point.options
        if data not in found:
            found[data] = Workshop(registry, device, options.data_dir, options.weights)
        shops.append(found[data])
    return shops


def _folders(unrolled: Unrolled) -> list[str]:
    """A directory name for each point, none of them twice."""
    found: list[str] = []
    for i, point in enumerate(unrolled.points):
        slug = "--".join(_slug(axis.said(point.values)) for axis in unrolled.axes)
        if not slug or len(slug) > _LONGEST:
            slug = f"point-{i + 1}"
        names = (slug if n == 1 else f"{slug}-{n}" for n in count(1))
        found.append(next(name for name in names if name.lower() not in map(str.lower, found)))
    return found


def _slug(text: str) -> str:
    """Fit for a file name on any system, and for a shell."""
    return re.sub(r"[^\w.=+-]+", "-", text, flags=re.ASCII).strip("-.")


@dataclass(eq=False)
class _Relay:
    """Progress of one point as part of the whole."""

    progress: Progress
    points: int
    _at: str = ""
    _warned: set[str] = field(default_factory=set)

    def begin(self, i: int, label: str) -> None:
        """The i-th point is next."""
        self._at = f"{i + 1}/{self.points}"
        self.progress.noted(f"point {self._at}: {label}")

    def total(self, weight: float, jobs: int) -> None:
        """Nothing: that of all points was told before the first of them."""

    def started(self, job: Job) -> None:
        self.progress.started(self._placed(job))

    def advanced(self, job: Job, share: float) -> None:
        self.progress.advanced(job, share)

    def finished(self, job: Job, seconds: float) -> None:
        self.progress.finished(self._placed(job), seconds)

    def failed(self, job: Job, reason: str) -> None:
        self.progress.failed(job, f"at point {self._at}: {reason}")

    def warned(self, message: str) -> None:
        """Each warning once."""
        if message not in self._warned:
            self._warned.add(message)
            self.progress.warned(message)

    def noted(self, message: str) -> None:
        self.progress.noted(message)

    def _placed(self, job: Job) -> Job:
        return replace(job, label=f"point {self._at} · {job.label}")
