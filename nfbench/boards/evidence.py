"""What others have checked of results, and what they have broken, as it lies beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.report.evidence import SELF_REPORTED, Evidence

if TYPE_CHECKING:
    from nfbench.report.run import Run


def evidence_of(folder: Path, run: Run | None = None) -> Evidence:
    """The verification and the breaks that lie beside results; `run` is what was read there, if it was.

    Raises:
        CorruptArtifact: if they can't be read.
    """
    from nfbench.trust import read_breaks, read_verification

    found = read_verification(folder, run)
    checked = ""
    if found.level != SELF_REPORTED:
        rerun = f", {len(found.rerun)} cells repeated from nothing" if found.rerun else ""
        when = f" on {found.date}" if found.date else ""
        checked = f"{found.finished} cells and {found.images} images checked{when}{rerun}."
    breaks = tuple(read_breaks(folder))
    return Evidence(found.level, checked, tuple(found.notes), breaks, found.results_sha256)


def broken_down(run: Run, folder: Path) -> Run:
    """`run` with the worst cases lowered by what was submitted against its rows."""
    from nfbench.trust import apply_breaks

    return apply_breaks(run, folder)
