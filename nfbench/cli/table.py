"""A run on the terminal: for each defense one line an attack and one column a threat model."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nfbench.report.leaderboard import UNDEFENDED, Entry, tables
from nfbench.report.run import Run


def show(run: Run, console: Console, statistic: str = "auroc_worst") -> None:
    """Print the tables of a run, coloured by SR@5 %."""
    found = tables(run, statistic)
    for defense in dict.fromkeys(n for table in found for n in table.rows if n != UNDEFENDED):
        accuracy, alarms = next(t.facts[defense] for t in found if defense in t.facts)
        table = Table(
            title=f"{defense}: clean accuracy {accuracy}, false alarms {alarms}",
            title_justify="left",
        )
        table.add_column("attack")
        for one in found:
            table.add_column(one.threat_model, justify="right")
        table.add_column("no defense", justify="right")
        for column in dict.fromkeys(c for one in found for c in one.columns):
            cells = [_cell(one.rows, defense, list(one.columns), column) for one in found]
            alone = next(one for one in found if column in one.columns)
            error = alone.rows[UNDEFENDED][list(alone.columns).index(column)].sr5
            cells.append(Text("–" if error is None else f"{error:.3f}", style="dim"))
            table.add_row(column, *cells, style="bold" if column.startswith("worst") else "")
        console.print(table)
    console.print(f"{statistic} / SR@5 %, the share misclassified and accepted", style="dim")
    console.print("no defense: the share misclassified without it, by the same attack", style="dim")


def _cell(rows: dict[str, list[Entry]], defense: str, columns: list[str], column: str) -> Text:
    if defense not in rows or column not in columns:
        return Text("–", style="dim")
    entry = rows[defense][columns.index(column)]
    return Text(entry.text, style=_style(entry))


def _style(entry: Entry) -> str:
    if entry.sr5 is None:
        return "yellow"
    return "green" if entry.sr5 < 0.1 else "red" if entry.sr5 > 0.5 else "yellow"
