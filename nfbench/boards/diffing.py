"""What moved between two sets of results, and whether by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfbench.records import CellRecord
from nfbench.report.cells import threshold_at_5
from nfbench.report.metrics import Vector, evaded
from nfbench.report.run import Run, Vectors
from nfbench.stats.auroc import influence
from nfbench.stats.compare import holm

LEVEL = 0.05
"""Of all cells compared together, the chance of calling any difference real that is none."""


@dataclass(frozen=True)
class Change:
    """One number before and after."""

    before: float | None
    after: float | None
    p: float | None = None
    """Chance of as large a difference if there were none, over the images of both; None: not tested."""
    adjusted: float | None = None
    """The same after Holm's correction for the number of cells compared."""

    @property
    def size(self) -> float:
        """How far it moved; infinitely, where only one of the two is a number."""
        if self.before is None or self.after is None:
            return 0.0 if self.before == self.after else math.inf
        return abs(self.after - self.before)

    @property
    def significant(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL


@dataclass(frozen=True)
class Moved:
    """A cell of both, and its two numbers."""

    cell: str
    sr5: Change
    auroc: Change
    images: int
    """Those that both have attacked."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What is different between two sets of results."""

    appeared: tuple[str, ...]
    disappeared: tuple[str, ...]
    restated: tuple[tuple[str, str, str], ...]
    """Cells whose status is another: name, before, after."""
    moved: tuple[Moved, ...]
    """Cells with another number, largest change of SR@5 first."""
    same: int
    """Cells with the same numbers."""


def compare(before: Run, after: Run) -> Compared:
    """Compare two sets of results, cell by cell.

    SR@5: McNemar's exact test over the images that both have attacked, each under its own threshold;
    AUROC: the difference of the influences of these images (DeLong 1988, by image). Each is corrected
    by Holm over all cells compared.
    """
    old, new = ({cell.cell: cell for cell in run.cells} for run in (before, after))
    common = [name for name in old if name in new]
    both = [name for name in common if old[name].finished and new[name].finished]
    found = [
        _moved((old[name], new[name]), (before.samples.get(name), after.samples.get(name)))
        for name in both
    ]
    found = _adjusted(found)
    moved = [one for one in found if one.sr5.size or one.auroc.size]
    moved.sort(key=lambda one: (-one.sr5.size, -one.auroc.size, one.cell))
    return Compared(
        appeared=tuple(name for name in new if name not in old),
        disappeared=tuple(name for name in old if name not in new),
        restated=tuple(
            (name, old[name].status, new[name].status)
            for name in common
            if old[name].status != new[name].status
        ),
        moved=tuple(moved),
        same=len(found) - len(moved),
    )


def _moved(
    cells: tuple[CellRecord, CellRecord], vectors: tuple[Vectors | None, Vectors | None]
) -> Moved:
    """The numbers of a cell before and after, tested where the images are the same."""
    one, other = cells
    names = ("sr_at_5_fpr", "auroc_worst")
    sr5, auroc = (
        Change(*(c.metrics[n].value if n in c.metrics else None for c in cells)) for n in names
    )
    notes = []
    if one.defense.params != other.defense.params or one.attack.params != other.attack.params:
        notes.append("other hyperparameters")
    if one.dataset.get("sha256") != other.dataset.get("sha256"):
        return Moved(one.cell, sr5, auroc, 0, (*notes, "other data, so not tested"))
    if vectors[0] is None or vectors[1] is None:
        return Moved(one.cell, sr5, auroc, 0, (*notes, "without vectors, so not tested"))
    rows = _shared(vectors[0], vectors[1])
    if not len(rows[0]):
        return Moved(one.cell, sr5, auroc, 0, (*notes, "no image in common, so not tested"))
    pair = tuple(
        {name: v[name][own] for name in ("clean_score", "evasion_score")}
        | {"calibration_score": v["calibration_score"]}
        for v, own in zip((vectors[0], vectors[1]), rows, strict=True)
    )
    tested = (replace(sr5, p=mcnemar(*map(_evaded, pair))), replace(auroc, p=_auroc_p(*pair)))
    return Moved(one.cell, *tested, len(rows[0]), tuple(notes))


def _shared(one: Vectors, other: Vectors) -> tuple[Vector, Vector]:
    """Rows of either that hold the images of both, in one order."""
    first, second = (np.asarray(v["index"], dtype=np.int64) for v in (one, other))
    _, here, there = np.intersect1d(first, second, return_indices=True)
    return here, there


def _evaded(vectors: Vectors) -> Vector:
    tau = threshold_at_5(vectors)
    return evaded(-math.inf if math.isnan(tau) else tau, vectors["evasion_score"])


def mcnemar(one: Vector, other: Vector) -> float:
    """Two-sided exact p of McNemar's test (1947) for paired booleans, (n,) each; 1 if none differs."""
    gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
    n, fewer = gained + lost, min(gained, lost)
    tail = float(sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)
    return min(1.0, 2 * tail)


def _auroc_p(one: Vectors, other: Vectors) -> float:
    """Two-sided normal p of a difference of AUROCs, paired over images; 1 where nothing differs."""
    a, b = (influence(v["clean_score"], v["evasion_score"]) for v in (one, other))
    total = a.total - b.total
    n = len(total)
    variance = float((total**2).sum()) * n / (n - 1) if n > 1 else 0.0
    if variance == 0.0:  # every image says the same, as in a test of signs
        return 1.0 if a.value == b.value else math.ldexp(1.0, 1 - n)
    return math.erfc(abs(a.value - b.value) / math.sqrt(2 * variance))


def _adjusted(found: Sequence[Moved]) -> list[Moved]:
    """Each kind of p after Holm's correction over the cells that were tested."""
    changed = list(found)
    for kind in ("sr5", "auroc"):
        tested = [i for i, one in enumerate(found) if getattr(one, kind).p is not None]
        p = np.array([getattr(found[i], kind).p for i in tested], dtype=np.float64)
        for i, adjusted in zip(tested, holm(p) if len(p) else (), strict=True):
            change = replace(getattr(changed[i], kind), adjusted=float(adjusted))
            changed[i] = replace(changed[i], **{kind: change})
    return changed
