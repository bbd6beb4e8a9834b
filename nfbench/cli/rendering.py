"""`report`: everything a run directory renders to, from its files alone; needs no torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from nfbench.cli.console import plain_console
from nfbench.cli.table import show
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report import leaderboard
from nfbench.report.evidence import Evidence
from nfbench.report.run import Run, read
from nfbench.report.told import require_same_images, require_told
from nfbench.store import write_atomic

Kind = Literal["svg", "pdf"]


def render_again(
    run_dir: Path, statistic: str, *, figures: Kind | None, latex: bool, as_json: bool
) -> None:
    """Render a run directory again: tables, the page, and whatever else is asked for.

    Raises:
        UsageError: for an unknown statistic, a board's folder, or a directory that can't be written.
        CorruptArtifact: if the directory lacks what the tables are made of.
    """
    leaderboard.require_statistic(statistic)
    run, evidence = _opened(run_dir)
    try:
        if not as_json:
            show(run, plain_console(), statistic)
        written = pages(run, run_dir, statistic, evidence)
        if latex:
            from nfbench.report.latex import latex as tables

            written.append(_written(run_dir / "leaderboard.tex", tables(run, statistic)))
        if figures is not None:
            from nfbench.report.figures import write

            written.append(
                f"{len(write(run, run_dir / 'figures', figures))} figures in {run_dir / 'figures'}"
            )
    except KeyError as error:
        raise CorruptArtifact(
            f"{run_dir} is damaged ({error} is missing): run its command again"
        ) from None
    except OSError as error:
        raise UsageError(f"can't write to {run_dir}: {error.strerror or error}") from None
    if as_json:
        sys.stdout.write(as_text(run))
        return
    for line in written:
        plain_console(stderr=True).print(line)


def _opened(run_dir: Path) -> tuple[Run, Evidence]:
    """What a run directory holds, with the worst cases lowered by what was submitted against them."""
    from nfbench.boards.evidence import broken_down, evidence_of

    if not (run_dir / "results.jsonl").is_file() and (run_dir / "results.jsonl.gz").is_file():
        name = run_dir.resolve().name
        raise UsageError(f"{run_dir} is a board's folder: nfbench leaderboard build {name}")
    run = read(run_dir)
    require_told(run, str(run_dir))
    require_same_images(run, str(run_dir))
    return broken_down(run, run_dir), evidence_of(run_dir, run)


def pages(run: Run, folder: Path, statistic: str, evidence: Evidence) -> list[str]:
    """Write `leaderboard.md` and `report.html`; a line about each."""
    from nfbench.report.page import render

    return [
        _written(folder / "leaderboard.md", leaderboard.markdown(run, statistic, evidence)),
        _written(folder / "report.html", render(run, statistic=statistic, evidence=evidence)),
    ]


def _written(path: Path, text: str) -> str:
    write_atomic(path, text.encode())
    return f"{path.stem}: {path}"


def as_text(run: Run) -> str:
    """A run as one JSON document."""
    cells = [json.loads(cell.model_dump_json()) for cell in run.cells]
    return json.dumps({"run": dict(run.info), "cells": cells}, indent=1) + "\n"
