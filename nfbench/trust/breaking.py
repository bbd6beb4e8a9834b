"""Breaking a row: images that anybody submits, judged by the row's own classifier and detector."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfbench.core.defense import Detector
from nfbench.core.errors import CorruptArtifact, UsageError, VerificationMismatch
from nfbench.core.recipe import did_you_mean
from nfbench.core.values import Budget
from nfbench.reading import digest, read_bytes, strict_json, tensors_of
from nfbench.records import CellRecord
from nfbench.report.cells import lowest, threshold_at_5
from nfbench.report.run import Vectors, as_numpy
from nfbench.runner.measuring import measure
from nfbench.runner.plan import Plan
from nfbench.store import Store, write_atomic
from nfbench.trust import breaks, lowering
from nfbench.trust.artifacts import gather, scratch, source
from nfbench.trust.breaks import Break
from nfbench.trust.images import require_allowed, taken
from nfbench.trust.means import Means, of_cells, planned
from nfbench.trust.opening import Target, open_target
from nfbench.trust.verifying import require_day

MAX_FILE = 4 * 2**30
MAX_SOURCE = 200
KEPT = ("index", "evasion_score", "evasion_score_8bit", "expected_score", "adversarial_prediction")
"""Vectors that are kept of submitted images."""


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
        vectors = _judge(opened, cell, sent, means)
    return _lower(opened, cell, vectors, folder, (sent, date))


def read_submission(path: Path) -> Submission:
    """A file of images.

    Raises:
        UsageError: if it can't be read, or does not hold what it must.
        CorruptArtifact: if it is no safetensors file.
    """
    data = read_bytes(path, MAX_FILE)
    tensors, told = tensors_of(data, str(path)), _metadata(data, path)
    if tensors.keys() != {"index", "images"}:
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


def _judge(opened: Target, cell: CellRecord, sent: Submission, means: Means) -> Vectors:
    """What the row's victim makes of the images: vectors over those that were sent."""
    plan = of_cells(planned(opened.run.info, means), [cell.cell])
    if not plan.cells:
        raise CorruptArtifact(f"{cell.cell} is not what run.json asks for")
    score = plan.cells[0].score
    assert score is not None
    shop, recipe = means.workshop(), plan.jobs[score].recipe
    vectors = opened.run.samples[cell.cell]
    strange = ~torch.isin(sent.index, torch.from_numpy(vectors["index"]))
    if strange.any():
        raise VerificationMismatch(
            f"{cell.cell} does not attack image {int(sent.index[strange][0])}: it is not among the test "
            "images that the classifier gets right"
        )
    detector = _detector(opened, plan, cell, means)
    clean = taken(shop.splits(recipe).test, sent.index, shop)
    radius = float("inf") if cell.eps is None else cell.eps
    require_allowed("the submitted file", sent.images, clean, Budget(cell.norm, radius))
    images, threshold = sent.images.to(shop.device), threshold_at_5(vectors)
    found, _ = measure(detector, clean, [images], threshold=threshold)
    return as_numpy({name: found[name] for name in KEPT if name in found})


def _detector(opened: Target, plan: Plan, cell: CellRecord, means: Means) -> Detector:
    """The detector of a row, in front of its classifier, from its own artifacts."""
    score = plan.cells[0].score
    assert score is not None
    train, fit = plan.jobs[score].needs[:2]
    shop = means.workshop()
    with scratch() as home:
        store = Store(Path(home))
        gather(plan, plan.cells, source(means, opened.artifacts), store)
        if cell.inputs[-2:] != [store.manifest(key)["sha256"] for key in (train, fit)]:
            raise VerificationMismatch(
                f"{cell.cell}: the artifacts at hand are not the classifier and detector of this row"
            )
        classifier = shop.classifier(plan.jobs[train].recipe, store.get(train))
        return shop.detector(plan.jobs[score].recipe, classifier, store.get(fit))


def _lower(
    opened: Target, cell: CellRecord, found: Vectors, folder: Path, sent: tuple[Submission, str]
) -> Break:
    """Write the break, if it is one."""
    from safetensors.numpy import save

    submission, date = sent
    run = lowering.apply_breaks(opened.run, folder)
    vectors = run.samples[cell.cell]
    known = [run.samples[one.cell] for one in lowering.around(run, cell) if one.eps == cell.eps]
    more = [*known, lowering.merged(lowering.nothing(vectors), found, cell.cell)]
    before, after = (lowering.rates(vectors, lowest(cells)) for cells in (known, more))
    data = save(dict(found))
    one = Break(
        row=cell.cell,
        date=date,
        source=submission.source,
        images_sha256=submission.sha256,
        images=len(submission.index),
        fooling=int(np.isfinite(found["evasion_score"]).sum()),
        improved=int((lowering.judged(more) < lowering.judged(known)).sum()),
        sr_at_5_fpr=(before[0], after[0]),
        auroc_worst=(before[1], after[1]),
        file=f"{digest(f'{cell.cell} {submission.sha256}'.encode())[:32]}.safetensors",
        file_sha256=digest(data),
        nfbench=version("nfbench"),
    )
    if one.improved:
        _write(folder, one, data)
    return one


def _write(folder: Path, one: Break, data: bytes) -> None:
    path = folder / breaks.FILE
    lines = path.read_bytes() if path.is_file() else b""
    line = json.dumps(one.model_dump(mode="json"), sort_keys=True, allow_nan=False)
    try:
        write_atomic(folder / breaks.FOLDER / one.file, data)
        write_atomic(path, lines + line.encode() + b"\n")
    except OSError as error:
        raise UsageError(f"can't write to {folder}: {error.strerror or error}") from None
