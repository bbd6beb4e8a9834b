"""A run on the terminal: for each defense one line an attack and one column a threat model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from nfbench.cli.console import narrowest, unframed_if_narrow
from nfbench.records import MARK
from nfbench.report.board import UNDEFENDED, Entry
from nfbench.report.board import Table as Board
from nfbench.report.entries import CLIMBING
from nfbench.report.leaderboard import FLAGGED, LATER, footnotes
from nfbench.report.run import Run
from nfbench.report.settled import settled

_Line = tuple[str, list[Text]]
"""An attack, and its numbers under each threat model and without the defense."""


def show(run: Run, console: Console, statistic: str = "auroc_worst") -> None:
    """Print the tables of a run, coloured by SR@5 %."""
    found = settled(run, statistic)
    heads = [*(one.threat_model for one in found), "no defense"]
    for defense in dict.fromkeys(n for table in found for n in table.rows if n != UNDEFENDED):
        accuracy, alarms = next(t.facts[defense] for t in found if defense in t.facts)
        title = f"{defense}: clean accuracy {accuracy}, false alarms {alarms}"
        console.print(Text(title, style="italic"), soft_wrap=True)
        lines = [_line(found, defense, c) for c in dict.fromkeys(c for t in found for c in t.columns)]
        console.print(_fitting(heads, lines, console.width), soft_wrap=True)
    notes = [f"{statistic} / SR@5 %, the share misclassified and accepted"]
    notes += ["no defense: the share misclassified without it, by the same attack"]
    notes += ["95 % intervals and ranks: leaderboard.md and report.html of the run directory"]
    entries = [entry for t in found for row in t.rows.values() for entry in row]
    if any(entry.bound and entry.auroc is not None for entry in entries):
        notes += ["≤: an upper bound, since the attack stops early"]
    if any(entry.climbing for entry in entries):
        notes += [f"{CLIMBING}: {LATER}"]
    if any(entry.flagged for entry in entries):
        notes += [f"{MARK}: {FLAGGED}"]
    if any(entry.turned is not None for entry in entries):
        notes += ["(in brackets): with the sign of the score chosen on the test images"]
    for note in notes + footnotes(run):
        console.print(Text(note, style="dim"), soft_wrap=True)


def _line(found: Sequence[Board], defense: str, column: str) -> _Line:
    cells = [_cell(one.rows, defense, list(one.columns), column) for one in found]
    alone = next(one for one in found if column in one.columns)
    error = alone.rows[UNDEFENDED][list(alone.columns).index(column)].sr5
    return column, [*cells, Text("–" if error is None else f"{error:.3f}", style="dim")]


def _fitting(heads: Sequence[str], lines: Sequence[_Line], width: int) -> Table:
    """One line an attack where that fits into `width`, else one line a number."""
    wide = _whole(["attack", *heads], [[Text(attack), *cells] for attack, cells in lines])
    if narrowest(wide) <= width:
        return wide
    each = [
        (attack, head, cell) for attack, cells in lines for head, cell in zip(heads, cells, strict=True)
    ]
    long = _whole(["attack", "against", ""], [[Text(a), Text(h), cell] for a, h, cell in each])
    return unframed_if_narrow(long, width)


def _whole(heads: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    """A table of which nothing is folded or cut."""
    table = Table()
    for place, head in enumerate(heads):
        width = max([cell_len(head), *(row[place].cell_len for row in rows)])
        justify: JustifyMethod = "right" if place else "left"
        table.add_column(Text(head), justify=justify, no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row, style="bold" if row[0].plain.startswith("worst") else "")
    return table


def _cell(rows: dict[str, list[Entry]], defense: str, columns: list[str], column: str) -> Text:
    if defense not in rows or column not in columns:
        return Text("–", style="dim")
    entry = rows[defense][columns.index(column)]
    return Text(entry.text, style=style_of(entry))


def style_of(entry: Entry) -> str:
    """The colour of an entry, by SR@5 %."""
    if entry.rank is None:
        return "yellow"
    return "green" if entry.rank < 0.1 else "red" if entry.rank > 0.5 else "yellow"
