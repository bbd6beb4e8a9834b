"""Making a run's results the board's: of a run directory, or of an archive that `submit` made."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from nfbench.boards.boardfile import Board
from nfbench.boards.sound import require_sound
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report import compact
from nfbench.report.evidence import SELF_REPORTED
from nfbench.report.run import Run, read
from nfbench.report.told import require_told
from nfbench.store import write_atomic
from nfbench.trust import read_verification
from nfbench.trust.breaks import FILE as BREAKS
from nfbench.trust.breaks import FOLDER as BROKEN
from nfbench.trust.opening import open_target
from nfbench.trust.verification import FILE as VERIFICATION


def take(board: Board, source: Path) -> None:
    """Make the results of a run directory or of an archive the board's, with what was verified of them.

    A verification comes along if it is about these results; of an archive it lies beside it. Breaks come
    along only where the board has none of its own: its history is not overwritten.

    Raises:
        UsageError: if it is neither, or the folder can't be written.
        CorruptArtifact: if it is damaged.
        VerificationMismatch: if an archive is not what its manifest says.
    """
    if not source.is_file():
        _take(board, source, read(source))
        return
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        target = open_target(source, folder)
        if target.verification.is_file():
            shutil.copyfile(target.verification, folder / VERIFICATION)
        _take(board, folder, target.run, named=source)


def _take(board: Board, folder: Path, run: Run, named: Path | None = None) -> None:
    """Of a folder, which is called `named` where something is wrong with it."""
    where = str(named or folder)
    require_told(run, where)
    require_sound(run, where)
    try:
        compact.write(run, board.results)
        (board.results / "results.jsonl").unlink(missing_ok=True)  # it would be read instead
        for path in _beside(board, folder, run):
            write_atomic(board.results / path, (folder / path).read_bytes())
        if not _verified(board.results, read(board.results)):  # what is said of other results
            (board.results / VERIFICATION).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"can't write the results to {board.results}: {reason}") from None


def _beside(board: Board, folder: Path, run: Run) -> list[Path]:
    """What else of a run belongs to its results."""
    found = [Path(VERIFICATION)] if _verified(folder, run) else []
    if not (board.results / BREAKS).exists():
        kept = sorted((folder / BROKEN).glob("*.safetensors"))
        found += [Path(BREAKS), *(path.relative_to(folder) for path in kept)]
    return [path for path in found if (folder / path).is_file()]


def _verified(folder: Path, run: Run) -> bool:
    """Whether somebody has checked the results in a folder as they are now."""
    try:
        return read_verification(folder, run).level != SELF_REPORTED
    except CorruptArtifact:
        return False
