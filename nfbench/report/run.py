"""A run directory: what it holds, written and read without the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.records import SCHEMA, CellRecord
from nfbench.report.metrics import Vector
from nfbench.store import write_atomic

Vectors = Mapping[str, Vector]


@dataclass(frozen=True, eq=False)
class Run:
    """Cell records, and the vectors of those that have numbers, by cell name."""

    info: Mapping[str, Any]
    cells: Sequence[CellRecord]
    samples: Mapping[str, Vectors]


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
    """Write `run.json`, `results.jsonl` and the samples, each atomically."""
    from safetensors.numpy import save

    for name, vectors in run.samples.items():
        write_atomic(out / "samples" / f"{name}.safetensors", save(dict(vectors)))
    lines = [cell.model_dump_json() for cell in run.cells]
    write_atomic(out / "results.jsonl", ("\n".join(lines) + "\n").encode())
    text = json.dumps({"schema_version": SCHEMA, **run.info}, indent=2, sort_keys=True)
    write_atomic(out / "run.json", (text + "\n").encode())


def read(out: Path) -> Run:
    """Read a run directory back.

    Raises:
        UsageError: if it is none.
        CorruptArtifact: if a file in it can't be read.
    """
    from safetensors import SafetensorError

    if not (out / "results.jsonl").is_file():
        raise UsageError(f"{out} is no run directory: it has no results.jsonl")
    try:
        info = json.loads((out / "run.json").read_text(encoding="utf-8"))
        _require_schema(out, info["schema_version"])
        lines = (out / "results.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
        for line in lines:
            _require_schema(out, json.loads(line)["schema_version"])
        cells = [CellRecord.model_validate_json(line) for line in lines]
        samples = {cell.cell: _vectors(out, cell) for cell in cells if cell.finished}
    except KeyError as error:
        raise CorruptArtifact(f"{out} is damaged ({error} is missing): run its command again") from None
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise CorruptArtifact(f"{out} is damaged ({first}): run its command again") from None
    return Run(info, cells, samples)


def _require_schema(out: Path, found: object) -> None:
    if found != SCHEMA:
        raise UsageError(
            f"{out} was written under schema {found}, this nfbench reads {SCHEMA}: "
            "run the command in its run.json again"
        )


def _vectors(out: Path, cell: CellRecord) -> Vectors:
    """The sample file of a cell, with at least the vectors that tables are made of."""
    from safetensors.numpy import load

    found = load((out / "samples" / f"{cell.cell}.safetensors").read_bytes())
    for name in ("index", "clean_score", "evasion_score", "calibration_score"):
        if name not in found:
            raise KeyError(f"{name} of {cell.cell}")
    return found


def as_numpy(tensors: Mapping[str, Any]) -> dict[str, Vector]:
    """Tensors as arrays on the CPU."""
    return {key: np.asarray(value.cpu()) for key, value in tensors.items()}
