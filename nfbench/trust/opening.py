"""What is checked: a run directory, a board's results folder or an archive, opened and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nfbench.core.errors import NFBenchError, UsageError
from nfbench.report.run import Run, read
from nfbench.trust.archive import SUFFIX, unpack
from nfbench.trust.comparing import require_following
from nfbench.trust.lowering import apply_breaks
from nfbench.trust.verification import FILE, digests

_OF_A_DIRECTORY = ("results.jsonl", "results.jsonl.gz", "run.json", FILE)


@dataclass(frozen=True)
class Target:
    """Results that were read, and where what is said of them goes."""

    run: Run
    folder: Path
    """Where it was read, and where its breaks are."""
    digests: Mapping[str, str]
    """What a verification of these results names."""
    verification: Path
    """The file beside the results."""
    artifacts: Path | None = None
    """The unpacked archive that artifacts are in; None: they are in a cache."""
    compact: bool = False
    """Whether it is a board's folder, which keeps only some vectors."""


def open_target(path: Path, home: Path, archive: Path | None = None) -> Target:
    """Open results and refuse what can't be right: damaged files, metrics and breaks that do not follow.

    Args:
        path: a run directory, a results folder or an archive.
        home: an empty directory, for unpacking.
        archive: where the artifacts of a directory are, if not in a cache.

    Raises:
        UsageError: if there is nothing, or it is of a newer schema.
        CorruptArtifact: if a file is damaged.
        VerificationMismatch: if a metric does not follow from the vectors of its cell, or what a break
            lowered not from its own.
    """
    if path.is_dir():
        if archive is not None:
            unpack(archive, home)
        return _read(path, path / FILE, None if archive is None else home)
    if not path.exists():
        raise UsageError(f"there is no {path}: expected a run directory or an archive")
    if path.name in _OF_A_DIRECTORY:
        raise UsageError(f"{path} is a file of a run directory: give its directory, {path.parent}")
    if archive is not None:
        raise UsageError("--archive goes with a run directory or a board's folder")
    unpack(path, home)
    name = path.name.removesuffix(SUFFIX).removesuffix(".zip")
    try:
        return _read(home, path.with_name(f"{name}.{FILE}"), home)
    except NFBenchError as error:  # what is wrong is wrong in the archive
        raise type(error)(str(error).replace(str(home), str(path))) from None


def _read(folder: Path, verification: Path, artifacts: Path | None) -> Target:
    run = read(folder)
    compact = not (folder / "results.jsonl").is_file()
    for cell in run.cells:
        if cell.finished:
            require_following(cell, run.samples[cell.cell])
    apply_breaks(run, folder)
    return Target(run, folder, digests(run, folder), verification, artifacts, compact)
