"""Breaking a row: images that anybody submits, judged by the row's own classifier and detector."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.reading import digest, read_bytes, strict_json, tensors_of
from nfbench.records import CellRecord
from nfbench.report.run import Vectors
from nfbench.store import write_atomic
from nfbench.trust import breaks, lowering
from nfbench.trust.artifacts import scratch
from nfbench.trust.breaks import MAX_SOURCE, Break
from nfbench.trust.judging import judge
from nfbench.trust.means import Means
from nfbench.trust.opening import Target, open_target
from nfbench.trust.verification import FILE as VERIFICATION
from nfbench.trust.verification import digests, read_verification, write_verification
from nfbench.trust.verifying import require_day

MAX_FILE = 2**31
"""Bytes of submitted images; what an archive may hold of them."""


@dataclass(frozen=True, eq=False)
class Submission:
    """A file of images, as far as it can be read without the row."""

    index: Tensor
    images: Tensor
    source: str
    sha256: str


def break_row(images: Path, row: str, folder: Path, means: Means, *, date: str) -> Break:
    """Judge submitted images by a row's own artifacts, and lower its worst case where they do better.

    Args:
        images: safetensors with `index` (k,) int64, positions in the dataset, and `images` (k, C, H, W)
            float32; `source` in the metadata says who made them or where they are published.
        row: name of a finished cell whose attacker knows and asks the victim.
        folder: the results, a run directory or a board's folder; the break is written there.
        means: plugins, data and artifacts at hand.
        date: day of the submission, as in 2026-11-21.

    Returns:
        What was written: or what would have been, if no image is improved; then nothing is. A file that
        was submitted for this row before changes nothing, and its line is returned.

    Raises:
        VerificationMismatch: for an image outside the ball or the box.
        UsageError: for a file or a row that can't be right.
        CorruptArtifact: for damaged results.
    """
    require_day(date)
    sent = read_submission(images)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no directory of results; with an archive, give it as --archive")
    for known in breaks.read_breaks(folder):
        if (known.row, known.images_sha256) == (row, sent.sha256):
            return known
    with scratch() as home:
        opened = open_target(folder, Path(home) / "archive", means.archive)
        cell = _row(opened, row)
        vectors = judge(opened, cell, sent.index, sent.images, means)
    return _lower(opened, cell, vectors, folder, (sent, date))


def read_submission(path: Path) -> Submission:
    """A file of images; what is kept of a break is one, too, and its scores are not looked at.

    Raises:
        UsageError: if it can't be read, or does not hold what it must.
        CorruptArtifact: if it is no safetensors file.
    """
    data = read_bytes(path, MAX_FILE)
    tensors, told = tensors_of(data, str(path)), _metadata(data, path)
    if not {"index", "images"} <= tensors.keys() <= {"index", "images", *breaks.JUDGED}:
        found = ", ".join(sorted(tensors))[:80]
        raise UsageError(f"{path} must hold index and images, and nothing else; it has {found}")
    index, images = (torch.from_numpy(tensors[name]) for name in ("index", "images"))
    if index.dtype != torch.int64 or index.dim() != 1 or not len(index):
        raise UsageError(f"{path}: index must be (k,) int64, got {index.dtype} {tuple(index.shape)}")
    if len(index.unique()) < len(index):
        raise UsageError(f"{path}: index names an image twice")
    if images.dtype != torch.float32 or images.dim() != 4 or len(images) != len(index):
        got = f"{images.dtype} {tuple(images.shape)}"
        raise UsageError(f"{path}: images must be ({len(index)}, C, H, W) float32, got {got}")
    origin = told.get("source", "")
    if not isinstance(origin, str) or not 0 < len(origin) <= MAX_SOURCE or not origin.isprintable():
        raise UsageError(
            f"{path}: metadata must have a `source`: who made the images or where they are, "
            f"one line of at most {MAX_SOURCE} characters"
        )
    return Submission(index, images, origin, digest(data))


def _metadata(data: bytes, path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file that could be read."""
    (size,) = struct.unpack("<Q", data[:8])
    found = strict_json(data[8 : 8 + size], f"the header of {path}").get("__metadata__", {})
    return dict(found)


def _row(opened: Target, name: str) -> CellRecord:
    cells = {cell.cell: cell for cell in opened.run.cells}
    if name not in cells:
        raise UsageError(f"--row {name[:120]}: there is no such cell{did_you_mean(name, cells)}")
    cell = cells[name]
    if not cell.finished:
        raise UsageError(f"--row {name}: the cell is {cell.status} and has nothing to lower")
    if not cell.asks_victim:
        raise UsageError(
            f"--row {name}: submitted images count under threat models whose attacker knows the victim, "
            f"not under {cell.threat_model.name}"
        )
    return cell


def _lower(
    opened: Target, cell: CellRecord, found: Vectors, folder: Path, sent: tuple[Submission, str]
) -> Break:
    """Write the break, if it is one."""
    from safetensors.numpy import save

    submission, date = sent
    arrays = {**found, "images": submission.images.numpy()}
    data = save(arrays, {"source": submission.source})
    run = lowering.apply_breaks(opened.run, folder)
    one = Break(
        row=cell.cell,
        date=date,
        source=submission.source,
        images_sha256=submission.sha256,
        **lowering.weighed(run, cell, found),
        file=f"{digest(f'{cell.cell} {submission.sha256}'.encode())[:32]}.safetensors",
        file_sha256=digest(data),
        nfbench=version("nfbench"),
    )
    if one.improved:
        _write(opened, folder, one, data)
    return one


def _write(opened: Target, folder: Path, one: Break, data: bytes) -> None:
    """Write a break; what was verified together with those before it stays verified."""
    path = folder / breaks.FILE
    lines = path.read_bytes() if path.is_file() else b""
    line = json.dumps(one.model_dump(mode="json"), sort_keys=True, allow_nan=False)
    said = read_verification(folder, opened.run)
    try:
        write_atomic(folder / breaks.FOLDER / one.file, data)
        write_atomic(path, lines + line.encode() + b"\n")
    except OSError as error:
        raise UsageError(f"can't write to {folder}: {error.strerror or error}") from None
    if said.level != "self-reported":
        now = {**digests(opened.run, folder), "images": said.images + one.images}
        write_verification(folder / VERIFICATION, said.model_copy(update=now))
