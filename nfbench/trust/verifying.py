"""Verifying results: are they well-formed, do the images give them, can they be repeated."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date as calendar
from importlib.metadata import version
from pathlib import Path

from nfbench.core.errors import CorruptArtifact, UsageError, VerificationMismatch
from nfbench.records import INTERRUPTED
from nfbench.runner.plan import Plan
from nfbench.trust.artifacts import Missing, scratch, source
from nfbench.trust.judging import judge_again
from nfbench.trust.means import Means, planned
from nfbench.trust.opening import Target, open_target
from nfbench.trust.rescoring import repeat, rescore, sample
from nfbench.trust.verification import Verification, outranked, write_verification

ELSEWHERE = (
    "made with other versions or on another kind of processor: scores agree to 1e-4 on all but 1 % of "
    "the images, 10 % where an attack minimises, and metrics within three times that"
)


@dataclass(frozen=True)
class Rerun:
    """Which share of the cells to repeat from nothing."""

    share: float
    seed: int | None = None
    """Chooses them; drawn if None, so that nobody knows beforehand which ones it will be."""


def verify(
    target: Path,
    means: Means,
    *,
    rerun: Rerun | None = None,
    date: str = "",
    write: bool = True,
) -> Verification:
    """Check results as far as the means go, and say so beside them in `verification.json`.

    Well-formed results whose metrics follow from their vectors are `self-reported`. With the artifacts,
    in the archive or in a cache, every finished cell and every break is scored again: `re-scored`. With
    `rerun` a share of the cells is repeated from nothing as well: `re-run`. What says more of the same
    results is not replaced.

    Args:
        target: a run directory, a board's results folder, or an archive that `submit` made.
        means: plugins, data and artifacts at hand.
        rerun: what to repeat.
        date: day of the check, as in 2026-11-21, for the record.
        write: whether to leave the outcome beside the results.

    Raises:
        VerificationMismatch: naming the cell, the field and both values, or the file that was changed.
        CorruptArtifact: for what is damaged.
        UsageError: for what can't be checked as asked: no artifacts to re-run by, code that may not run.
    """
    _require_sensible(rerun, date)
    with scratch() as folder:
        home = Path(folder)
        opened = open_target(target, home / "archive", means.archive)
        outcome = _outcome(opened, means, home, rerun)
    found = outcome.model_copy(update={"date": date, "nfbench": version("nfbench")})
    if write and (known := outranked(opened.verification, found)):
        note = f"{opened.verification} says more of the same results, {known.level}: it stays"
        return found.model_copy(update={"notes": [*found.notes, note]})
    if write:
        write_verification(opened.verification, found)
    return found


def _require_sensible(rerun: Rerun | None, date: str) -> None:
    if rerun is not None and not 0 < rerun.share <= 1:
        raise UsageError(f"--rerun {rerun.share:g}: expected a share above 0, and 1 at most")
    if date:
        require_day(date)


def require_day(date: str) -> None:
    """Refuse what is no day.

    Raises:
        UsageError: for anything but YYYY-MM-DD.
    """
    try:
        plain = calendar.fromisoformat(date).isoformat() == date
    except ValueError:
        plain = False
    if not plain:
        raise UsageError(f"--date {date[:40]}: expected a day such as 2026-11-21")


def _outcome(opened: Target, means: Means, home: Path, rerun: Rerun | None) -> Verification:
    run = opened.run
    finished = sum(cell.finished for cell in run.cells)
    counted = {"cells": len(run.cells), "finished": finished}
    said = Verification.model_validate({**opened.digests, **counted})
    if not finished:
        return said.model_copy(update={"notes": ["no cell has numbers: nothing to re-score"]})
    try:
        plan = planned(run.info, means)
        _require_same_cells(opened, plan)
        read = source(means, opened.artifacts)
        folder = home / "store"
        checked = rescore(run, plan, read, means, folder, all_vectors=not opened.compact)
        images = checked.images + judge_again(opened, means)
    except Missing as error:
        if opened.artifacts is not None:
            raise CorruptArtifact(str(error)) from None
        if rerun is not None:
            raise
        return said.model_copy(update={"notes": [f"not re-scored: {error}"]})
    notes = [] if checked.exact else [ELSEWHERE]
    found = {"level": "re-scored", "images": images, "exact": checked.exact, "notes": notes}
    if rerun is not None:
        seed = secrets.randbelow(2**31) if rerun.seed is None else rerun.seed
        names = sample(run.cells, rerun.share, seed)
        again = repeat(run, plan, names, means, home / "again")
        found |= {"level": "re-run", "rerun": names, "exact": checked.exact and again.exact}
        found |= {"rerun_share": rerun.share, "rerun_seed": seed}
    return said.model_copy(update=found)


def _require_same_cells(opened: Target, plan: Plan) -> None:
    """Refuse results that have other cells than were asked for, or leave out what can be run."""
    said, asked = [c.cell for c in opened.run.cells], [c.name for c in plan.cells]
    for name in asked:
        if name not in said:
            raise VerificationMismatch(f"{name} was asked for and is not in results.jsonl")
    for name in said:
        if name not in asked:
            raise VerificationMismatch(f"{name} is in results.jsonl and was not asked for")
    runnable = {c.name for c in plan.cells if c.score is not None}
    for cell in opened.run.cells:
        if cell.finished and cell.cell not in runnable:
            raise VerificationMismatch(f"{cell.cell} has numbers, and can't be run")
        if cell.status == "skipped" and cell.reason != INTERRUPTED and cell.cell in runnable:
            raise VerificationMismatch(
                f"{cell.cell}: reason is {cell.reason!r:.120} in the results, and it can be run here"
            )
