"""What breaks lower: worst cases, by a cell that stands for the images that were submitted."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact, VerificationMismatch
from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report.cells import lowest, threshold_at_5
from nfbench.report.metrics import Vector
from nfbench.report.operating import success
from nfbench.report.run import Run, Vectors
from nfbench.report.values import auroc
from nfbench.report.worst import SUBMITTED
from nfbench.trust.breaks import FILE, SCORES, Break, kept, read_breaks

ONLY_WORST = "of submitted images only the lowest score counts"
CLOSE = 1e-9
"""How far the rates of a break may be off those of the vectors; text keeps every digit."""
_OF_THE_VICTIM = ("clean_accuracy", "fpr_realised", "threshold_at", "fpr_on_", "latency")
"""How metrics begin that no attack changes."""
_ATTACK_SIZED = "attack_sized_noise"
"""What is in the names of metrics that an attack changes all the same."""
_OF_THE_VICTIM_VECTORS = ("index", "label", "clean_", "test_", "benign_", "calibration_")
"""How vectors begin that no attack changes."""


def apply_breaks(run: Run, folder: Path) -> Run:
    """`run` with a cell for what was submitted against each victim, in each ball that holds it.

    The attack of these cells is called `submitted`. Their S* is that of the submitted images, infinite
    for all others, so a worst case with them is never above the one without. What lies in a ball lies
    in the larger ones, too. Their `notes` tell the history, a line a submission.

    Raises:
        CorruptArtifact: if what is kept of a break is damaged, was changed, or belongs to other results.
        VerificationMismatch: if a break says that it lowered the worst case by more or less than it did.
    """
    added: dict[str, CellRecord] = {}
    samples = dict(run.samples)
    rows = {cell.cell: cell for cell in run.cells if cell.finished and cell.asks_victim}
    for number, one in enumerate(read_breaks(folder), 1):
        where = f"{folder / FILE}, line {number}"
        if one.row not in rows:
            raise CorruptArtifact(
                f"{where}: {one.row[:250]!r} is no finished cell of these results whose attacker asks "
                "the victim"
            )
        found = kept(folder, one)
        so_far = replace(run, cells=[*run.cells, *added.values()], samples=samples)
        _require_true(where, one, weighed(so_far, rows[one.row], found))
        for ball in {cell.eps: cell for cell in around(run, rows[one.row])}.values():
            name = _name(ball)
            before = samples.get(name, nothing(samples[ball.cell]))
            samples[name] = merged(before, found, one.row)
            added[name] = _told(added.get(name, _record(ball, name)), samples[name], one)
    return replace(run, cells=[*run.cells, *added.values()], samples=samples)


def weighed(run: Run, row: CellRecord, found: Vectors) -> dict[str, Any]:
    """What images do to the worst case of a row in `run`: the fields of a `Break` that say so.

    Raises:
        CorruptArtifact: for an image that `row` does not attack.
    """
    vectors = run.samples[row.cell]
    names = {cell.cell: None for cell in around(run, row) if cell.eps == row.eps} | {_name(row): None}
    known = [run.samples[name] for name in names if name in run.samples]
    more = [*known, merged(nothing(vectors), found, row.cell)]
    rates = [of_worst(vectors, lowest(cells), aims=True) for cells in (known, more)]
    return {
        "images": len(found["index"]),
        "fooling": int(np.isfinite(found["evasion_score"]).sum()),
        "improved": int((judged(more) < judged(known)).sum()),
        **{name: (rates[0][name].value, rates[1][name].value) for name in rates[0]},
    }


def _require_true(where: str, one: Break, found: Mapping[str, Any]) -> None:
    """Refuse a break that says of itself what does not follow from its vectors."""
    said = one.model_dump()
    for name, value in found.items():
        told, here = (x if isinstance(x, tuple) else (x,) for x in (said[name], value))
        for before, after in zip(told, here, strict=True):
            if (before is None) != (after is None) or abs((before or 0) - (after or 0)) > CLOSE:
                raise VerificationMismatch(
                    f"{where}: {name} is {said[name]}, and {value} by its images and these results: "
                    f"if the results are new, remove {FILE} and submit the images again"
                )


def around(run: Run, row: CellRecord) -> list[CellRecord]:
    """The finished cells of the same victim and threat model whose ball holds that of `row`."""
    same = [cell for cell in run.cells if cell.finished and _victim(cell) == _victim(row)]
    return [cell for cell in same if cell.radius >= row.radius]


def of_worst(vectors: Vectors, evasion: Vector, *, aims: bool) -> dict[str, Value]:
    """AUROC and SR@5 of a vector of S*, with their intervals.

    Args:
        vectors: of a cell of the same victim.
        evasion: S* of each image, (B,).
        aims: whether it was aimed at the threshold, so that the threshold's error is none of SR@5.
    """
    sr5 = Value(value=None, flag="no threshold")
    if not math.isnan(threshold_at_5(vectors)):
        sr5 = success(evasion, vectors["calibration_score"], 0.05, follows=aims)
    return {"auroc_worst": auroc(vectors["clean_score"], evasion), "sr_at_5_fpr": sr5}


def judged(cells: Sequence[Vectors]) -> Vector:
    """What the best of several points of each image is chosen by, at its lowest. (B,)

    S*, or the mean over draws where a detector draws at random.
    """
    scores = [cell.get("expected_score", cell["evasion_score"]) for cell in cells]
    lowest_: Vector = np.stack(scores).min(0)
    return lowest_


def nothing(vectors: Vectors) -> Vectors:
    """Vectors of a cell in which no image was ever misclassified."""
    clean = {name: v for name, v in vectors.items() if name.startswith(_OF_THE_VICTIM_VECTORS)}
    never = np.full(len(vectors["index"]), np.inf, dtype=np.float32)
    return clean | {name: never for name in SCORES if name in vectors}


def merged(vectors: Vectors, found: Vectors, row: str) -> Vectors:
    """Vectors of a cell of submitted images once those of `found` are there: image by image the best.

    Raises:
        CorruptArtifact: for an image that `row` does not attack, and if they are of another detector.
    """
    if ("expected_score" in vectors) != ("expected_score" in found):
        raise CorruptArtifact(f"a break of {row} is not of its detector: one draws at random")
    order = np.argsort(vectors["index"])
    if not np.isin(found["index"], vectors["index"]).all():
        raise CorruptArtifact(f"a break of {row} has images that the row does not attack")
    rows = order[np.searchsorted(vectors["index"][order], found["index"])]
    better = judged([found]) < judged([vectors])[rows]
    best = dict(vectors)
    for name in SCORES:
        if name in vectors and name in found:
            best[name] = vectors[name].copy()
            best[name][rows[better]] = found[name][better]
    return best


def _told(record: CellRecord, vectors: Vectors, one: Break) -> CellRecord:
    """The record of a cell of submitted images, with one more submission."""
    found = record.metrics | of_worst(vectors, vectors["evasion_score"], aims=True)
    return record.model_copy(update={"metrics": found, "notes": [*record.notes, one.note]})


def _record(ball: CellRecord, name: str) -> CellRecord:
    """A cell for what is submitted in the ball of another cell."""
    unknown = Value(value=None, flag=ONLY_WORST)
    known = {k: v if of_the_victim(k) else unknown for k, v in ball.metrics.items()}
    changes: dict[str, Any] = {
        "cell": name,
        "attack": PluginRecord(name=SUBMITTED, params={}, plugin="", version=""),
        "aims_at_threshold": True,
        "follows_gradient": False,
        "status": "done",
        "reason": "",
        "metrics": known,
    }
    changes |= {key: [] for key in ("objectives", "flags", "notes", "stages", "origins", "inputs")}
    changes |= {key: {} for key in ("timing", "cost", "winners", "health", "environment")}
    return ball.model_copy(update=changes)


def of_the_victim(metric: str) -> bool:
    """Whether no attack changes a metric."""
    return metric.startswith(_OF_THE_VICTIM) and _ATTACK_SIZED not in metric


def _victim(cell: CellRecord) -> Hashable:
    return *cell.victim, cell.threat_model.name


def _name(ball: CellRecord) -> str:
    """Of the cell that stands for what is submitted in a ball."""
    taught = f"-{ball.attack.name}" * (ball.defender == "whitebox-defense")
    size = "unbounded" if ball.eps is None else f"{ball.eps:.6g}"
    parts = [ball.defense.name, ball.defender, SUBMITTED + taught, ball.threat_model.name]
    return "--".join(part for part in (*parts, f"{ball.norm}-{size}", f"seed{ball.seed}") if part)
