"""What pages read of results besides numbers: checked, since a stranger may have written it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import CorruptArtifact
from nfbench.records import CellRecord
from nfbench.report.cells import budget
from nfbench.report.run import Run

NEEDED = ("auroc_worst", "sr_at_5_fpr", "undefended_error", "clean_accuracy", "fpr_realised_at_5")
"""Metrics that every table is made of."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Named(_Strict):
    name: str


class _Spec(_Strict):
    """What the run was asked for, as far as rows are held to it."""

    attacks: list[_Named] = []
    data_sha256: str = ""
    eps: dict[str, list[float | None]] = {}
    limit: int | None = None
    seeds: list[int] = []


class _Environment(_Strict):
    nfbench: str | None = None
    python: str | None = None
    packages: dict[str, str | None] = {}
    device: str | None = None
    cpu_capability: str | None = None
    threads_per_job: int | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None


class _Info(_Strict):
    title: str
    summary: list[str]
    command: str = ""
    plan: str = ""
    spec: _Spec = _Spec()
    environment: _Environment = _Environment()


def require_told(run: Run, where: str) -> None:
    """Refuse results that have something else where pages look for texts and numbers.

    Raises:
        CorruptArtifact: naming the field.
    """
    try:
        _Info.model_validate(dict(run.info))
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        raise _damaged(where, f"{field} of run.json: {detail['msg'].lower()}") from None
    for cell in run.cells:
        for trouble in _troubles(cell):
            raise _damaged(where, f"cell {cell.cell!r}: {trouble}")


def _troubles(cell: CellRecord) -> Iterator[str]:
    for field, said in (("dataset", cell.dataset), ("model", cell.model)):
        yield from _texts(field, said)
    if cell.eps is not None and cell.eps <= 0:
        yield f"eps is {cell.eps!r}, and no radius"
    if any(count < 1 for count in cell.winners.values()):
        yield "winners counts what has won nothing"
    if cell.finished:
        yield from (f"it has no {name}" for name in NEEDED if name not in cell.metrics)


def _texts(field: str, said: Mapping[str, Any]) -> Iterator[str]:
    for name in ("name", "sha256"):
        if not isinstance(said.get(name, ""), str):
            yield f"{field}.{name} is no text"


def require_same_images(run: Run, where: str) -> None:
    """Refuse results of which no worst case can be taken: attacks of one victim on other images.

    Raises:
        CorruptArtifact: naming a cell.
    """
    first: dict[tuple[str, str, str, int], bytes] = {}
    for cell in run.cells:
        if cell.finished and cell.defender != "whitebox-defense":
            place = (cell.row, cell.threat_model.name, budget(cell), cell.seed)
            images = run.samples[cell.cell]["index"].astype("int64").tobytes()
            if first.setdefault(place, images) != images:
                raise _damaged(where, f"cell {cell.cell!r} attacks other images than its row")


def _damaged(where: str, why: str) -> CorruptArtifact:
    return CorruptArtifact(f"{where} is damaged ({why}): run its command again")
