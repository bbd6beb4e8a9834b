"""One run from options to a run directory: resolve, plan, execute, measure, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfbench.collecting import collect
from nfbench.core.errors import NFBenchError
from nfbench.core.registry import Registry
from nfbench.pins import pin
from nfbench.report import leaderboard
from nfbench.report.page import render
from nfbench.report.run import Run, require_writable, write
from nfbench.runner.crew import Crew
from nfbench.runner.driver import Driver, Outcome, Progress
from nfbench.runner.environment import environment_of, pick_device
from nfbench.runner.options import Options
from nfbench.runner.plan import Plan, make_plan
from nfbench.runner.sharding import shard
from nfbench.runner.spec import resolve
from nfbench.runner.status import Status
from nfbench.runner.workshop import Workshop
from nfbench.store import Store, write_atomic


@dataclass(frozen=True)
class Place:
    """Where a run happens and what it leaves; none of it changes a number."""

    out: Path | None
    cache: Path
    device: str = "auto"
    statistic: str = "auroc_worst"
    """Which AUROC the leaderboard shows."""
    crew: Crew | None = None
    """Who does the jobs; nobody but this process by default."""
    shard: tuple[int, int] = (1, 1)
    """Which part of the matrix, of how many."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A run, where it lies, and what had to be done for it."""

    run: Run
    out: Path
    outcome: Outcome
    plan: Plan


def plan_of(options: Options, registry: Registry) -> Plan:
    """What `options` ask for, unrolled."""
    return make_plan(resolve(options, registry))


def execute(
    options: Options, place: Place, registry: Registry, progress: Progress, command: str = ""
) -> Finished:
    """Run whatever is missing and write the run directory; partial results are kept.

    Raises:
        NFBenchError: for what must be put right before any work, or if the run directory can't be
            written; finished jobs are then in the cache all the same.
    """
    leaderboard.require_statistic(place.statistic)
    plan = plan_of(options, registry)
    if place.shard != (1, 1):
        plan = shard(plan, *place.shard)
    shop = Workshop(registry, pick_device(place.device), options.data_dir, options.weights)
    return carry_out(plan, shop, place, progress, command)


def carry_out(
    plan: Plan, shop: Workshop, place: Place, progress: Progress, command: str = ""
) -> Finished:
    """As `execute`, of a plan and a workshop, whose device counts and not that of `place`.

    Raises:
        NFBenchError: as `execute`.
    """
    out = place.out or Path("runs") / f"{plan.spec.dataset.name}-{plan.digest}"
    require_writable(out)
    store = Store(place.cache)
    for old in store.older_formats():
        progress.warned(f"{old} was written by another version of nfbench and is not used")
    for reason in plan.spec.warnings:
        progress.warned(reason)
    environment = environment_of(shop.device)

    def announce(job: Any, seconds: float) -> None:
        shop.registry.hooks.nfbench_job_finished(kind=job.kind, key=job.key, seconds=seconds)

    pin(store, out, plan.jobs)
    status = Status(progress, out)
    driver = Driver(plan, store, shop, status, environment, announce, place.crew)
    try:
        outcome = driver.run()
    finally:
        status.close()
    run = collect(plan, driver, environment, command)
    try:
        _write(out, run, outcome, place.statistic)
    except OSError as error:
        raise NFBenchError(
            f"can't write the run directory {out}: {error.strerror or error}; every finished job is "
            f"kept in {place.cache}, make room and run again"
        ) from None
    return Finished(run, out, outcome, plan)


def _write(out: Path, run: Run, outcome: Outcome, statistic: str) -> None:
    write(out, run)
    write_atomic(out / "leaderboard.md", leaderboard.markdown(run, statistic).encode())
    write_atomic(out / "report.html", render(run, statistic=statistic).encode())
    if outcome.tracebacks:
        text = "\n".join(f"# {key}\n{trace}" for key, trace in outcome.tracebacks.items())
        write_atomic(out / "failures.txt", text.encode())
    else:
        (out / "failures.txt").unlink(missing_ok=True)  # of an earlier attempt
