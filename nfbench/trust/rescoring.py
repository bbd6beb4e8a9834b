"""Computing results again: from stored images and detectors, or from nothing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfbench.collecting import collect
from nfbench.core.errors import ContractViolation, CorruptArtifact, NFBenchError, VerificationMismatch
from nfbench.reading import reason
from nfbench.records import CellRecord
from nfbench.report.run import Run
from nfbench.runner.driver import Driver
from nfbench.runner.environment import environment_of
from nfbench.runner.plan import Cell, Plan
from nfbench.runner.workshop import Workshop
from nfbench.store import Store
from nfbench.trust.artifacts import Read, gather
from nfbench.trust.comparing import (
    fail,
    require_equal,
    require_same_numbers,
    require_same_pictures,
    require_same_record,
    require_same_vectors,
    require_within_intervals,
    same_arithmetic,
    spared,
    spread,
)
from nfbench.trust.images import Inspection
from nfbench.trust.means import Means, of_cells
from nfbench.trust.near import require_near


@dataclass(frozen=True)
class Checked:
    """What a check rests on."""

    images: int
    """Adversarial images looked at."""
    exact: bool
    """Whether every number had to agree to the last bit."""


def rescore(run: Run, plan: Plan, read: Read, means: Means, home: Path, *, all_vectors: bool) -> Checked:
    """Look at the stored images of every finished cell, score them again, and compare.

    Calibration, scores, predictions, S* and all that follows are computed anew; classifiers, detectors
    and images are taken as they are.

    Args:
        run: the results.
        plan: what they should be of.
        read: where the artifacts come from.
        means: what the check may use.
        home: an empty directory.
        all_vectors: whether a cell must have every vector; boards keep only some.

    Raises:
        VerificationMismatch: naming the cell, the field and both values.
        CorruptArtifact: if an artifact is damaged.
        NFBenchError: if one is missing.
    """
    names = [cell.cell for cell in run.cells if cell.finished]
    mine, store, shop = of_cells(plan, names), Store(home), means.workshop()
    gather(mine, mine.cells, read, store)
    here = environment_of(shop.device)
    exact = all(same_arithmetic(cell.environment, here) for cell in run.cells if cell.finished)
    inspection = Inspection(mine, store, shop, exact)
    for cell in mine.cells:
        _look_at(inspection, cell)
    fresh = _execute(mine, store, shop, means)
    _require_same_info(run, fresh)
    if exact:
        require_same_pictures(run.images, fresh.images)
    minimises = {cell.name: cell.attack.recipe.minimises for cell in mine.cells}
    found = {cell.cell: cell for cell in fresh.cells}
    for said in run.cells:
        if not said.finished:
            continue
        bitwise = same_arithmetic(said.environment, here)
        vectors = run.samples[said.cell], fresh.samples[said.cell]
        spare = spared(exact=bitwise, minimises=minimises[said.cell])
        require_same_vectors(said.cell, *vectors, spare=spare, all_of_them=all_vectors)
        if bitwise:
            require_same_record(said, found[said.cell])
        else:
            wide = spread(fresh.samples[said.cell])
            require_near(said, found[said.cell], minimises=minimises[said.cell], spread=wide)
    return Checked(inspection.seen, exact)


def _require_same_info(run: Run, fresh: Run) -> None:
    """Refuse a `run.json` that tells of another run than its options amount to."""
    again = json.loads(json.dumps(dict(fresh.info)))
    for field in ("spec", "title", "summary"):
        require_equal("run.json", field, run.info.get(field), again[field])


def _look_at(inspection: Inspection, cell: Cell) -> None:
    """Inspect the images of a cell, whatever its artifacts may hold."""
    try:
        inspection.look_at(cell)
    except ContractViolation as error:
        raise VerificationMismatch(f"{cell.name}: {error}") from None
    except NFBenchError:
        raise
    except Exception as error:  # tensors of wrong shapes raise whatever they lead to
        raise CorruptArtifact(f"the artifacts of {cell.name} make no sense: {reason(error)}") from None


def sample(cells: Sequence[CellRecord], share: float, seed: int) -> list[str]:
    """Names of a random share of the finished cells, at least one of them."""
    names = sorted(cell.cell for cell in cells if cell.finished)
    count = min(len(names), max(1, math.ceil(share * len(names))))
    return sorted(random.Random(seed).sample(names, count))


def repeat(run: Run, plan: Plan, names: Collection[str], means: Means, home: Path) -> Checked:
    """Repeat cells from nothing, by the same recipes, and compare what comes out.

    To the last bit with the versions and the kind of processor that made them; elsewhere every number
    must lie in the interval that the record gives.

    Raises:
        VerificationMismatch: naming the cell, the metric and both values.
    """
    mine, shop = of_cells(plan, names), means.workshop()
    fresh = _execute(mine, Store(home), shop, means)
    found, here, exact = {cell.cell: cell for cell in fresh.cells}, environment_of(shop.device), True
    for said in run.cells:
        if said.cell not in names:
            continue
        if same_arithmetic(said.environment, here) and len(said.origins) <= 1:
            require_same_numbers(said, found[said.cell])
        else:
            exact = False
            require_within_intervals(said, found[said.cell])
    return Checked(0, exact)


def _execute(plan: Plan, store: Store, shop: Workshop, means: Means) -> Run:
    """Do what is missing.

    Raises:
        VerificationMismatch: naming the first cell that can't be computed.
    """
    environment = environment_of(shop.device)
    driver = Driver(plan, store, shop, means.progress, environment)
    outcome = driver.run()
    if outcome.interrupted:
        raise KeyboardInterrupt
    try:
        fresh = collect(plan, driver, environment)
    except Exception as error:  # what an archive says of its artifacts may be anything
        raise CorruptArtifact(f"the artifacts make no sense: {reason(error)}") from None
    for cell in fresh.cells:
        if not cell.finished:
            fail(cell.cell, "status", "done", f"{cell.status}: {cell.reason}")
    return fresh
