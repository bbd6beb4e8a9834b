"""What a comparison can be made of: a run, a board, a folder of results, or a revision of one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from nfbench.boards.boardfile import HOME, read_board
from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.report.run import Run, read
from nfbench.trust.breaks import FILE as BREAKS
from nfbench.trust.breaks import FOLDER as BROKEN
from nfbench.trust.breaks import read_breaks
from nfbench.trust.lowering import apply_breaks

FILES = ("results.jsonl.gz", "run.json", "vectors.safetensors")
"""The files of a results folder that numbers come from, breaks aside."""
SECONDS = 60.0
"""Patience with git."""


def results_of(source: str, home: Path = HOME) -> Run:
    """The results that a person means by `source`, lowered by what was submitted against them.

    Args:
        source: a run directory, a results folder, a board's name or TOML file, or `REVISION:FOLDER`.
        home: where boards lie.

    Raises:
        UsageError: if it is none of these.
        CorruptArtifact: if its files are damaged.
    """
    path = Path(source)
    if path.is_dir():
        return _lowered(path)
    board = path if source.endswith(".toml") else home / f"{source}.toml"
    if board.is_file():
        return _lowered(read_board(board).results)
    revision, colon, folder = source.partition(":")
    if colon and revision and folder:
        return _at_revision(revision, folder)
    known = sorted(one.stem for one in home.glob("*.toml"))
    hint = did_you_mean(source, known)
    raise UsageError(f"{source!r} is no run directory, no board of {home} and no REVISION:FOLDER{hint}")


def _lowered(folder: Path) -> Run:
    return apply_breaks(read(folder), folder)


def _at_revision(revision: str, folder: str) -> Run:
    """The results folder of a git revision, read through a directory that is gone afterwards."""
    home = folder.rstrip("/")
    with TemporaryDirectory() as scratch:
        into = Path(scratch)
        for name in FILES:
            (into / name).write_bytes(_shown(revision, f"{home}/{name}"))
        if BREAKS in _listed(revision, home):
            (into / BREAKS).write_bytes(_shown(revision, f"{home}/{BREAKS}"))
        (into / BROKEN).mkdir()
        for name in {Path(one.file).name for one in read_breaks(into)}:
            (into / BROKEN / name).write_bytes(_shown(revision, f"{home}/{BROKEN}/{name}"))
        return _lowered(into)


def _listed(revision: str, folder: str) -> list[str]:
    """Names of the files in a folder of a revision."""
    return _git("ls-tree", f"{revision}:./{folder}", "--name-only", "-z").decode().split("\0")


def _shown(revision: str, path: str) -> bytes:
    return _git("show", f"{revision}:./{path}")


def _git(command: str, what: str, *flags: str) -> bytes:
    """What git says of `what`, which is `REVISION:./PATH`."""
    named = what.replace(":./", ":", 1)
    if what.startswith("-"):
        raise UsageError(f"{what.partition(':')[0]!r} is no git revision")
    command_line = ["git", command, *flags, what]
    try:
        done = subprocess.run(command_line, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"can't ask git for {named} ({error})") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"git has no {named} ({reason[0] if reason else 'no reason given'})")
    return done.stdout
