"""One run from options to a run directory: resolve, plan, execute, measure, write."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError
from nfbench.core.registry import Registry
from nfbench.records import INTERRUPTED, CellRecord, PluginRecord
from nfbench.report import cells as report_cells
from nfbench.report import leaderboard
from nfbench.report.flags import flagged
from nfbench.report.run import Run, as_numpy, require_writable, write
from nfbench.runner.executor import Executor, Outcome, Progress
from nfbench.runner.options import Options
from nfbench.runner.plan import Cell, Plan, make_plan
from nfbench.runner.spec import Chosen, OwnModel, Spec, resolve
from nfbench.runner.surrogates import note
from nfbench.runner.workshop import Workshop
from nfbench.store import Key, Store, write_atomic

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
    device = pick_device(place.device)
    out = place.out or Path("runs") / f"{plan.spec.dataset.name}-{plan.digest}"
    require_writable(out)
    store = Store(place.cache)
    for old in store.older_formats():
        progress.warned(f"{old} was written by another version of nfbench and is not used")
    for reason in plan.spec.warnings:
        progress.warned(reason)
    shop = Workshop(registry, device, options.data_dir, options.weights)
    environment = environment_of(device)

    def announce(job: Any, seconds: float) -> None:
        registry.hooks.nfbench_job_finished(kind=job.kind, key=job.key, seconds=seconds)

    executor = Executor(plan, store, shop, progress, environment, announce)
    outcome = executor.run()
    run = _collect(plan, executor, environment, command)
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
    if outcome.tracebacks:
        text = "\n".join(f"# {key}\n{trace}" for key, trace in outcome.tracebacks.items())
        write_atomic(out / "failures.txt", text.encode())
    else:
        (out / "failures.txt").unlink(missing_ok=True)  # of an earlier attempt


def _collect(plan: Plan, executor: Executor, environment: Mapping[str, Any], command: str) -> Run:
    records, samples = [], {}
    for cell in plan.cells:
        record, vectors = _record(plan, cell, executor, environment)
        records.append(record)
        if vectors is not None:
            samples[record.cell] = vectors
    spec = plan.spec
    info = {
        "title": f"nfbench on {spec.dataset.name}",
        "summary": _summary(spec),
        "command": command,
        "plan": plan.digest,
        "spec": _spec_record(spec),
        "environment": dict(environment),
    }
    return flagged(Run(info, records, samples))


def _record(
    plan: Plan, cell: Cell, executor: Executor, environment: Mapping[str, Any]
) -> tuple[CellRecord, Mapping[str, Any] | None]:
    failures, spec, store = executor.outcome.failures, plan.spec, executor.store
    common: dict[str, Any] = {
        "cell": cell.name,
        "defense": _plugin(cell.defense),
        "defender": cell.defender,
        "caveat": cell.defense.recipe.caveat,
        "attack": _plugin(cell.attack),
        "threat_model": _plugin(cell.threat_model),
        **_knowledge(cell),
        "objectives": list(cell.objectives),
        "norm": cell.attack.recipe.norm,
        "eps": cell.eps if math.isfinite(cell.eps) else None,
        "dataset": {**spec.dataset.recipe.spec(), "split": "test", "sha256": spec.data_digest},
        "model": {"name": spec.model.name},
        "seed": cell.seed,
    }
    if cell.score is None or cell.undefended is None:
        return CellRecord(**common, status="skipped", reason=cell.reason), None
    reason = failures.get(cell.score) or failures.get(cell.undefended)
    if reason is not None:
        return CellRecord(**common, status="failed", reason=reason), None
    if cell.score not in store or cell.undefended not in store:
        return CellRecord(**common, status="skipped", reason=INTERRUPTED), None
    try:
        scored, undefended = executor.read(cell.score), executor.read(cell.undefended)
        manifests = [executor.manifest(key) for key in (cell.score, *cell.crafts, cell.undefended)]
        train, fit = (executor.manifest(key) for key in plan.jobs[cell.score].needs[:2])
        correlations = [executor.manifest(k)["info"]["rank_correlation"] for k in _distilled(plan, cell)]
    except CorruptArtifact as error:
        return CellRecord(**common, status="failed", reason=str(error)), None
    vectors = as_numpy(scored.tensors)
    plain = as_numpy(undefended.tensors)
    error_rate = float((plain["prediction"] != plain["label"]).mean())
    stops = cell.threat_model.recipe.adaptive and cell.attack.recipe.rests
    return CellRecord(
        **common,
        status="done",
        metrics=report_cells.measures(vectors, error_rate, stopped_at_median=stops),
        counts=report_cells.counts(vectors),
        timing={"seconds": sum(m["provenance"].get("seconds", 0.0) for m in manifests)},
        cost=report_cells.cost(vectors),
        stages=scored.info["stages"],
        winners=report_cells.winners(vectors, cell.objectives, scored.info["stages"]),
        health=scored.info["health"],
        notes=_notes(cell, fit["info"]) + note(cell.surrogate, correlations),
        environment=dict(environment),
        inputs=[*(m["sha256"] for m in manifests), train["sha256"], fit["sha256"]],
    ), vectors


def _knowledge(cell: Cell) -> dict[str, bool]:
    """What the attacker has, as far as a report must know it."""
    threat = cell.threat_model.recipe
    return {
        "adaptive": threat.adaptive,
        "asks_victim": threat.asks_victim,
        "follows_gradient": threat.follows_gradient(cell.attack.recipe),
    }


def _distilled(plan: Plan, cell: Cell) -> set[Key]:
    """The surrogates that the cell's attack has followed."""
    needs = {need for craft in cell.crafts for need in plan.jobs[craft].needs}
    return {need for need in needs if plan.jobs[need].kind == "distil"}


def _notes(cell: Cell, fitted: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know of the detector."""
    if cell.teacher is None:
        return []
    share = f"{fitted['misclassified']:.0%}"
    return [f"learnt from {cell.teacher.name} on {fitted['examples']} training images ({share} fooled)"]


def _plugin(chosen: Chosen[Any]) -> PluginRecord:
    provenance = chosen.offer.provenance()
    params = chosen.recipe.model_dump(mode="json")
    return PluginRecord(
        name=chosen.name, params=params, plugin=provenance["plugin"], version=provenance["version"]
    )


def _spec_record(spec: Spec) -> dict[str, Any]:
    return {
        "dataset": spec.dataset.identity(),
        "data_sha256": spec.data_digest,
        "model": spec.model.identity(),
        "training": spec.training.model_dump(mode="json"),
        "defenses": [c.identity() for c in spec.defenses],
        "attacks": [c.identity() for c in spec.attacks],
        "threat_models": [c.identity() for c in spec.threat_models],
        "eps": {k: [e if math.isfinite(e) else None for e in v] for k, v in spec.eps.items()},
        "limit": spec.limit,
        "train_limit": spec.train_limit,
        "defenders": list(spec.defenders),
        "teachers": {name: teacher.identity() for name, teacher in spec.teachers.items()},
        "seeds": list(spec.seeds),
        "skip": list(spec.skip),
    }


def _summary(spec: Spec) -> list[str]:
    trained = isinstance(spec.model, OwnModel) and spec.model.weights_sha256
    seeds = ", ".join(map(str, spec.seeds))
    return [
        f"Model `{spec.model.name}`, {'given weights' if trained else 'trained here'};",
        f"{spec.limit} test images attempted, the correctly classified ones attacked; seed {seeds}.",
    ]


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
        "git": _git(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


@cache
def _git() -> str:
    """Revision of the source tree nfbench runs from, marked if changed; empty if installed."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
