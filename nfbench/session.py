"""One run from options to a run directory: resolve, plan, execute, measure, write."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nfbench.collecting import collect
from nfbench.core.errors import NFBenchError, UsageError
from nfbench.core.registry import Registry
from nfbench.report import leaderboard
from nfbench.report.page import render
from nfbench.report.run import Run, require_writable, write
from nfbench.runner.executor import Executor, Outcome, Progress
from nfbench.runner.options import Options
from nfbench.runner.plan import Plan, make_plan
from nfbench.runner.spec import resolve
from nfbench.runner.workshop import Workshop
from nfbench.store import Store, write_atomic

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "foolbox",
    "adversarial-robustness-toolbox",
)


@dataclass(frozen=True)
class Place:
    """Where a run happens and what it leaves; none of it changes a number."""

    out: Path | None
    cache: Path
    device: str = "auto"
    statistic: str = "auroc_worst"
    """Which AUROC the leaderboard shows."""


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

    executor = Executor(plan, store, shop, progress, environment, announce)
    outcome = executor.run()
    run = collect(plan, executor, environment, command)
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


def pick_device(name: str) -> str:
    """`auto` is a GPU where there is one.

    Raises:
        UsageError: for a device that is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return name


def environment_of(device: str) -> dict[str, Any]:
    """What produced the numbers: versions, device, instruction set, source revision."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    return {
        "nfbench": version("nfbench"),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "device": f"{device} ({name})",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads_per_job": 1,
        **_revision(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


@cache
def _revision() -> dict[str, Any]:
    """Commit of the source tree nfbench runs from, and whether it was changed; empty if installed."""
    tree = Path(__file__).parents[1]
    commit = _git(tree, "rev-parse", "HEAD") if (tree / "pyproject.toml").is_file() else ""
    if not commit:
        return {"git_commit": "", "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(_git(tree, "status", "--porcelain", "-uno"))}


def _git(tree: Path, *arguments: str) -> str:
    """What git says of a source tree; empty where there is none."""
    command = ["git", "-C", str(tree), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
