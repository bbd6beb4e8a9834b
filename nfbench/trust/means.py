"""What a check may use, and the plan of the run that is checked, made again on this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nfbench.core.errors import UsageError, VerificationMismatch
from nfbench.core.registry import Registry
from nfbench.runner.driver import Progress
from nfbench.runner.environment import pick_device
from nfbench.runner.plan import Cell, Plan, make_plan
from nfbench.runner.recorded import asked_of, require_few_cells
from nfbench.runner.spec import resolve
from nfbench.runner.workshop import Workshop


class Silent(Progress):
    """Tells nobody how far the work is."""


@dataclass(frozen=True)
class Means:
    """Plugins, data and artifacts that are at hand, and whether code that results name may run."""

    registry: Registry
    cache: Path | None = None
    """Where the artifacts of run directories lie; archives bring their own."""
    device: str = "auto"
    data_dir: Path | None = None
    weights: Path | None = None
    """Of somebody's own trained network."""
    archive: Path | None = None
    """Where the artifacts are instead, for results in a directory."""
    progress: Progress = field(default_factory=Silent)
    allow_code: bool = False
    """Whether `package.module:Class` in the results may be imported; it can do anything then."""

    def workshop(self) -> Workshop:
        """Where jobs run.

        Raises:
            UsageError: for a device that is not there.
        """
        return Workshop(self.registry, pick_device(self.device), self.data_dir, self.weights)


def planned(info: Mapping[str, Any], means: Means) -> Plan:
    """The plan of a run, from what its `run.json` says was asked for.

    Raises:
        UsageError: if that names code, which may not run.
        CorruptArtifact: if it does not say, or asks for more cells than anybody runs.
        VerificationMismatch: if the data or the jobs would be others here.
        NFBenchError: if a plugin or the data are not here.
    """
    said = asked_of(info)
    if said.addresses and not means.allow_code:
        raise UsageError(
            f"the results name code to import, {said.addresses[0][:80]}: give --allow-code if you have "
            "read it and it may run here"
        )
    if said.weights_sha256 and means.weights is None:
        raise UsageError(
            f"the run attacked weights of SHA-256 {said.weights_sha256:.16}…: give them as --weights"
        )
    spec = resolve(said.options(means.data_dir, means.weights), means.registry)
    require_few_cells(spec)
    plan = make_plan(spec)
    _require_same(info, plan)
    return plan


def _require_same(info: Mapping[str, Any], plan: Plan) -> None:
    spec = info.get("spec")
    data = spec.get("data_sha256") if isinstance(spec, Mapping) else None
    if data != plan.spec.data_digest:
        raise VerificationMismatch(
            f"spec.data_sha256 is {data!r:.80} in run.json, the data here have {plan.spec.data_digest}"
        )
    if info.get("plan") != plan.digest:
        raise VerificationMismatch(
            f"plan is {info.get('plan')!r:.80} in run.json, and {plan.digest} here: the same request "
            "makes other jobs; check with the versions in `environment` of run.json"
        )


def of_cells(plan: Plan, names: Collection[str]) -> Plan:
    """The same plan with only the cells of these names, and without measuring how long they take."""
    return replace(plan, cells=[replace(c, timing=None) for c in plan.cells if c.name in names])


def needed(plan: Plan, cell: Cell) -> list[str]:
    """Keys of the artifacts that re-scoring a cell takes; what is computed from these is not among them.

    The victim's classifier and detector, every set of adversarial images, the undefended classifier
    and the images made of it, and surrogates, whose quality is part of a record.
    """
    assert cell.score is not None
    assert cell.undefended is not None
    train, fit = plan.jobs[cell.score].needs[:2]
    crafts = (*cell.crafts, cell.undefended)
    surrogates = [
        need for key in cell.crafts for need in plan.jobs[key].needs if plan.jobs[need].kind == "distil"
    ]
    keys = (train, fit, plan.jobs[cell.undefended].needs[0], *crafts, *surrogates)
    return list(dict.fromkeys(keys))
