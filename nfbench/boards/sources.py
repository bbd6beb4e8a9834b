"""What a comparison can be made of: a run, a board, a folder of results, or a revision of one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from nfbench.boards.boardfile import HOME, read_board
from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.report.run import Run, read

FILES = ("results.jsonl.gz", "run.json", "vectors.safetensors")
"""The files of a results folder that numbers come from."""
SECONDS = 60.0
"""Patience with git."""


def results_of(source: str, home: Path = HOME) -> Run:
    """The results that a person means by `source`.

    Args:
        source: a run directory, a results folder, a board's name or TOML file, or `REVISION:FOLDER`.
        home: where boards lie.

    Raises:
        UsageError: if it is none of these.
        CorruptArtifact: if its files are damaged.
    """
    path = Path(source)
    if path.is_dir():
        return read(path)
    board = path if source.endswith(".toml") else home / f"{source}.toml"
    if board.is_file():
        return read(read_board(board).results)
    revision, colon, folder = source.partition(":")
    if colon and revision and folder:
        return _at_revision(revision, folder)
    known = sorted(one.stem for one in home.glob("*.toml"))
    hint = did_you_mean(source, known)
    raise UsageError(f"{source!r} is no run directory, no board of {home} and no REVISION:FOLDER{hint}")


def _at_revision(revision: str, folder: str) -> Run:
    """The results folder of a git revision, read through a directory that is gone afterwards."""
    with TemporaryDirectory() as scratch:
        for name in FILES:
            (Path(scratch) / name).write_bytes(_shown(revision, f"{folder.rstrip('/')}/{name}"))
        return read(Path(scratch))


def _shown(revision: str, path: str) -> bytes:
    if revision.startswith("-"):
        raise UsageError(f"{revision!r} is no git revision")
    command = ["git", "show", f"{revision}:./{path}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"can't ask git for {revision}:{path} ({error})") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"git has no {revision}:{path} ({reason[0] if reason else 'no reason given'})")
    return done.stdout
