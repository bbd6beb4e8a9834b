"""Whether a board's files are what its results render to."""

from __future__ import annotations

from nfbench.boards.boardfile import Board
from nfbench.boards.building import render
from nfbench.boards.comparing import first_difference
from nfbench.core.errors import CheckFailed


def check(board: Board) -> None:
    """Render a board in memory and compare it with the files that are there.

    Raises:
        UsageError: if it has no results.
        CorruptArtifact: if the results are damaged, or their numbers can't all be right.
        CheckFailed: if a file is missing or says something else; it names the first value that does.
    """
    again = f"`nfbench leaderboard build {board.name}` renders it from the results"
    for suffix, rendered in render(board).items():
        path = board.output(suffix)
        try:
            committed = path.read_bytes().decode()
        except FileNotFoundError:
            raise CheckFailed(f"{path} is missing; {again}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckFailed(f"{path} can't be read ({error}); {again}") from None
        found = first_difference(suffix, committed, rendered)
        if found is not None:
            raise CheckFailed(
                f"{path}: {found.where}: committed {found.committed}, rendered {found.rendered}; {again}"
            )
