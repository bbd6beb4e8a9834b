"""Judging images that others submitted, by a row's own classifier and detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nfbench.core.defense import Detector
from nfbench.core.errors import CorruptArtifact, VerificationMismatch
from nfbench.core.values import Budget
from nfbench.records import CellRecord
from nfbench.report.cells import threshold_at_5
from nfbench.report.run import Vectors, as_numpy
from nfbench.runner.measuring import measure
from nfbench.runner.plan import Plan
from nfbench.store import Store
from nfbench.trust.artifacts import gather, scratch, source
from nfbench.trust.breaks import FILE, FOLDER, JUDGED, kept, read_breaks
from nfbench.trust.comparing import FLIPPED, alike, spread
from nfbench.trust.images import require_allowed, taken
from nfbench.trust.means import Means, of_cells, planned
from nfbench.trust.opening import Target


def judge(opened: Target, cell: CellRecord, index: Tensor, images: Tensor, means: Means) -> Vectors:
    """What the row's victim makes of images: vectors over those that were sent.

    Args:
        opened: the results.
        cell: the row.
        index: positions in the dataset, (k,) int64.
        images: (k, C, H, W) float32.
        means: plugins, data and artifacts at hand.

    Raises:
        VerificationMismatch: for an image that the row does not attack, outside the ball or the box, and
            for artifacts that are not the row's.
        CorruptArtifact: for a row that `run.json` does not ask for.
    """
    plan = of_cells(planned(opened.run.info, means), [cell.cell])
    if not plan.cells:
        raise CorruptArtifact(f"{cell.cell} is not what run.json asks for")
    score = plan.cells[0].score
    assert score is not None
    shop, recipe = means.workshop(), plan.jobs[score].recipe
    vectors = opened.run.samples[cell.cell]
    strange = ~torch.isin(index, torch.from_numpy(vectors["index"]))
    if strange.any():
        raise VerificationMismatch(
            f"{cell.cell} does not attack image {int(index[strange][0])}: it is not among the test "
            "images that the classifier gets right"
        )
    detector = _detector(opened, plan, cell, means)
    clean = taken(shop.splits(recipe).test, index, shop)
    require_allowed("the submitted file", images, clean, Budget(cell.norm, cell.radius))
    found, _ = measure(detector, clean, [images.to(shop.device)], threshold=threshold_at_5(vectors))
    return as_numpy({name: found[name] for name in ("index", *JUDGED) if name in found})


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


def judge_again(opened: Target, means: Means) -> int:
    """Judge the images of every break anew, and compare with what is kept of them.

    What a break lowers follows from what is kept, and was compared when the results were opened.
    Predictions must be the same and scores agree to 1e-4, on all images of up to 99 and on 99 % of more.

    Returns:
        How many images these are.

    Raises:
        VerificationMismatch: for an image that the row does not attack, outside ball or box, and
            naming the first whose score or class is another.
    """
    cells, seen = {cell.cell: cell for cell in opened.run.cells}, 0
    for one in read_breaks(opened.folder):
        said, where = kept(opened.folder, one), f"{FOLDER}/{one.file} of {FILE}"
        index, images = (torch.from_numpy(np.array(said[name])) for name in ("index", "images"))
        try:
            found = judge(opened, cells[one.row], index, images, means)
        except VerificationMismatch as error:
            raise VerificationMismatch(f"{where}: {error}") from None
        if said.keys() != found.keys() | {"images"}:
            names = ", ".join(sorted(found.keys() ^ (said.keys() - {"images"})))
            raise VerificationMismatch(f"{where}: it has other vectors than it should have: {names}")
        wide = spread(opened.run.samples[one.row])
        for name, again in found.items():
            off = ~alike(said[name], again, wide, exact=False)
            if off.sum() > int(FLIPPED * len(off)):
                place = int(off.argmax())
                raise VerificationMismatch(
                    f"{where}: {name}[{place}] is {said[name][place]}, and {again[place]} here"
                )
        seen += len(index)
    return seen
