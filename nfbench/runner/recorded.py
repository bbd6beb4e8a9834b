"""A spec as plain data from which the same plan is made again, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import CorruptArtifact
from nfbench.runner.options import Options
from nfbench.runner.spec import Chosen, OwnModel, Spec


class Asked(BaseModel):
    """What a run was asked for, every name and hyperparameter spelt out; `options` in `run.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
    defense: list[str]
    attacks: list[str]
    threat_model: list[str]
    defender: list[str]
    dataset: str
    model: str
    weights_sha256: str = ""
    """Of the user's own trained network; empty for all others."""
    eps: list[str]
    limit: int
    train_limit: int
    seed: list[int]
    skip: list[str] = []
    settings: dict[str, dict[str, Any]]

    @property
    def addresses(self) -> list[str]:
        """Names that are addresses of code, `package.module:Class`, rather than registered."""
        names = [*self.defense, *self.attacks, *self.threat_model, self.dataset, self.model]
        return [name for name in names if ":" in name]

    def options(self, data_dir: Path | None = None, weights: Path | None = None) -> Options:
        """The same request on this machine, with its data and, for one's own network, its weights."""
        given = self.model_dump(exclude={"weights_sha256"})
        return Options(**given, data_dir=data_dir, weights=weights)


def asked(spec: Spec) -> Asked:
    """What `spec` was resolved from, without globs, defaults or anything left to a later version."""
    model = spec.model
    chosen: list[Chosen[Any]] = [spec.dataset, *spec.defenses, *spec.attacks, *spec.threat_models]
    chosen += [spec.reference, *spec.teachers.values()]
    chosen += [] if isinstance(model, OwnModel) else [model]
    settings = {one.name: one.recipe.model_dump(mode="json") for one in chosen}
    return Asked(
        defense=[_address(one) for one in spec.defenses],
        attacks=[_address(one) for one in spec.attacks],
        threat_model=[_address(one) for one in spec.threat_models],
        defender=list(spec.defenders),
        dataset=_address(spec.dataset),
        model=model.factory if isinstance(model, OwnModel) else _address(model),
        weights_sha256=model.weights_sha256 if isinstance(model, OwnModel) else "",
        eps=[f"{norm}={eps!r}" for norm in sorted(spec.given_eps) for eps in spec.eps[norm]],
        limit=spec.limit,
        train_limit=spec.train_limit,
        seed=list(spec.seeds),
        skip=list(spec.skip),
        settings={**settings, "training": spec.training.model_dump(mode="json")},
    )


def asked_of(info: Mapping[str, Any]) -> Asked:
    """What the run of a `run.json` was asked for.

    Raises:
        CorruptArtifact: if that is missing or damaged.
    """
    if "options" not in info:
        raise CorruptArtifact("run.json does not hold the options of the run: run its command again")
    try:
        return Asked.model_validate(info["options"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise CorruptArtifact(f"options.{where} in run.json: {detail['msg'].lower()}") from None


def _address(chosen: Chosen[Any]) -> str:
    """The name by which a registry finds it."""
    return str(chosen.identity()["plugin"])
