"""What a board reads of `run.json`: checked, since a stranger may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import CorruptArtifact


class _Named(BaseModel):
    name: str


class _Spec(BaseModel):
    """What the run was asked for, as far as rows are held to it."""

    attacks: list[_Named] = []
    data_sha256: str = ""
    eps: dict[str, list[float | None]] = {}
    limit: int | None = None
    seeds: list[int] = []


class _Environment(BaseModel):
    packages: dict[str, str | None] = {}


class _Told(BaseModel):
    model_config = ConfigDict(strict=True)
    title: str = ""
    summary: list[str] = []
    command: str = ""
    plan: str = ""
    spec: _Spec = _Spec()
    environment: _Environment = _Environment()


def require_told(info: Mapping[str, Any], where: str) -> None:
    """Refuse a `run.json` that has something else where a board looks for texts and numbers.

    Raises:
        CorruptArtifact: naming the field.
    """
    try:
        _Told.model_validate(dict(info))
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        raise CorruptArtifact(
            f"{where} is damaged: {field} of run.json: {detail['msg'].lower()}"
        ) from None
