"""A sweep on the terminal: its points before it, its table after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nfbench.cli.console import grid, narrowest, plain_console, unframed_if_narrow
from nfbench.cli.main import command_line
from nfbench.cli.progress import Display
from nfbench.cli.stopping import stoppable
from nfbench.cli.table import style_of
from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.report.entries import number
from nfbench.session import Place
from nfbench.store import Store
from nfbench.sweeping.data import document
from nfbench.sweeping.drawing import draw
from nfbench.sweeping.rows import NOT_RUN, Column, Swept
from nfbench.sweeping.running import Planned, default_out, sweep
from nfbench.sweeping.unrolling import text_of
from nfbench.sweeping.writing import notes, titled, write

MANY = 8
"""Columns beyond which the terminal shows only worst cases."""
_Lines = list[list[Text]]


def sweep_and_show(
    what: Planned, place: Place, registry: Registry, *, as_json: bool, quiet: bool
) -> int:
    """Run a sweep, write its files, print its table and where they lie; the exit code."""
    console, said = plain_console(), plain_console(stderr=True)
    with stoppable(), place.crew or nullcontext(), Display(said, quiet=quiet) as display:
        swept = sweep(what, place, registry, display, command_line())
    out = place.out or default_out(what)
    page, *_ = write(swept, out)
    if as_json:
        sys.stdout.write(document(swept))
    else:
        show(swept, console)
    for line in [*_conclusion(swept), f"table: {page}", *_drawn(swept, out)]:
        said.print(line)
    return _exit_code(swept)


def _drawn(swept: Swept, out: Path) -> list[str]:
    """Draw the plot, and put it into the page; a line about each figure, or why there is none."""
    try:
        figures = draw(swept, out)
    except UsageError as error:
        return [f"no plot: {error}"]
    write(swept, out, figures)
    return [f"plot: {path}" for path in figures if path.suffix == ".svg"]


def _exit_code(swept: Swept) -> int:
    """0 if there is a result and no failure; 2 if nothing that was asked for can be done at all."""
    statuses = {result.status for result in swept.results}
    if swept.interrupted:
        return 130
    if "failed" in statuses:
        return 1
    return UsageError.exit_code if statuses == {"skipped"} else 0


def _conclusion(swept: Swept) -> Iterator[str]:
    """What came of it in a few lines."""
    total = len(swept.results)
    done = sum(result.status == "done" for result in swept.results)
    if swept.interrupted:
        yield f"interrupted: {done} of {total} points are done and kept; run again to go on"
    elif swept.ran == 0 and done == total:
        yield f"nothing to do: {done} of {total} points were done already"
    else:
        yield f"{done} of {total} points done; {swept.ran} jobs ran"
    for result in swept.results:
        if result.status != NOT_RUN:
            yield from (f"{swept.label(result)}: {reason}" for reason in result.reasons)


def show(swept: Swept, console: Console) -> None:
    """Print the table, coloured by SR@5 %, in as many parts as the terminal is too narrow for."""
    console.print(Text(titled(swept), style="italic"))
    columns = swept.columns
    worst = [column for column in columns if not column.attack]
    fewer = len(columns) > MANY and bool(worst)
    for part in _fitting(swept, worst if fewer else columns, console.width):
        console.print(part, soft_wrap=True)
    said = [f"{swept.statistic} / SR@5 %, the share misclassified and accepted"]
    said += ["only worst cases over attacks are shown here"] * fewer
    said += ["95 % intervals: sweep.md, sweep.csv and sweep.json of the sweep's directory"]
    for note in said + notes(swept):
        console.print(Text(note, style="dim"), soft_wrap=True)


def _fitting(swept: Swept, columns: Sequence[Column], width: int) -> Iterator[Table]:
    """Tables of as many columns as fit, all with what varies; one has a column at least."""
    facts, left = True, list(columns)
    while left or facts:
        count = len(left)
        table = _table(swept, left, facts=facts)
        while count > (not facts) and narrowest(table) > width:
            count -= 1
            table = _table(swept, left[:count], facts=facts)
        yield unframed_if_narrow(table, width)
        facts, left = False, left[count:]


def _table(swept: Swept, columns: Sequence[Column], *, facts: bool) -> Table:
    several = len(swept.defenses) > 1
    heads = [axis.label for axis in swept.axes] + ["defense"] * several
    heads += ["clean acc.", "false alarms"] * facts
    heads += [f"{column.threat_model}\n{column.title}" for column in columns]
    body: _Lines = []
    for result, row in swept.lines():
        line = [Text(text_of(result.values[axis.name])) for axis in swept.axes]
        line += [Text(row.defense)] * several
        line += [Text(number(one.value)) for one in (row.accuracy, row.alarms)] * facts
        entries = [swept.entry(result, row, column) for column in columns]
        body.append(line + [Text(entry.text, style=style_of(entry)) for entry in entries])
    table = Table()
    for place, head in enumerate(heads):
        widest = max(map(cell_len, [*head.split("\n"), *(line[place].plain for line in body)]))
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=widest)
    for line in body:
        table.add_row(*line)
    return table


def show_points(what: Planned, cache: Path, *, as_json: bool) -> None:
    """What a sweep would do, and how much of it is done already."""
    store, axes = Store(cache), what.unrolled.axes
    missing = {key for key in what.jobs if key not in store}
    points: list[dict[str, Any]] = [
        {
            "values": dict(point.values),
            "run": folder,
            "plan": plan.digest,
            "cells": len(plan.cells),
            "jobs": len(plan.jobs),
            "to_run": sum(key in missing for key in plan.jobs),
        }
        for point, plan, folder in zip(what.unrolled.points, what.plans, what.folders, strict=True)
    ]
    if as_json:
        total = {"jobs": len(what.jobs), "to_run": len(missing)}
        text = {"sweep": what.digest, "points": points, **total}
        sys.stdout.write(json.dumps(text, indent=1) + "\n")
        return
    console, counts = plain_console(), ("cells", "jobs", "to_run")
    header = [axis.label for axis in axes] + ["cells", "jobs", "to run"]
    rows = [
        [*(text_of(one["values"][axis.name]) for axis in axes), *(str(one[key]) for key in counts)]
        for one in points
    ]
    console.print(grid(header, rows, names=header, width=console.width))
    console.print(f"{len(what.jobs)} different jobs in all, {len(missing)} of them to run")
    for reason in dict.fromkeys(
        reason for point in what.unrolled.points for reason in point.spec.warnings
    ):
        console.print(f"warning {reason}")
    skipped = dict.fromkeys(
        (cell.name, cell.reason) for plan in what.plans for cell in plan.cells if cell.reason
    )
    for name, reason in skipped:
        console.print(f"skipped {name}: {reason}")
