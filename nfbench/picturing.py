"""Which images of a run are worth looking at: of each worst case a few, before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nfbench.core.errors import CorruptArtifact
from nfbench.records import CellRecord
from nfbench.report.cells import budget, threshold_at_5
from nfbench.report.metrics import Vector, evaded
from nfbench.report.run import Run, Vectors
from nfbench.runner.driver import Driver
from nfbench.runner.plan import Cell, Plan

EACH = 6
"""Images of a cell: those with the lowest S* among the broken, and the last ones among the others."""
SIZE = 224 * 224 * 3
"""Values of an image above which none is kept."""


def pictures(run: Run, plan: Plan, driver: Driver) -> dict[str, dict[str, Vector]]:
    """For each row, threat model and budget, of the attack that broke most: images, clean and attacked.

    Of the first seed. What can't be read any more is left out; nothing is computed for it.
    """
    if not run.samples or np.prod(plan.spec.facts.shape) > SIZE:
        return {}
    cells = {cell.name: cell for cell in plan.cells}
    found = {}
    for record in _worst(run):
        try:
            found[record.cell] = _of(cells[record.cell], run.samples[record.cell], plan, driver)
        except CorruptArtifact:
            continue
    return found


def _worst(run: Run) -> list[CellRecord]:
    """Of each row, threat model and budget the cell of highest SR@5 % of the first seed."""
    best: dict[tuple[str, str, str], CellRecord] = {}
    for cell in (c for c in run.cells if c.finished):
        place = (cell.row, cell.threat_model.name, budget(cell))
        known = best.get(place)
        if known is None or (cell.seed == known.seed and _rate(cell) > _rate(known)):
            best[place] = cell
    return list(best.values())


def _rate(cell: CellRecord) -> float:
    return cell.metrics["sr_at_5_fpr"].value or 0.0


def _of(cell: Cell, vectors: Vectors, plan: Plan, driver: Driver) -> dict[str, Vector]:
    """Images of one cell; of an image that was never misclassified what the first objective left."""
    chosen = _chosen(vectors)
    crafted = [driver.read(key).tensors for key in cell.crafts]
    index = torch.from_numpy(np.ascontiguousarray(vectors["index"][chosen]))
    winner = np.maximum(vectors["winner"][chosen], 0).tolist()
    adversarial = [
        crafted[w]["images"][crafted[w]["index"] == i][0] for w, i in zip(winner, index, strict=True)
    ]
    test = driver.shop.splits(plan.jobs[cell.crafts[0]].recipe).test
    where = [int((test.index == i).nonzero()[0, 0]) for i in index]
    return {
        "index": index.numpy(),
        "clean": test.x[where].cpu().numpy(),
        "adversarial": torch.stack(adversarial).cpu().numpy(),
    }


def _chosen(vectors: Vectors) -> Sequence[int]:
    """Positions: the most broken ones first, with at least a third of the room for what held."""
    lowest = vectors["evasion_score"].astype(np.float64)
    broken = evaded(threshold_at_5(vectors), lowest)
    order = np.argsort(lowest, kind="stable")
    lost, held = order[broken[order]], order[~broken[order]]
    kept = held[: max(EACH // 3, EACH - len(lost))]
    return [*lost[: EACH - len(kept)].tolist(), *kept.tolist()]
