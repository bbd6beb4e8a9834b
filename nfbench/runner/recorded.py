"""A spec as plain data from which the same plan is made again, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nfbench.core.errors import CorruptArtifact
from nfbench.runner.options import Options
from nfbench.runner.spec import Chosen, OwnModel, Spec

MOST_CELLS = 100_000
"""Cells of one run that a file may ask for; the whole matrix of what is registered has some 10 000."""
_Whole = Annotated[int, Field(ge=0, lt=2**31)]
_Names = Annotated[list[str], Field(max_length=1000)]


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
    limit: _Whole
    train_limit: _Whole
    seed: list[_Whole]
    skip: _Names = []
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
        CorruptArtifact: if that is missing or damaged, or for more cells than anybody runs.
    """
    if "options" not in info:
        raise CorruptArtifact("run.json does not hold the options of the run: run its command again")
    try:
        found = Asked.model_validate(info["options"])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise CorruptArtifact(f"options.{where} in run.json: {detail['msg'].lower()}") from None
    names = (found.defense, found.attacks, found.threat_model, found.defender)
    _require_few(*names, found.eps, found.seed)
    return found


def require_few_cells(spec: Spec) -> None:
    """Refuse a request of strangers that asks for more cells than anybody runs.

    Names may have been patterns, so this is asked again once they are looked up.

    Raises:
        CorruptArtifact: for more than `MOST_CELLS`.
    """
    radii = max(spec.eps.values(), key=len, default=())
    _require_few(spec.defenses, spec.attacks, spec.threat_models, spec.defenders, radii, spec.seeds)


def _require_few(*lists: Sized) -> None:
    count = prod(max(1, len(one)) for one in lists)
    if count > MOST_CELLS:
        raise CorruptArtifact(f"options in run.json ask for {count} cells, {MOST_CELLS} are allowed")


def _address(chosen: Chosen[Any]) -> str:
    """The name by which a registry finds it."""
    return str(chosen.identity()["plugin"])
