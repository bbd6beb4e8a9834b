"""What commands print through: words of users and plugins come out as they are, and whole."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NARROWEST = 12
"""Columns of running text are not folded to fewer cells."""


def plain_console(*, stderr: bool = False) -> Console:
    """A console that knows no markup and no emoji codes, cuts nothing off and breaks no lines."""
    return Console(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)


def headed(word: str, style: str, text: str) -> Text:
    """`text` as it is, behind a coloured word."""
    return Text.assemble((word, style), " ", text)


def grid(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, names: Collection[str], width: int
) -> Table:
    """A table whose columns of `names` stay whole; the others fold to fit into `width`."""
    table = Table()
    for place, title in enumerate(header):
        widest = max(cell_len(row[place]) for row in (header, *rows))
        if title in names:
            table.add_column(title, no_wrap=True, min_width=widest)
        else:
            table.add_column(title, overflow="fold", min_width=min(widest, _NARROWEST))
    for row in rows:
        table.add_row(*row)
    return unframed_if_narrow(table, width)


def narrowest(table: Table, *, framed: bool = True) -> int:
    """Cells a table takes at least."""
    between = 3 * len(table.columns) + 1 if framed else 2 * (len(table.columns) - 1)
    return sum(column.min_width or 0 for column in table.columns) + between


def unframed_if_narrow(table: Table, width: int) -> Table:
    """The table, without a frame where that does not fit; columns are whole even beyond `width`."""
    if narrowest(table) > width:
        table.box, table.pad_edge = None, False
        table.width = max(width, narrowest(table, framed=False))
    return table


def never_fail_to_encode() -> None:
    """Let standard output and error show `?` for what their encoding lacks.

    Standard error escapes it already where Python made the stream.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")
