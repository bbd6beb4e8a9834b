"""Running what claims need: experiments point by point, studies once, all resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nfbench.collecting import collect
from nfbench.core.errors import DataMissing, NFBenchError
from nfbench.core.registry import Registry
from nfbench.pins import pin
from nfbench.report.run import require_writable, write
from nfbench.reproduce.evidence import Ran
from nfbench.reproduce.keeping import TOLD, Studied, folder_of, write_study
from nfbench.reproduce.paper import Paper, Scale
from nfbench.reproduce.scaling import Settled, parameters, settle
from nfbench.reproduce.study import VERSIONS, Bench, Made, study_named
from nfbench.runner.driver import Driver, Progress
from nfbench.runner.environment import environment_of, pick_device
from nfbench.runner.jobs import pinned
from nfbench.runner.options import Options
from nfbench.runner.plan import Plan, make_plan
from nfbench.runner.spec import resolve
from nfbench.runner.workshop import Workshop
from nfbench.session import Place
from nfbench.store import Artifact, Job, Store
from nfbench.sweeping import points


@dataclass(frozen=True, eq=False)
class Planned:
    """An experiment at a scale, every point of it resolved; or why it can't be run."""

    settled: Settled
    points: Sequence[tuple[dict[str, Any], Plan, Options]] = ()
    missing: str = ""


@dataclass(eq=False)
class Performer:
    """Runs experiments and studies at one scale, into one folder, with one cache."""

    registry: Registry
    place: Place
    data_dir: Path | None
    scale: Scale
    data: str
    """Data that stand in for those of experiments about others; empty: none do."""
    progress: Progress
    runs: dict[str, list[Ran]] = field(default_factory=dict)
    studies: dict[str, Studied] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why experiments or studies were not run, by name."""
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    ran: int = 0
    """Jobs that were run, studies among them."""
    _shops: dict[str, Workshop] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.place.out or Path("runs/reproduce")

    def plan(self, paper: Paper, name: str) -> Planned:
        """An experiment with its points resolved, before any work.

        Raises:
            NFBenchError: for what is wrong with it; missing data are told in the result.
        """
        settled = settle(paper, name, self.scale, self.data)
        try:
            drawn = self._points(settled)
            plans = [(point, make_plan(resolve(one, self.registry)), one) for point, one in drawn]
            return Planned(settled, plans)
        except DataMissing as error:
            return Planned(settled, missing=str(error))

    def _points(self, settled: Settled) -> list[tuple[dict[str, Any], Options]]:
        options = settled.options(self.data_dir)
        found: list[tuple[dict[str, Any], Options]] = [({}, options)]
        if settled.vary:
            found = points(options, settled.vary, self.registry)
        return [self._drawn(settled, point, one) for point, one in found]

    @staticmethod
    def _drawn(
        settled: Settled, point: Mapping[str, Any], options: Options
    ) -> tuple[dict[str, Any], Options]:
        drawn, extra = settled.drawn(point), {k: dict(v) for k, v in options.settings.items()}
        for name in drawn.keys() - point.keys():
            plugin, _, knob = name.rpartition(".")
            extra.setdefault(plugin, {})[knob] = drawn[name]
        return drawn, replace(options, settings=extra)

    def perform(self, planned: Planned, command: str) -> None:
        """Run what is missing of an experiment and write its runs; goes on where it was interrupted.

        Raises:
            NFBenchError: if a run directory can't be written.
        """
        name, settled = planned.settled.name, planned.settled
        if planned.missing:
            self.missing[name] = planned.missing
            return
        for number, (point, plan, options) in enumerate(planned.points):
            if self.interrupted:
                return
            place = f" {number + 1}/{len(planned.points)}" if point else ""
            said = ", ".join(f"{k.rpartition('.')[2]}={v}" for k, v in point.items())
            self.progress.noted(f"{name}{place}{': ' + said if said else ''}")
            try:
                self._perform(settled, point, plan, options, command, len(planned.points))
            except DataMissing as error:
                self.missing[name] = str(error)
                return

    def _perform(  # noqa: PLR0917  # one point of several
        self,
        settled: Settled,
        point: dict[str, Any],
        plan: Plan,
        options: Options,
        command: str,
        points: int,
    ) -> None:
        told = {
            "paper": settled.paper,
            "experiment": settled.name,
            "scale": settled.scale,
            "stand_in": settled.stand_in,
            "point": point,
            "points": points,
            "sizes": settled.sizes,
            "digest": settled.digest,
        }
        folder = self.out / folder_of(told)
        require_writable(folder)
        shop, environment = self._shop(options, plan), environment_of(self.device)
        store, crew = Store(self.place.cache), self.place.crew
        pin(store, folder, plan.jobs)
        driver = Driver(plan, store, shop, self.progress, environment, crew=crew)
        outcome = driver.run()
        self.ran += outcome.ran
        self.interrupted |= outcome.interrupted
        self.failures |= outcome.failures
        if outcome.interrupted:
            return
        run = collect(plan, driver, environment, command)
        run = replace(run, info={**run.info, TOLD: told})
        try:
            write(folder, run)
        except OSError as error:
            raise NFBenchError(
                f"can't write {folder}: {error.strerror or error}; every finished job is kept in "
                f"{self.place.cache}, make room and run again"
            ) from None
        self.runs.setdefault(settled.name, []).append(Ran(run, point))

    @property
    def device(self) -> str:
        return pick_device(self.place.device)

    def _shop(self, options: Options, plan: Plan) -> Workshop:
        """Where jobs run; experiments on the same data share one, which reads them once."""
        if plan.spec.data_digest not in self._shops:
            self._shops[plan.spec.data_digest] = Workshop(self.registry, self.device, options.data_dir)
        return self._shops[plan.spec.data_digest]

    def study(self, paper: Paper, name: str, command: str) -> None:
        """Run a study, or take it from the cache.

        Raises:
            NFBenchError: if its folder can't be written.
        """
        given = parameters(paper, name, self.scale)
        stand_in = ""
        if "dataset" in given and self.data not in ("", given["dataset"]):
            given |= {"dataset": self.data, **dict(paper.stand_in.get("study", {}))}
            stand_in = self.data
        told = {
            "paper": paper.id,
            "experiment": name,
            "scale": self.scale,
            "stand_in": stand_in,
            "sizes": given,
            "command": command,
        }
        self.progress.noted(name)
        try:
            made, environment = self._made(name, given)
        except DataMissing as error:
            self.missing[name] = str(error)
            return
        except KeyboardInterrupt:
            self.interrupted = True
            return
        told["environment"] = environment
        write_study(self.out, made, told)
        self.studies[name] = Studied(made, told)

    def _made(self, name: str, given: Mapping[str, Any]) -> tuple[Made, Mapping[str, Any]]:
        store = Store(self.place.cache)
        job = Job("study", {"study": name, "version": VERSIONS.get(name, 1), **given}, (), name, 1.0)
        if job.key not in store:
            self.progress.started(job)
            start, environment = time.perf_counter(), environment_of(self.device)
            bench = Bench(self.registry, self.data_dir, partial(self.progress.advanced, job))
            with pinned(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                made = study_named(name)(bench, **given)
            seconds = time.perf_counter() - start
            store.put(job, made.as_artifact(), {"seconds": seconds, "environment": environment})
            self.progress.finished(job, seconds)
            self.ran += 1
        artifact: Artifact = store.get(job.key)
        return Made.of(artifact), store.manifest(job.key)["provenance"]["environment"]
