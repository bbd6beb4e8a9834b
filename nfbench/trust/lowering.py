"""What breaks lower: worst cases, by a cell that stands for the images that were submitted."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact
from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report import metrics
from nfbench.report.cells import threshold_at_5
from nfbench.report.metrics import Vector
from nfbench.report.run import Run, Vectors
from nfbench.trust.breaks import FILE, Break, kept, read_breaks

ATTACK = "submitted"
"""Name of the attack in cells that stand for submitted images."""
ONLY_WORST = "of submitted images only the lowest score counts"
_OF_THE_VICTIM = ("clean_accuracy", "fpr_realised", "threshold_at", "fpr_on_", "latency")
"""How metrics begin that no attack changes."""
_OF_THE_VICTIM_VECTORS = ("index", "label", "clean_", "test_", "benign_", "calibration_")
"""How vectors begin that no attack changes."""
_SCORES = ("evasion_score", "evasion_score_8bit", "expected_score")


def apply_breaks(run: Run, folder: Path) -> Run:
    """`run` with a cell for what was submitted against each victim, in each ball that holds it.

    The attack of these cells is called `submitted`. Their S* is that of the submitted images, infinite
    for all others, so a worst case with them is never above the one without. What lies in a ball lies
    in the larger ones, too. Their `notes` tell the history, a line a submission.

    Raises:
        CorruptArtifact: if what is kept of a break is damaged, was changed, or belongs to other results.
    """
    added: dict[str, CellRecord] = {}
    samples = dict(run.samples)
    rows = {cell.cell: cell for cell in run.cells if cell.finished}
    for one in read_breaks(folder):
        if one.row not in rows:
            raise CorruptArtifact(f"{folder / FILE}: {one.row} is no finished cell of these results")
        found = kept(folder, one)
        for ball in {cell.eps: cell for cell in around(run, rows[one.row])}.values():
            name = _name(ball)
            before = samples.get(name, nothing(samples[ball.cell]))
            samples[name] = merged(before, found, one.row)
            added[name] = _told(added.get(name, _record(ball, name)), samples[name], one)
    return replace(run, cells=[*run.cells, *added.values()], samples=samples)


def around(run: Run, row: CellRecord) -> list[CellRecord]:
    """The finished cells of the same victim and threat model whose ball holds that of `row`."""
    same = [cell for cell in run.cells if cell.finished and _victim(cell) == _victim(row)]
    return [cell for cell in same if _radius(cell) >= _radius(row)]


def rates(vectors: Vectors, evasion: Vector) -> tuple[float | None, float]:
    """SR@5 and AUROC of a vector of S*."""
    tau = threshold_at_5(vectors)
    rate = None if math.isnan(tau) else metrics.success_rate_at(tau, evasion)
    return rate, metrics.auroc(vectors["clean_score"], evasion)


def judged(cells: Sequence[Vectors]) -> Vector:
    """What the best of several points of each image is chosen by, at its lowest. (B,)

    S*, or the mean over draws where a detector draws at random.
    """
    lowest: Vector = np.stack([cell.get("expected_score", cell["evasion_score"]) for cell in cells]).min(
        0
    )
    return lowest


def nothing(vectors: Vectors) -> Vectors:
    """Vectors of a cell in which no image was ever misclassified."""
    clean = {name: v for name, v in vectors.items() if name.startswith(_OF_THE_VICTIM_VECTORS)}
    never = np.full(len(vectors["index"]), np.inf, dtype=np.float32)
    return clean | {name: never for name in _SCORES if name in vectors}


def merged(vectors: Vectors, found: Vectors, row: str) -> Vectors:
    """Vectors of a cell of submitted images once those of `found` are there: image by image the best.

    Raises:
        CorruptArtifact: for an image that `row` does not attack.
    """
    order = np.argsort(vectors["index"])
    if not np.isin(found["index"], vectors["index"]).all():
        raise CorruptArtifact(f"a break of {row} has images that the row does not attack")
    rows = order[np.searchsorted(vectors["index"][order], found["index"])]
    better = judged([found]) < judged([vectors])[rows]
    best = dict(vectors)
    for name in _SCORES:
        if name in vectors and name in found:
            best[name] = vectors[name].copy()
            best[name][rows[better]] = found[name][better]
    return best


def _told(record: CellRecord, vectors: Vectors, one: Break) -> CellRecord:
    """The record of a cell of submitted images, with one more submission."""
    sr5, auroc = rates(vectors, vectors["evasion_score"])
    found = {**record.metrics, "sr_at_5_fpr": Value(value=sr5), "auroc_worst": Value(value=auroc)}
    return record.model_copy(update={"metrics": found, "notes": [*record.notes, one.note]})


def _record(ball: CellRecord, name: str) -> CellRecord:
    """A cell for what is submitted in the ball of another cell."""
    unknown = Value(value=None, flag=ONLY_WORST)
    known = {k: v if k.startswith(_OF_THE_VICTIM) else unknown for k, v in ball.metrics.items()}
    changes: dict[str, Any] = {
        "cell": name,
        "attack": PluginRecord(name=ATTACK, params={}, plugin="", version=""),
        "follows_gradient": False,
        "status": "done",
        "reason": "",
        "metrics": known,
    }
    changes |= {key: [] for key in ("objectives", "flags", "notes", "stages", "origins", "inputs")}
    changes |= {key: {} for key in ("timing", "cost", "winners", "health", "environment")}
    return ball.model_copy(update=changes)


def _victim(cell: CellRecord) -> Hashable:
    taught = cell.attack.name if cell.defender == "whitebox-defense" else ""
    return cell.row, taught, cell.seed, cell.norm, cell.threat_model.name


def _name(ball: CellRecord) -> str:
    """Of the cell that stands for what is submitted in a ball."""
    taught = f"-{ball.attack.name}" * (ball.defender == "whitebox-defense")
    size = "unbounded" if ball.eps is None else f"{ball.eps:.6g}"
    parts = [ball.defense.name, ball.defender, ATTACK + taught, ball.threat_model.name]
    return "--".join(part for part in (*parts, f"{ball.norm}-{size}", f"seed{ball.seed}") if part)


def _radius(cell: CellRecord) -> float:
    return math.inf if cell.eps is None else cell.eps
