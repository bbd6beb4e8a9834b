"""`plan --power`: how many images and seeds it takes to tell two defenses apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nfbench.cli.console import grid, plain_console
from nfbench.core.errors import UsageError
from nfbench.report.board import balls_of, ladders
from nfbench.report.pooling import Case, grids
from nfbench.report.run import Run, read
from nfbench.runner.plan import Plan
from nfbench.stats.power import Components, assumed, detectable, images_needed, piloted

SEEDS = (1, 3, 5, 10, 20, 50)


def show_power(plan: Plan, difference: float, pilot: Path | None, *, as_json: bool) -> None:
    """Images needed by number of seeds, and what the plan at hand can tell apart.

    Raises:
        UsageError: for a difference that is none, or a pilot without two comparable rows.
    """
    if not 0 < difference <= 1:
        raise UsageError(f"--power {difference:g}: a difference of rates lies in (0, 1]")
    spread = assumed() if pilot is None else _learnt(pilot)
    rows = len({(cell.defense.name, cell.defender) for cell in plan.cells})
    pairs = max(1, rows * (rows - 1) // 2)
    limit, seeds = plan.spec.limit, len(plan.spec.seeds)
    needed = images_needed(difference, spread, seeds=sorted({*SEEDS, seeds}), pairs=pairs)
    least = detectable(limit, seeds, spread, pairs=pairs)
    if as_json:
        found = {"difference": difference, "pairs": pairs, "basis": spread.basis, "images": needed}
        found |= {"limit": limit, "seeds": seeds, "detectable": least}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    console = plain_console()
    console.print(f"To tell a difference of {difference:g} in SR@5 % apart, four times of five, among")
    among = "one pair" if pairs == 1 else f"{pairs} pairs"
    console.print(f"{among} of rows with at most 5 % false orders:")
    told = [[str(count), _images(n)] for count, n in needed.items()]
    header = ["seeds", "attacked images"]
    console.print(grid(header, told, names=header, width=console.width))
    console.print(f"This plan has {limit} images and {_seeds(seeds)}: {_least(least)}.")
    console.print(f"By {spread.basis}." + " Give --pilot RUN to measure it." * (pilot is None))
    if seeds == 1:
        console.print("One seed speaks of these trained detectors; a claim about methods needs five.")


def _learnt(pilot: Path) -> Components:
    """What made the worst cases of a run vary, under the attacker who knows most."""
    run = read(pilot)
    try:
        found = piloted(grids(_rows(run)))
    except ValueError as error:
        raise UsageError(f"--pilot {pilot}: {error}") from None
    if found.seeds + found.images + found.interaction == 0:
        raise UsageError(f"--pilot {pilot}: its rows lose the same images, so it has no spread to learn")
    return found


def _rows(run: Run) -> dict[str, list[dict[int, Case]]]:
    names = list(dict.fromkeys(cell.threat_model.name for cell in run.cells))
    name = "adaptive-whitebox" if "adaptive-whitebox" in names else names[-1]
    cells = [cell for cell in run.cells if cell.threat_model.name == name]
    return ladders(run, cells, balls_of(cells))


def _images(count: int | None) -> str:
    return "no number is enough" if count is None else f"{count}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _least(difference: float) -> str:
    return f"{difference:.3f} or more is told apart" if difference < 1 else "nothing can be told apart"
