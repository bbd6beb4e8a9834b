"""`run` and `report`: executing with a progress display, and saying what came of it."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext

from rich.console import Console

from nfbench.cli.console import plain_console
from nfbench.cli.main import command_line
from nfbench.cli.progress import Display
from nfbench.cli.rendering import as_text
from nfbench.cli.stopping import stoppable
from nfbench.cli.table import show
from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.report.run import Run
from nfbench.runner.options import Options
from nfbench.runner.sharding import ELSEWHERE
from nfbench.session import Finished, Place, execute


def run_and_show(
    options: Options, registry: Registry, place: Place, *, as_json: bool, quiet: bool
) -> int:
    """Run, print the table and where it lies; the exit code."""
    console, notes = plain_console(), plain_console(stderr=True)
    with stoppable() as stop, place.crew or nullcontext(), Display(notes, quiet=quiet) as display:
        finished = execute(options, place, registry, display, command_line())
    if as_json:
        sys.stdout.write(as_text(finished.run))
    else:
        show(finished.run, console, place.statistic)
    _conclude(finished, notes)
    if finished.outcome.interrupted:
        return stop.exit_code
    return _exit_code(finished.run)


def _exit_code(run: Run) -> int:
    """0 if there is a result and no failure; 2 if nothing that was asked for can be done at all."""
    statuses = {cell.status for cell in run.cells}
    if "failed" in statuses:
        return 1
    here = {cell.status for cell in run.cells if cell.reason != ELSEWHERE}
    return UsageError.exit_code if here == {"skipped"} else 0


def _conclude(finished: Finished, notes: Console) -> None:
    """What came of a run in a few lines; each reason once, however many cells it empties."""
    outcome, cells = finished.outcome, finished.run.cells
    done, suspicious = sum(cell.finished for cell in cells), sum(bool(cell.flags) for cell in cells)
    jobs = f"{outcome.ran} jobs ran, {outcome.reused} were reused"
    if outcome.interrupted:
        lines = [f"interrupted: {done} of {len(cells)} cells are done and kept; run again to go on"]
    elif all(cell.reason == ELSEWHERE for cell in cells):
        lines = [f"nothing to do: all {len(cells)} cells are other shards'"]
    elif all(cell.status == "skipped" for cell in cells):
        lines = [f"nothing can be done: all {len(cells)} cells are skipped"]
    elif outcome.ran == 0 and not outcome.failures:
        lines = [f"nothing to do: {done} of {len(cells)} cells were done already"]
    else:
        lines = [f"{done} of {len(cells)} cells done; {jobs}"]
    troubles = Counter((c.status, c.reason) for c in cells if not c.finished)
    lines += [f"{status} {count} cells: {reason}" for (status, reason), count in troubles.items()]
    if suspicious:
        lines.append(f"{suspicious} cells are flagged and not ranked; the leaderboard says why")
    if outcome.tracebacks:
        lines.append(f"tracebacks: {finished.out / 'failures.txt'}")
    lines.append(f"leaderboard: {finished.out / 'leaderboard.md'}")
    for line in lines:
        notes.print(line)
