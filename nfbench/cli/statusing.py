"""`status`: how far a run in another shell is."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli import flags
from nfbench.cli.console import plain_console
from nfbench.core.errors import UsageError


def status(
    run: Annotated[Path, typer.Argument(help="A run directory, such as runs/digits-….")],
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Say how far a run is: what it is at, what is done, and whether it is still alive.

    nfbench status runs/digits
    """
    from nfbench.report.run import read
    from nfbench.runner.status import read_status

    if not run.is_dir():
        raise UsageError(f"{run} is no directory; give that of a run, as its --out")
    told = read_status(run)
    if as_json:
        sys.stdout.write(json.dumps(dict(told), indent=1) + "\n")
        return
    console = plain_console()
    if not told:
        cells = read(run).cells
        done = sum(cell.finished for cell in cells)
        console.print(f"over: {done} of {len(cells)} cells are done; nfbench report {run}")
        return
    silent = time.time() - told["written"]
    if told["alive"] is False:
        console.print("stopped without a word: its process is gone; run the same command again to go on")
    elif silent > 120:
        console.print(f"nothing was heard of it for {_said(silent)}")
    for job in told["running"]:
        since = _said(time.time() - job["since"])
        console.print(f"{job['share']:4.0%} {job['label']} ({since})", highlight=False, markup=False)
    failed = f", {told['failed']} failed" if told["failed"] else ""
    age = _said(time.time() - told["began"])
    console.print(f"{told['done']} of {told['jobs']} jobs done{failed}, begun {age} ago")


def _said(seconds: float) -> str:
    """A duration as people say it."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
