"""A full matrix on 1 to 1024 simulated GPUs: how far its end is from what no order could beat.

    python benchmarks/scheduling.py [--cache DIR]

Jobs cost what their artifacts took, where the cache has them, else their rough weights. Nothing is
run: an executor that only lets time pass takes jobs in the order of the agenda.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from harness import show

from nfbench.core.registry import Registry
from nfbench.runner.forecast import least, makespan
from nfbench.runner.options import Options
from nfbench.runner.plan import Plan
from nfbench.session import plan_of
from nfbench.store import Job, Store

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MATRIX = Options(
    defense=("all",),
    attacks=("all",),
    threat_model=("blackbox", "partial-whitebox", "limited-knowledge", "adaptive-whitebox"),
    seed=(0, 1, 2),
)


def costs(plan: Plan, cache: Path | None) -> tuple[Callable[[Job], float], int]:
    """What each job costs, and of how many that was measured."""
    if cache is None:
        return lambda job: job.weight, 0
    store, found = Store(cache), dict[str, float]()
    for key in plan.jobs:
        if key in store:
            found[key] = store.manifest(key)["provenance"]["seconds"]
    rate = sum(found.values()) / max(1.0, sum(plan.jobs[key].weight for key in found))
    return lambda job: found.get(job.key, job.weight * (rate or 1.0)), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    plan = plan_of(MATRIX, Registry.load())
    cost, measured = costs(plan, given.cache)
    jobs = plan.jobs
    work = makespan(jobs, jobs, cost, 1)
    rows = []
    for workers in WORKERS:
        took, bound = (f(jobs, jobs, cost, workers) for f in (makespan, least))
        rows.append([workers, took / work, f"{work / took:.1f}", f"{took / bound:.3f}", "<= 1.2"])
    title = f"{len(plan.cells)} cells, {len(jobs)} jobs, {measured} of measured cost"
    show(title, ["GPUs", "time, of one GPU's", "times faster", "of the least possible", "goal"], rows)


if __name__ == "__main__":
    main()
