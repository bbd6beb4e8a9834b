"""`leaderboard`: pages rendered from committed results, checked against them, and compared."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli import flags
from nfbench.cli.console import grid, headed, plain_console
from nfbench.core.errors import NFBenchError, UsageError

if TYPE_CHECKING:
    from nfbench.boards.boardfile import Board
    from nfbench.boards.diffing import Change, Compared, Moved

app = typer.Typer(
    help="Render leaderboards from their results, check that they agree, and compare two of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SHOWN = 40
"""Cells that moved, in a table on the terminal."""

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Boards by name or TOML file; all that have results if left out."),
]
Home = Annotated[
    Path,
    typer.Option(
        "--leaderboards",
        envvar="NFBENCH_LEADERBOARDS",
        help="Where boards lie. [default: leaderboards]",
        show_default=False,
    ),
]
From = Annotated[
    Path | None,
    typer.Option("--from", help="A run directory or submission whose results become the board's first."),
]


@app.command()
def build(names: Names = None, home: Home = Path("leaderboards"), source: From = None) -> None:
    """Render boards as Markdown, CSV, JSON and HTML from their results alone.

    nfbench leaderboard build

    nfbench leaderboard build digits --from runs/digits
    """
    from nfbench.boards.boardfile import find
    from nfbench.boards.building import build as made

    boards = _one(names, home) if source is not None else find(names or (), home)
    for board in boards:
        for path in made(board, source):
            typer.echo(path)


@app.command()
def check(names: Names = None, home: Home = Path("leaderboards")) -> None:
    """Check that the files of boards are what their results render to; exit code 5 if not."""
    from nfbench.boards.boardfile import find
    from nfbench.boards.checking import check as examine

    worst, notes = 0, plain_console(stderr=True)
    for board in find(names or (), home):
        try:
            examine(board)
        except NFBenchError as error:
            notes.print(headed("error:", "bold red", " ".join(str(error).split())))
            worst = max(worst, error.exit_code)
        else:
            typer.echo(f"{board.name}: all files are what the results render to")
    raise typer.Exit(worst)


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="A run directory, a board, a folder of results, or REVISION:FOLDER.")
    ],
    after: Annotated[str, typer.Argument(help="Another one.")],
    home: Home = Path("leaderboards"),
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Say what appeared, disappeared and moved between two sets of results, and what is significant.

    nfbench leaderboard diff HEAD~1:leaderboards/digits digits
    """
    from nfbench.boards.diffing import compare
    from nfbench.boards.sources import results_of

    found = compare(results_of(before, home), results_of(after, home))
    if as_json:
        sys.stdout.write(_json(found))
    else:
        _show(found)


def _one(names: list[str] | None, home: Path) -> list[Board]:
    """The only board that `--from` can be for."""
    from nfbench.boards.boardfile import find

    if not names or len(names) != 1:
        raise UsageError("--from takes the results of one run: name the one board they are for")
    return find(names, home)


def _show(found: Compared) -> None:
    """Counts, and the largest changes in a table."""
    console = plain_console()
    for title, names in (("appeared", found.appeared), ("disappeared", found.disappeared)):
        for name in names:
            console.print(f"{title}: {name}")
    for name, before, after in found.restated:
        console.print(f"{before} before, {after} now: {name}")
    if found.moved:
        head = ["cell", "SR@5 %", "p", "auroc_worst", "p ", "images", ""]
        rows = [_row(one) for one in found.moved[:SHOWN]]
        console.print(grid(head, rows, names={*head[:-1]}, width=console.width))
    more = len(found.moved) - SHOWN
    if more > 0:
        console.print(f"and {more} more that moved less; --json has them")
    significant = sum(one.sr5.significant or one.auroc.significant for one in found.moved)
    counts = f"{len(found.appeared)} appeared, {len(found.disappeared)} disappeared"
    counts += (
        f", {len(found.moved)} moved ({significant} of them significantly), {found.same} are the same"
    )
    console.print(f"{counts}; p after Holm's correction, * below .05")


def _row(one: Moved) -> list[str]:
    numbers = [text for change in (one.sr5, one.auroc) for text in (_numbers(change), _p(change))]
    return [one.cell, *numbers, str(one.images), "; ".join(one.notes)]


def _numbers(change: Change) -> str:
    shown = ("–" if v is None else f"{v:.3f}" for v in (change.before, change.after))
    return " → ".join(shown)


def _p(change: Change) -> str:
    if change.adjusted is None:
        return "–"
    return f"{change.adjusted:.3g}" + "*" * change.significant


def _json(found: Compared) -> str:
    """Everything, with `significant` beside each number."""
    data = asdict(found)
    for one, plain in zip(found.moved, data["moved"], strict=True):
        plain["sr5"]["significant"] = one.sr5.significant
        plain["auroc"]["significant"] = one.auroc.significant
    return json.dumps(data, indent=1, sort_keys=True) + "\n"
