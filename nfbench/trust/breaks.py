"""Breaks: images that others submitted against a row, kept beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from nfbench.core.errors import CorruptArtifact
from nfbench.reading import digest, strict_json, tensors_of
from nfbench.report.run import Vectors

FILE = "breaks.jsonl"
FOLDER = "breaks"


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Before = Annotated[tuple[float | None, float | None], BeforeValidator(_tupled)]


class Break(BaseModel):
    """One submission that lowered a row: a line of `breaks.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
    schema_version: Literal[1] = 1
    row: str
    """Name of the cell it was made against; its victim, threat model and ball are what counts."""
    date: str
    source: str
    """Who made it, or where it is published."""
    images_sha256: str
    """Of the file that was submitted."""
    images: int
    """How many images were submitted."""
    fooling: int
    """Of these, how many the classifier gets wrong."""
    improved: int
    """Of these, how many have a lower score than any point known before."""
    sr_at_5_fpr: Before
    """Of the worst case, before and after."""
    auroc_worst: Before
    """The same."""
    file: str
    """In the folder `breaks`: `index`, and what the victim makes of the images."""
    file_sha256: str
    nfbench: str

    @property
    def note(self) -> str:
        """The submission in a line."""
        before, after = ("–" if rate is None else f"{rate:.3f}" for rate in self.sr_at_5_fpr)
        lowered = f"{self.improved} of {self.images} images lowered by {self.source}"
        return f"{self.date}: {lowered}, SR@5 {before} → {after}"


def read_breaks(folder: Path) -> list[Break]:
    """The breaks of the results in `folder`, oldest first.

    Raises:
        CorruptArtifact: naming the line that is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().strip(b"\n").split(b"\n"), 1):
        where = f"{path}, line {number}"
        try:
            found.append(Break.model_validate(strict_json(line, where)))
        except ValidationError as error:
            detail = error.errors()[0]
            reason = f"{'.'.join(map(str, detail['loc']))}: {detail['msg'].lower()}"
            raise CorruptArtifact(f"{where} is no break: {reason}") from None
    return found


def kept(folder: Path, one: Break) -> Vectors:
    """What the victim made of the images of a break.

    Raises:
        CorruptArtifact: if the file is damaged or was changed.
    """
    path = folder / FOLDER / Path(one.file).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{path} can't be read: {error.strerror or error}") from None
    if digest(data) != one.file_sha256:
        raise CorruptArtifact(f"{path} was changed: it has another SHA-256 than {FILE} says")
    found = tensors_of(data, str(path))
    if not {"index", "evasion_score"} <= found.keys():
        raise CorruptArtifact(f"{path} lacks index or evasion_score")
    return found
