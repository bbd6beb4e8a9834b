"""Verification: how far results can be trusted, and what that rests on; written beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import digest, results_bytes, strict_json
from nfbench.report import compact
from nfbench.report.run import Run, info_bytes, read
from nfbench.store import write_atomic
from nfbench.trust.breaks import FILE as BREAKS

Level = Literal["self-reported", "re-scored", "re-run"]
FILE = "verification.json"
_WHAT = {
    "results_sha256": "results",
    "vectors_sha256": "vectors",
    "info_sha256": "facts in run.json",
    "gallery_sha256": "pictures",
    "breaks_sha256": "breaks",
}


class Verification(BaseModel):
    """What was checked of one results file, by whoever keeps it; it is not signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2] = 2
    """Raised when verifications speak about something else than before."""
    results_sha256: str
    """Of the lines of `results.jsonl` it speaks about, uncompressed."""
    vectors_sha256: str = ""
    """Of the vectors, as a board keeps them."""
    info_sha256: str = ""
    """Of `run.json`."""
    gallery_sha256: str = ""
    """Of the pictures, as many as a board keeps."""
    breaks_sha256: str = ""
    """Of `breaks.jsonl`, which has the digests of the rest; empty without it."""
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


def digests(run: Run, folder: Path) -> dict[str, str]:
    """SHA-256 of all that a board shows of results: fields of a `Verification`.

    The same for a run directory and for the board's folder made of it.
    """
    from safetensors.numpy import save

    breaks = folder / BREAKS
    return {
        "results_sha256": digest(results_bytes(folder)),
        "vectors_sha256": digest(save(compact.packed(run))),
        "info_sha256": digest(info_bytes(run.info)),
        "gallery_sha256": digest(compact.gallery_bytes(compact.thinned(run.images))),
        "breaks_sha256": digest(breaks.read_bytes()) if breaks.is_file() else "",
    }


def read_verification(folder: Path, run: Run | None = None) -> Verification:
    """How far the results of a run directory or of a board's results folder can be trusted.

    What is said of other results counts for nothing: the level is then `self-reported`, as without any
    verification.

    Args:
        folder: where they lie.
        run: what was read there, if it was.

    Raises:
        UsageError: if there are no results.
        CorruptArtifact: if they or the verification can't be read.
    """
    none = Verification(results_sha256=digest(results_bytes(folder)))
    path = folder / FILE
    if not path.is_file():
        return none
    said = _parsed(path)
    if said is None:
        return none.model_copy(update={"notes": ["an earlier nfbench verified them: verify them again"]})
    now = {"results_sha256": none.results_sha256}
    if said.results_sha256 == none.results_sha256:
        now = digests(read(folder) if run is None else run, folder)
    changed = [what for field, what in _WHAT.items() if getattr(said, field) != now.get(field)]
    if changed:
        note = f"the {changed[0]} were changed after they were verified: verify them again"
        return none.model_copy(update={"notes": [note]})
    return said


def outranked(path: Path, found: Verification) -> Verification | None:
    """The verification at `path`, if it is of the same results and says more than `found`."""
    try:
        said = _parsed(path) if path.is_file() else None
    except CorruptArtifact:
        return None
    if said is None or any(getattr(said, field) != getattr(found, field) for field in _WHAT):
        return None
    levels = get_args(Level)
    return said if levels.index(said.level) > levels.index(found.level) else None


def _parsed(path: Path) -> Verification | None:
    """A verification; None if it is of an older format, and so not of all that counts."""
    try:
        plain = strict_json(path.read_bytes(), str(path))
        if isinstance(plain, dict) and plain.get("format") == 1:
            return None
        return Verification.model_validate(plain)
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise CorruptArtifact(f"{path} is no verification ({first}): verify again") from None
