"""`cache`: what the cache holds, clearing it, checking it, and moving it between machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli import flags
from nfbench.cli.console import grid, plain_console
from nfbench.cli.plugins import cache_of
from nfbench.core.errors import CorruptArtifact, UsageError

if TYPE_CHECKING:
    from nfbench.store import Store

app = typer.Typer(help="Care of the cache.", no_args_is_help=True, rich_markup_mode=None)
Archive = Annotated[Path, typer.Argument(help="An archive, such as cache.nfbench.zip.")]
Runs = Annotated[
    list[Path] | None,
    typer.Option("--run", help="Only what this run was computed from. Repeat the flag for more."),
]
Unused = Annotated[
    bool, typer.Option("--unused", help="Also artifacts that no run or leaderboard refers to.")
]
DAY = 86_400.0


def _store(cache_dir: Path | None) -> Store:
    from nfbench.store import Store

    root = cache_of(cache_dir, {})
    if not root.is_dir():
        raise UsageError(f"there is no cache at {root}; --cache-dir names another")
    return Store(root)


@app.command()
def du(cache_dir: flags.CacheDir = None, as_json: flags.AsJson = False) -> None:  # noqa: FBT002
    """Say how much room each kind of artifact takes."""
    from nfbench.trust.caching import holdings

    store = _store(cache_dir)
    found = holdings(store)
    if as_json:
        sys.stdout.write(json.dumps([vars(one) for one in found], indent=1) + "\n")
        return
    console = plain_console()
    rows = [[one.kind, str(one.count), _room(one.bytes)] for one in found]
    table = grid(["kind", "artifacts", "room"], rows, names=["kind"], width=console.width)
    total = sum(one.bytes for one in found)
    table.add_row("total", str(sum(one.count for one in found)), _room(total), style="bold")
    console.print(table)
    console.print(str(store.root), highlight=False, markup=False)


@app.command()
def ls(cache_dir: flags.CacheDir = None, as_json: flags.AsJson = False) -> None:  # noqa: FBT002
    """List the artifacts: what each is, its room and its age."""
    store = _store(cache_dir)
    rows = []
    for key in store:
        try:
            job = store.manifest(key).get("job", {})
        except CorruptArtifact:
            job = {}
        recipe = job.get("recipe", {})
        names = [recipe.get(part) for part in ("model", "defense", "attack", "threat_model")]
        what = " · ".join(str(one.get("name", "?")) for one in names if isinstance(one, dict))
        about = {"key": key, "kind": job.get("kind", "damaged"), "what": what}
        rows.append(about | {"bytes": store.bytes_of(key), "days": store.age_of(key) / DAY})
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    console = plain_console()
    header = ["key", "kind", "what", "room", "days"]
    shown = [[r["key"][:12], r["kind"], r["what"], _room(r["bytes"]), f"{r['days']:.0f}"] for r in rows]
    console.print(grid(header, shown, names=["key"], width=console.width))


@app.command()
def verify(
    cache_dir: flags.CacheDir = None,
    discard: Annotated[bool, typer.Option("--discard", help="Forget what is damaged.")] = False,  # noqa: FBT002
) -> None:
    """Read every artifact and compare it with its digest and its key."""
    from nfbench.trust.caching import spoilt

    store, console = _store(cache_dir), plain_console()
    found = list(spoilt(store))
    for key, reason in found:
        console.print(reason, highlight=False, markup=False)
        if discard:
            store.discard(key)
    count = sum(1 for _ in store)
    if found and not discard:
        raise CorruptArtifact(f"{len(found)} of {count} artifacts are damaged; --discard forgets them")
    console.print(f"{count} artifacts are what they were stored as")


@app.command()
def gc(  # each is a flag
    cache_dir: flags.CacheDir = None,
    unused: Unused = False,  # noqa: FBT002
    days: Annotated[float, typer.Option("--days", help="What is younger stays.")] = 7.0,
    keep: Annotated[
        list[Path] | None,
        typer.Option("--keep", help="A run or a folder of runs or leaderboards that counts too."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,  # noqa: FBT002
) -> None:
    """Remove what killed processes left and, with --unused, artifacts that nothing refers to.

    nfbench cache gc --unused --days 30 --keep leaderboards
    """
    from nfbench.pins import pins
    from nfbench.trust.caching import clear, clearing, referred_to, runs_below

    store, console = _store(cache_dir), plain_console()
    if days < 0:
        raise UsageError(f"--days must be at least 0, got {days:g}")
    runs, known = list[Path](), pins(store)
    for path in keep or []:
        if not path.is_dir():
            raise UsageError(f"--keep {path}: there is no such folder")
        below = runs_below(path)
        if not below:
            raise UsageError(f"--keep {path}: there are no results in it")
        runs += below
    kept = referred_to(store, runs).union(*known) if unused else None
    what = clearing(store, kept, days * DAY)
    if not dry_run and not store.writable:
        raise UsageError(f"can't write to the cache {store.root}")
    if not dry_run:
        clear(store, what)
    verb = "would be" if dry_run else "were"
    said = f"{len(what.unused)} artifacts and {len(what.rubbish)} leftovers {verb} removed"
    console.print(f"{said}, {_room(what.bytes)}; {len(runs) + len(known)} runs keep what they need")


@app.command()
def export(archive: Archive, run: Runs = None, cache_dir: flags.CacheDir = None) -> None:
    """Pack the cache, or what some runs were computed from, into an archive for another machine."""
    from nfbench.trust.caching import export as packed
    from nfbench.trust.caching import referred_to

    store = _store(cache_dir)
    keys = referred_to(store, run) if run else set(store)
    count = packed(store, keys, archive)
    plain_console().print(f"{archive}: {count} artifacts, {_room(archive.stat().st_size)}")


@app.command("import")
def import_(archive: Archive, cache_dir: flags.CacheDir = None) -> None:
    """Take in the artifacts of an archive that `export` made; what is there already stays."""
    from nfbench.store import Store
    from nfbench.trust.caching import take_in

    store = Store(cache_of(cache_dir, {}))
    new, count = take_in(store, archive)
    plain_console().print(f"{new} of {count} artifacts are new in {store.root}")


def _room(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size = round(size / 1000)
    return f"{size:.0f} GB"
