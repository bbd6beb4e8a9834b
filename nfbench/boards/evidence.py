"""What others have checked of a board's results, and what they have broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nfbench.report.run import Run
    from nfbench.trust import Break

SELF_REPORTED = "self-reported"
"""Level of results that nobody else has checked."""


@dataclass(frozen=True)
class Evidence:
    """How far results are to be trusted."""

    level: str = SELF_REPORTED
    checked: str = ""
    """What the level rests on, a sentence."""
    notes: Sequence[str] = ()
    breaks: Sequence[Break] = ()
    """Submissions that lowered a worst case, oldest first."""


def evidence_of(folder: Path) -> Evidence:
    """The verification and the breaks that lie beside results.

    Raises:
        CorruptArtifact: if they can't be read.
    """
    from nfbench.trust import read_breaks, read_verification

    found = read_verification(folder)
    checked = ""
    if found.level != SELF_REPORTED:
        rerun = f", {len(found.rerun)} cells repeated from nothing" if found.rerun else ""
        when = f" on {found.date}" if found.date else ""
        checked = f"{found.finished} cells and {found.images} images checked{when}{rerun}."
    return Evidence(found.level, checked, tuple(found.notes), tuple(read_breaks(folder)))


def broken_down(run: Run, folder: Path) -> Run:
    """`run` with the worst cases lowered by what was submitted against its rows."""
    from nfbench.trust import apply_breaks

    return apply_breaks(run, folder)
