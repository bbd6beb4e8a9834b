"""Verification: how far results can be trusted, and what that rests on; written beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import digest, results_bytes, strict_json
from nfbench.store import write_atomic

Level = Literal["self-reported", "re-scored", "re-run"]
FILE = "verification.json"


class Verification(BaseModel):
    """What was checked of one results file, by whoever keeps it; it is not signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    results_sha256: str
    """Of the lines of `results.jsonl` it speaks about, uncompressed."""
    level: Level = "self-reported"
    nfbench: str = ""
    date: str = ""
    """Day of the check, as it was given."""
    cells: int = Field(default=0, ge=0)
    finished: int = Field(default=0, ge=0)
    """Cells with numbers; each of these was re-scored if the level says so."""
    images: int = Field(default=0, ge=0)
    """Adversarial images found inside ball and box."""
    exact: bool = False
    """Whether numbers had to agree to the last bit: same versions, same kind of CPU."""
    rerun: list[str] = []
    """Names of the cells that were repeated from nothing."""
    rerun_share: float = Field(default=0.0, ge=0, le=1)
    rerun_seed: int | None = None
    notes: list[str] = []
    """What a reader must know, a line each."""


def write_verification(path: Path, verification: Verification) -> None:
    """Write it, atomically.

    Raises:
        UsageError: if that is impossible.
    """
    try:
        write_atomic(path, (verification.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror or error}") from None


def read_verification(folder: Path) -> Verification:
    """How far the results of a run directory or of a board's results folder can be trusted.

    What is said of other results counts for nothing: the level is then `self-reported`, as without any
    verification.

    Raises:
        UsageError: if there are no results.
        CorruptArtifact: if the verification can't be read.
    """
    found = digest(results_bytes(folder))
    path = folder / FILE
    if not path.is_file():
        return Verification(results_sha256=found)
    try:
        said = Verification.model_validate(strict_json(path.read_bytes(), str(path)))
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptArtifact(f"{path} is no verification ({reason}): verify again") from None
    if said.results_sha256 != found:
        note = "the results were changed after they were verified: verify them again"
        return Verification(results_sha256=found, notes=[note])
    return said
