"""A board's file: what is compared, where its results lie, and the commands that make them."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.report.leaderboard import require_statistic

HOME = Path("leaderboards")
"""Where boards lie unless told otherwise."""
KEYS = {"title": str, "note": str, "statistic": str, "results": str, "data_sha256": str}
"""What the table `[board]` may say."""
RESULTS = ("results.jsonl.gz", "results.jsonl")
"""Files of which a folder of results has one."""
SUFFIXES = ("md", "csv", "json", "html")
"""The files of a board, in the order in which they are made and checked."""
_COMMAND = re.compile(r"^#\s+(nfbench run .*)$", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9+._-]+")


@dataclass(frozen=True)
class Board:
    """A leaderboard as its file declares it; everything it may leave out comes from the results."""

    name: str
    path: Path
    results: Path
    """The committed folder of results."""
    title: str = ""
    note: str = ""
    """What a reader must know before the first number."""
    statistic: str = "auroc_worst"
    data_sha256: str = ""
    """Digest of the data that rows must have been made with."""
    limit: int | None = None
    """Test images attempted; a cell with fewer is limited."""
    seeds: tuple[int, ...] = ()
    attacks: tuple[str, ...] = ()
    """Those that are named one by one; globs and `all` are resolved by the run."""
    command: str = ""
    """What makes the results, as the first command in the comments says."""

    @property
    def has_results(self) -> bool:
        return any((self.results / name).is_file() for name in RESULTS)

    @property
    def started(self) -> bool:
        """Whether there is anything to check: results, or files made from them."""
        return self.has_results or any(self.output(suffix).is_file() for suffix in SUFFIXES)

    def output(self, suffix: str) -> Path:
        """The rendered file of a kind, such as `md`, beside the board's own."""
        return self.path.with_name(f"{self.path.stem}.{suffix}")

    def rebuild(self) -> str:
        """The commands that make results where there are none yet."""
        run = self.command or f"nfbench run --config {shlex.quote(str(self.path))}"
        words = run.split()
        out = words[words.index("--out") + 1] if "--out" in words[:-1] else f"runs/{self.name}"
        made = run if "--out" in words else f"{run} --out {out}"
        return f"`{made}`, then `nfbench leaderboard build {self.name} --from {out}`"


def find(names: Sequence[str], home: Path = HOME) -> list[Board]:
    """The boards of some names or paths of TOML files; without names all that have any.

    Raises:
        UsageError: for a name that there is not, and where no board has results.
    """
    if names:
        return [read_board(_path(name, home)) for name in dict.fromkeys(names)]
    if not home.is_dir():
        raise UsageError(f"there is no folder {home}: name it by --leaderboards")
    boards = [board for path in sorted(home.glob("*.toml")) if (board := read_board(path)).started]
    if not boards:
        how = "`nfbench leaderboard build NAME --from RUN` takes those of a run"
        raise UsageError(f"no board in {home} has results yet; {how}")
    return boards


def _path(name: str, home: Path) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    path = home / f"{name}.toml"
    if not path.is_file():
        known = sorted(one.stem for one in home.glob("*.toml"))
        there = f" (there are: {', '.join(known)})" if known else f": {home} has none"
        raise UsageError(f"no board is called {name!r}{did_you_mean(name, known) or there}")
    return path


def read_board(path: Path) -> Board:
    """A board from its file.

    Raises:
        UsageError: if it can't be read, is no TOML, or `[board]` says something that it may not.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"can't read the board {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the board {path} is no valid TOML: {error}") from None
    own = _declared(path, found.get("board", {}))
    statistic = own.get("statistic", found.get("statistic", "auroc_worst"))
    try:
        require_statistic(statistic)
        seeds = tuple(int(seed) for seed in _list(found.get("seed", [])))
    except UsageError as error:
        raise UsageError(f"the board {path}: {error}") from None
    except ValueError:
        raise UsageError(f"the board {path}: seed should be whole numbers") from None
    limit, command = found.get("limit"), _COMMAND.search(text)
    return Board(
        name=path.stem,
        path=path,
        results=path.parent / own.get("results", path.stem),
        title=own.get("title", ""),
        note=own.get("note", ""),
        statistic=statistic,
        data_sha256=own.get("data_sha256", ""),
        limit=limit if isinstance(limit, int) else None,
        seeds=seeds,
        attacks=tuple(n for n in _list(found.get("attacks", [])) if _PLAIN.fullmatch(n) and n != "all"),
        command=command[1].strip() if command else "",
    )


def _declared(path: Path, table: Any) -> Mapping[str, str]:
    """The table `[board]`, checked."""
    if not isinstance(table, dict):
        raise UsageError(f"the board {path}: board should be a table, [board]")
    for key, value in table.items():
        if key not in KEYS:
            hint = did_you_mean(key, KEYS) or f" (there are: {', '.join(KEYS)})"
            raise UsageError(f"the board {path}: unknown key {key!r} in [board]{hint}")
        if not isinstance(value, KEYS[key]):
            raise UsageError(f"the board {path}: {key} = {value!r} in [board] should be a string")
    results = Path(table.get("results", "."))
    if results.is_absolute() or ".." in results.parts:
        raise UsageError(f"the board {path}: results = {str(results)!r} must lie beside the board")
    return table


def _list(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [part.strip() for one in values for part in str(one).split(",") if part.strip()]
