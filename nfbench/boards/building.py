"""From a board's results to its pages; the same files give the same bytes, always and everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nfbench.boards.boardfile import SUFFIXES, Board
from nfbench.boards.document import document
from nfbench.boards.evidence import Evidence, broken_down, evidence_of
from nfbench.boards.markdown import markdown
from nfbench.boards.page import page
from nfbench.boards.sheet import sheet
from nfbench.boards.sound import require_sound
from nfbench.boards.standing import Judged, judge
from nfbench.boards.told import require_told
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report.run import read
from nfbench.store import write_atomic
from nfbench.trust.breaks import FILE as BREAKS
from nfbench.trust.breaks import FOLDER as BROKEN
from nfbench.trust.verification import FILE as VERIFICATION


def load(board: Board) -> tuple[Judged, Evidence]:
    """A board's results, held against its terms.

    Raises:
        UsageError: if there are none yet; it says which commands make them.
        CorruptArtifact: if they are damaged, or their numbers can't all be right.
    """
    if not board.has_results:
        raise UsageError(f"board {board.name} has no results in {board.results} yet: {board.rebuild()}")
    run = read(board.results)
    require_told(run.info, str(board.results))
    require_sound(run, str(board.results))
    lowered = broken_down(run, board.results)
    return judge(board, lowered), evidence_of(board.results)


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


def take(board: Board, source: Path) -> None:
    """Make a run directory's results the board's, with what was verified of them.

    Breaks come along only where the board has none of its own: its history is not overwritten.

    Raises:
        UsageError: if it is no run directory, or the folder can't be written.
    """
    from nfbench.report import compact

    run = read(source)
    require_told(run.info, str(source))
    require_sound(run, str(source))
    try:
        compact.write(run, board.results)
        for path in _beside(board, source):
            write_atomic(board.results / path, (source / path).read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"can't write the results to {board.results}: {reason}") from None


def _beside(board: Board, source: Path) -> list[Path]:
    """What else of a run directory belongs to its results."""
    found = [Path(VERIFICATION)]
    if not (board.results / BREAKS).exists():
        kept = sorted((source / BROKEN).glob("*.safetensors"))
        found += [Path(BREAKS), *(path.relative_to(source) for path in kept)]
    return [path for path in found if (source / path).is_file()]
