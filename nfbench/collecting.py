"""From finished jobs to the records and vectors of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nfbench.core.errors import CorruptArtifact
from nfbench.picturing import pictures
from nfbench.records import INTERRUPTED, CellRecord, PluginRecord, Value, revision
from nfbench.report import cells as report_cells
from nfbench.report.flags import flagged
from nfbench.report.run import Run, as_numpy
from nfbench.runner.driver import Driver
from nfbench.runner.plan import Cell, Plan
from nfbench.runner.recorded import asked
from nfbench.runner.spec import Chosen, OwnModel, Spec
from nfbench.runner.surrogates import note
from nfbench.store import Key


def collect(plan: Plan, driver: Driver, environment: Mapping[str, Any], command: str = "") -> Run:
    """The run that a plan, and what an driver made of it, amount to."""
    records, samples = [], {}
    for cell in plan.cells:
        record, vectors = _record(plan, cell, driver, environment)
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
        "options": asked(spec).model_dump(),
        "environment": dict(environment),
    }
    run = flagged(Run(info, records, samples))
    return replace(run, images=pictures(run, plan, driver))


def _record(
    plan: Plan, cell: Cell, driver: Driver, environment: Mapping[str, Any]
) -> tuple[CellRecord, Mapping[str, Any] | None]:
    failures, spec, store = driver.outcome.failures, plan.spec, driver.store
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
        scored, static = driver.read(cell.score), driver.read(cell.undefended)
        manifests = [driver.manifest(key) for key in (cell.score, *cell.crafts, cell.undefended)]
        train, fit = (driver.manifest(key) for key in plan.jobs[cell.score].needs[:2])
        correlations = [driver.manifest(k)["info"]["rank_correlation"] for k in _distilled(plan, cell)]
        timed = driver.manifest(cell.timing)["info"] if cell.timing and cell.timing in store else {}
    except CorruptArtifact as error:
        return CellRecord(**common, status="failed", reason=str(error)), None
    vectors = as_numpy(scored.tensors)
    plain = as_numpy(static.tensors)
    undefended = report_cells.Undefended.of(plain["prediction"] != plain["label"])
    stops = cell.threat_model.recipe.adaptive and cell.attack.recipe.rests
    aims = common["aims_at_threshold"]
    metrics = report_cells.measures(vectors, undefended, stopped_at_median=stops, aims_at_threshold=aims)
    return CellRecord(
        **common,
        status="done",
        metrics=metrics | _latency(timed),
        counts=report_cells.counts(vectors, undefended),
        timing={"seconds": sum(m["provenance"].get("seconds", 0.0) for m in manifests)},
        cost=report_cells.cost(vectors),
        stages=scored.info["stages"],
        winners=report_cells.winners(vectors, cell.objectives, scored.info["stages"]),
        health=scored.info["health"],
        notes=_notes(cell, fit["info"]) + note(cell.surrogate, correlations),
        environment=manifests[0]["provenance"].get("environment", {}),
        origins=_origins([*manifests, train, fit]),
        inputs=[*(m["sha256"] for m in manifests), train["sha256"], fit["sha256"]],
    ), vectors


def _knowledge(cell: Cell) -> dict[str, bool]:
    """What the attacker has, as far as a report must know it."""
    threat = cell.threat_model.recipe
    return {
        "adaptive": threat.adaptive,
        "asks_victim": threat.asks_victim,
        "aims_at_threshold": threat.aims_at_threshold(cell.attack.recipe),
        "follows_gradient": threat.follows_gradient(cell.attack.recipe),
    }


def _latency(timed: Mapping[str, Any]) -> dict[str, Value]:
    """What the detector costs at run time; nothing where that could not be measured."""
    if not timed:
        return {}
    flag = f"median of {timed['images']:.0f} images at once on {timed['device']}"
    names = {"latency_ms": "detector_ms", "latency_ratio": "ratio"}
    return {name: Value(value=timed[key], flag=flag) for name, key in names.items()}


def _origins(manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Source revisions and devices that the artifacts of a cell were made by, each once."""
    environments = [m["provenance"].get("environment", {}) for m in manifests]
    return sorted({_origin(one) for one in environments})


def _origin(environment: Mapping[str, Any]) -> str:
    return f"{revision(environment)} on {environment.get('device', 'unknown')}"


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
