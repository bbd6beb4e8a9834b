"""A run directory, or a board's results folder: what it holds, written and read without the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import results_bytes, strict_json, tensors_of
from nfbench.records import SCHEMA, CellRecord
from nfbench.report import compact
from nfbench.report.metrics import Vector
from nfbench.schema import records_of, require_known
from nfbench.store import write_atomic

Vectors = Mapping[str, Vector]
NEEDED = ("index", "clean_score", "evasion_score", "calibration_score")
"""Vectors that tables are made of."""


@dataclass(frozen=True, eq=False)
class Run:
    """Cell records, and the vectors of those that have numbers, by cell name."""

    info: Mapping[str, Any]
    cells: Sequence[CellRecord]
    samples: Mapping[str, Vectors]
    images: Mapping[str, Vectors] = field(default_factory=dict)
    """For some cells a few images to look at: `index`, (k,); `clean` and `adversarial`, (k, C, H, W)."""
    memory: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What tables have computed of it, since several show the same; a changed copy begins empty."""


def require_writable(out: Path) -> None:
    """Create a run directory.

    Raises:
        UsageError: if that is impossible.
    """
    try:
        (out / "samples").mkdir(parents=True, exist_ok=True)
        write_atomic(out / "samples" / ".probe", b"")
        (out / "samples" / ".probe").unlink()
    except OSError as error:
        raise UsageError(f"can't write to --out {out}: {error.strerror or error}") from None


def write(out: Path, run: Run) -> None:
    """Write `run.json`, `results.jsonl`, the samples and the gallery, each atomically."""
    from safetensors.numpy import save

    for name, vectors in run.samples.items():
        write_atomic(out / "samples" / f"{name}.safetensors", save(dict(vectors)))
    write_atomic(out / "results.jsonl", lines_bytes(run.cells))
    write_atomic(out / "gallery.safetensors", compact.gallery_bytes(run.images))
    write_atomic(out / "run.json", info_bytes(run.info))


def lines_bytes(cells: Sequence[CellRecord]) -> bytes:
    """`results.jsonl`."""
    lines = [cell.model_dump_json() for cell in cells]
    return ("\n".join(lines) + "\n").encode()


def info_bytes(info: Mapping[str, Any]) -> bytes:
    """`run.json`."""
    text = json.dumps({"schema_version": SCHEMA, **info}, indent=2, sort_keys=True)
    return (text + "\n").encode()


def read(folder: Path) -> Run:
    """Read a run directory, or the compact results folder of a board.

    Raises:
        UsageError: if it is neither, or a newer nfbench wrote it.
        CorruptArtifact: if a file in it can't be read.
    """
    data = results_bytes(folder)
    try:
        return _read(folder, data)
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{folder} is damaged ({error}): run its command again") from None


def _read(folder: Path, data: bytes) -> Run:
    info = strict_json(_file(folder, "run.json"), "run.json")
    if not isinstance(info, dict):
        raise CorruptArtifact("run.json is no JSON object")
    require_known(info.get("schema_version"), "run.json")
    cells = records_of(data, "results")
    return Run(info, cells, _samples(folder, cells), _images(folder))


def _samples(folder: Path, cells: Sequence[CellRecord]) -> dict[str, Vectors]:
    if not (folder / compact.VECTORS).is_file():
        return {cell.cell: _sample(folder, cell.cell) for cell in cells if cell.finished}
    vectors = tensors_of(_file(folder, compact.VECTORS), compact.VECTORS)
    return dict(compact.unpacked(vectors, cells))


def _sample(folder: Path, cell: str) -> Vectors:
    """The sample file of a cell, with at least the vectors that tables are made of."""
    name = f"samples/{cell}.safetensors"
    found = tensors_of(_file(folder, name), name)
    for vector in NEEDED:
        if vector not in found:
            raise CorruptArtifact(f"{name} has no vector {vector}")
    compact.require_sound(found, name)
    return found


def _images(folder: Path) -> dict[str, Vectors]:
    if not (folder / compact.GALLERY).is_file():
        return {}
    return dict(compact.images_of(tensors_of(_file(folder, compact.GALLERY), compact.GALLERY)))


def _file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{name}: {error.strerror or error}") from None


def as_numpy(tensors: Mapping[str, Any]) -> dict[str, Vector]:
    """Tensors as arrays on the CPU."""
    return {key: np.asarray(value.cpu()) for key, value in tensors.items()}
