"""Breaks: images that others submitted against a row, kept beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nfbench.core.errors import CorruptArtifact
from nfbench.reading import digest, strict_json, tensors_of
from nfbench.report.metrics import Vector
from nfbench.report.run import Vectors

FILE = "breaks.jsonl"
FOLDER = "breaks"
SCORES = ("evasion_score", "evasion_score_8bit", "expected_score")
JUDGED = (*SCORES, "adversarial_prediction")
"""Vectors that are kept of what the victim makes of submitted images."""
MAX_SOURCE = 200


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


Before = Annotated[tuple[float | None, float | None], BeforeValidator(_tupled)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


class Break(BaseModel):
    """One submission that lowered a row: a line of `breaks.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
    schema_version: Literal[1] = 1
    row: str
    """Name of the cell it was made against; its victim, threat model and ball are what counts."""
    date: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    source: Annotated[str, Field(min_length=1, max_length=MAX_SOURCE), AfterValidator(_one_line)]
    """Who made it, or where it is published."""
    images_sha256: _Digest
    """Of the file that was submitted."""
    images: _Count
    """How many images were submitted."""
    fooling: _Count
    """Of these, how many the classifier gets wrong."""
    improved: _Count
    """Of these, how many have a lower score than any point known before."""
    sr_at_5_fpr: Before
    """Of the worst case, before and after."""
    auroc_worst: Before
    """The same."""
    file: Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.safetensors$")]
    """In the folder `breaks`: `index`, `images`, and what the victim makes of these."""
    file_sha256: _Digest
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
            what = f"{'.'.join(map(str, detail['loc']))}: {detail['msg'].lower()}"
            raise CorruptArtifact(f"{where} is no break: {what}") from None
    return found


def kept(folder: Path, one: Break) -> Vectors:
    """The images of a break, `index` and `images`, and what the victim made of them.

    Raises:
        CorruptArtifact: if the file is damaged, was changed, or holds something else.
    """
    path = folder / FOLDER / one.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{path} can't be read: {error.strerror or error}") from None
    if digest(data) != one.file_sha256:
        raise CorruptArtifact(f"{path} was changed: it has another SHA-256 than {FILE} says")
    found = tensors_of(data, str(path))
    for name in ("index", "images", "evasion_score"):
        if name not in found:
            raise CorruptArtifact(f"{path} lacks {name}: submit the images again")
    for name, array in found.items():
        if trouble := _trouble(name, array, one.images):
            raise CorruptArtifact(f"{path}: {name} {trouble}, got {array.dtype} {array.shape}")
    if len(np.unique(found["index"])) < one.images:
        raise CorruptArtifact(f"{path}: index names an image twice")
    return found


def _trouble(name: str, array: Vector, images: int) -> str:
    """What is wrong with an array of a break; empty if nothing is."""
    if name not in ("index", "images", *JUDGED):
        return "does not belong there"
    dtype = np.int64 if name in ("index", "adversarial_prediction") else np.float32
    if array.dtype != dtype or array.ndim != (4 if name == "images" else 1):
        shape = "(k, C, H, W)" if name == "images" else "(k,)"
        return f"must be {shape} {np.dtype(dtype)}"
    if len(array) != images:
        return f"must be of {images} images"
    return "has numbers that are none" if name in SCORES and np.isnan(array).any() else ""
