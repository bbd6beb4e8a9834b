"""From a board's results to its pages; the same files give the same bytes, always and everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nfbench.boards.boardfile import SUFFIXES, Board
from nfbench.boards.document import document
from nfbench.boards.evidence import broken_down, evidence_of
from nfbench.boards.markdown import markdown
from nfbench.boards.page import page
from nfbench.boards.sheet import sheet
from nfbench.boards.sound import require_sound
from nfbench.boards.standing import Judged, judge
from nfbench.boards.taking import take
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report.evidence import Evidence
from nfbench.report.run import read
from nfbench.report.told import require_told
from nfbench.store import write_atomic


def load(board: Board) -> tuple[Judged, Evidence]:
    """A board's results, held against its terms.

    Raises:
        UsageError: if there are none yet; it says which commands make them.
        CorruptArtifact: if they are damaged, or their numbers can't all be right.
    """
    if not board.has_results:
        raise UsageError(f"board {board.name} has no results in {board.results} yet: {board.rebuild()}")
    run = read(board.results)
    require_told(run, str(board.results))
    require_sound(run, str(board.results))
    lowered = broken_down(run, board.results)
    return judge(board, lowered), evidence_of(board.results, run)


def render(board: Board, suffixes: Sequence[str] = SUFFIXES) -> dict[str, str]:
    """The text of every file of a board, or of some kinds, by suffix."""
    judged, evidence = load(board)
    try:
        makers: dict[str, Callable[[], str]] = {
            "md": lambda: markdown(judged, evidence),
            "csv": lambda: sheet(judged),
            "json": lambda: document(judged, evidence),
            "html": lambda: page(judged, evidence),
        }
        return {suffix: makers[suffix]() for suffix in suffixes}
    except KeyError as error:
        raise CorruptArtifact(f"{board.results} is damaged: {error} is missing") from None


def build(board: Board, source: Path | None = None) -> list[Path]:
    """Render a board and write its files beside its own; `source` is a run to take results from first.

    Returns:
        What was written.

    Raises:
        UsageError: also if a file can't be written.
    """
    if source is not None:
        take(board, source)
    written = []
    for suffix, text in render(board).items():
        path = board.output(suffix)
        try:
            write_atomic(path, text.encode())
        except OSError as error:
            raise UsageError(f"can't write {path}: {error.strerror or error}") from None
        written.append(path)
    return written
