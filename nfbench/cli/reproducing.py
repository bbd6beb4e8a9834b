"""`reproduce` and `claims`: the papers' numbers, ours, and what the difference says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from nfbench.cli import flags
from nfbench.cli.console import grid, plain_console
from nfbench.cli.plugins import cache_of, crew_of, load
from nfbench.cli.stopping import stoppable
from nfbench.core.errors import CheckFailed, UsageError
from nfbench.core.recipe import did_you_mean

if TYPE_CHECKING:
    from nfbench.reproduce.concluding import Row
    from nfbench.reproduce.paper import Scale
    from nfbench.reproduce.performing import Performer
    from nfbench.reproduce.whole import Asked, Reproduced

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        help="Tables, figures, claims: table4, table4.mnist, figure3, globs, all; see --list."
    ),
]
ScaleFlag = Annotated[
    str,
    typer.Option(
        "--scale",
        envvar="NFBENCH_SCALE",
        help="How much: smoke (digits stand in), laptop, or full, the paper's sizes.",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Only what is about these data; others stand in for the papers', without verdicts.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", envvar="NFBENCH_OUT", help="Where runs and figures go."),
]
ListFlag = Annotated[bool, typer.Option("--list", help="List every id, run nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, run nothing.")]
AsConfig = Annotated[
    bool, typer.Option("--as-config", help="Print the experiments as files for `run --config`.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Only say whether the page is what the runs render to.")
]
Home = Annotated[
    Path,
    typer.Option("--leaderboards", envvar="NFBENCH_LEADERBOARDS", help="Where the claims' page lies."),
]


def reproduce(  # noqa: PLR0913, PLR0917  # each is a flag
    ids: Ids = None,
    scale: ScaleFlag = "laptop",
    dataset: Dataset = None,
    list_: ListFlag = False,  # noqa: FBT002
    data_dir: flags.DataDir = None,
    out: Out = Path("runs/reproduce"),
    cache_dir: flags.CacheDir = None,
    device: flags.Device = None,
    executor: flags.Executor = None,
    devices: flags.Devices = None,
    jobs_per_device: flags.PerDevice = None,
    address: flags.Address = None,
    dry_run: DryRun = False,  # noqa: FBT002
    as_config: AsConfig = False,  # noqa: FBT002
    as_json: flags.AsJson = False,  # noqa: FBT002
    quiet: flags.Quiet = False,  # noqa: FBT002
    plugin: flags.Plugins = None,
) -> None:
    """Reproduce the papers' tables, figures and claims: ours, theirs, the difference, a verdict.

    nfbench reproduce table4.mnist --data-dir data

    nfbench reproduce all --scale smoke
    """
    if list_:
        _list(ids or ["all"], dataset or "", as_json=as_json)
        return
    if not ids:
        raise UsageError("say what to reproduce: nfbench reproduce table4, or --list for all there is")
    from nfbench.cli.main import command_line
    from nfbench.cli.progress import Display
    from nfbench.reproduce.whole import ask
    from nfbench.reproduce.whole import reproduce as reproduced

    notes = plain_console(stderr=True)
    told = {"executor": executor, "devices": devices, "jobs_per_device": jobs_per_device}
    at, registry = _scale(scale), load(plugin)
    crew = crew_of(registry, {**told, "address": address}, {})
    with stoppable(), crew or nullcontext(), Display(notes, quiet=quiet) as display:
        from nfbench.reproduce.performing import Performer
        from nfbench.session import Place

        data = dataset or ("digits" if at == "smoke" else "")
        if data:
            registry.find("dataset", data)
        place = Place(out, cache_of(cache_dir, {}), device or "auto", crew=crew)
        performer = Performer(registry, place, data_dir, at, data, display)
        asked = ask(ids, performer, dataset or "")
        if dry_run or as_config:
            _plan(asked) if dry_run else _configure(asked)
            return
        found = reproduced(asked, performer, command_line())
    if as_json:
        sys.stdout.write(json.dumps([row.plain() for row in found.rows], indent=1) + "\n")
    else:
        _show(found.rows)
    raise typer.Exit(_conclude(found, performer))


def claims(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take in what `reproduce` ran first, such as runs/reproduce."),
    ] = None,
    check: Check = False,  # noqa: FBT002
    home: Home = Path("leaderboards"),
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Render leaderboards/claims.md: every claim of the papers, and what came of it.

    nfbench claims --from runs/reproduce
    """
    from nfbench.reproduce.keeping import keep
    from nfbench.reproduce.rendering import document, page_of
    from nfbench.store import write_atomic

    if source is not None and not check:
        keep(source, home / "claims")
    rows = page_of(home / "claims")
    if as_json:
        sys.stdout.write(json.dumps([row.plain() for row in rows], indent=1) + "\n")
        return
    for path, text in document(rows, home).items():
        if check and (not path.is_file() or path.read_text("utf-8") != text):
            raise CheckFailed(
                f"{path} is not what the runs in {home / 'claims'} render to: nfbench claims"
            )
        if not check:
            try:
                write_atomic(path, text.encode())
            except OSError as error:
                raise UsageError(f"can't write {path}: {error.strerror or error}") from None
    counts = Counter(row.verdict.word for row in rows)
    said = ", ".join(f"{n} {word}" for word, n in counts.most_common())
    plain_console(stderr=True).print(f"{home / 'claims.md'}: {len(rows)} claims, {said}")


def _scale(name: str) -> Scale:
    from nfbench.reproduce.paper import Scale

    if name not in get_args(Scale):
        raise UsageError(
            f"--scale {name}: expected smoke, laptop or full{did_you_mean(name, get_args(Scale))}"
        )
    return name  # type: ignore[return-value]  # one of them


def _list(ids: Sequence[str], dataset: str, *, as_json: bool) -> None:
    from nfbench.reproduce.figures.base import FIGURES
    from nfbench.reproduce.paper import papers
    from nfbench.reproduce.selecting import choose

    chosen = choose(ids, papers(), dataset)
    found = [
        {"id": c.id, "paper": p.id, "where": c.where, "dataset": c.dataset, "says": c.says}
        for p, c in chosen.claims
    ]
    found += [
        {"id": name, "paper": "figure", "where": "drawn", "dataset": "", "says": FIGURES[name].title}
        for name in chosen.figures
    ]
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    console = plain_console()
    rows = [[one["id"], one["where"], one["dataset"], one["says"]] for one in found]
    console.print(grid(["id", "where", "data", "says"], rows, names={"id"}, width=console.width))


def _plan(asked: Asked) -> None:
    console = plain_console()
    for one in asked.experiments:
        sizes = ", ".join(f"{name} {value}" for name, value in one.settled.sizes.items())
        jobs = {key for _, plan, _ in one.points for key in plan.jobs}
        what = one.missing or f"{len(one.points)} runs, {len(jobs)} jobs; {sizes}"
        console.print(f"{one.settled.name} ({one.settled.scale}): {what}")
    for _, name in asked.studies:
        console.print(f"{name}: a study")


def _configure(asked: Asked) -> None:
    from nfbench.reproduce.configs import configuration

    sys.stdout.write("\n".join(configuration(one.settled) for one in asked.experiments))


def _show(rows: Sequence[Row]) -> None:
    from nfbench.reproduce.page import HEAD, cells

    if not rows:
        return
    console = plain_console()
    body = [[row.claim.id, *cells(row)] for row in rows]
    console.print(grid(HEAD, body, names=set(HEAD[:5]), width=console.width))
    sizes = {(name, row.scale): values for row in rows for name, values in row.sizes.items()}
    for (name, scale), values in sizes.items():
        said = ", ".join(f"{key} {value}" for key, value in values.items())
        console.print(f"{name}, {scale}: {said}")


def _conclude(found: Reproduced, performer: Performer) -> int:
    notes = plain_console(stderr=True)
    counts = Counter(row.verdict.word for row in found.rows)
    if counts:
        notes.print(", ".join(f"{n} {word}" for word, n in counts.most_common()))
    for name, reason in () if performer.interrupted else performer.missing.items():
        notes.print(f"{name} was not run: {reason}")
    for reason in dict.fromkeys(performer.failures.values()):
        notes.print(f"failed: {reason}")
    for line in found.undrawn:
        notes.print(f"not drawn: {line}")
    drawn = [path for path in found.figures if path.suffix == ".png"]
    if drawn:
        notes.print(f"figures: {', '.join(map(str, drawn))}")
    if performer.interrupted:
        notes.print("interrupted: what was finished is kept; run the same command again to go on")
        return 130
    if performer.ran == 0:
        notes.print("nothing to do: everything was done already")
    notes.print(f"runs: {performer.out}")
    return 1 if performer.failures else 0
