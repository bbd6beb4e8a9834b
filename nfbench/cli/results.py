"""The commands about results that are there: `report`, `submit` and `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nfbench.cli import flags
from nfbench.cli.plugins import cache_of, load
from nfbench.core.errors import UsageError

if TYPE_CHECKING:
    from nfbench.trust import Means

AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Import package.module:Class that the results name. Read it first."
    ),
]
Latex = Annotated[bool, typer.Option("--latex", help="Tables for papers too: leaderboard.tex.")]
Archive = Annotated[
    Path | None,
    typer.Option("--archive", help="A submission with the artifacts that the results rest on."),
]


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run directory.")],
    statistic: flags.Statistic = None,
    figures: Annotated[
        str | None,
        typer.Option("--figures", help="svg or pdf: figures for papers, into the directory's figures/."),
    ] = None,
    latex: Latex = False,  # noqa: FBT002
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Render a run again from its files alone: tables, and report.html."""
    from nfbench.cli.rendering import render_again

    kinds: dict[str | None, Literal["svg", "pdf"] | None] = {None: None, "svg": "svg", "pdf": "pdf"}
    if figures not in kinds:
        raise UsageError(f"--figures {figures}: expected svg or pdf")
    shown = statistic or "auroc_worst"
    render_again(run_dir, shown, figures=kinds[figures], latex=latex, as_json=as_json)


def submit(  # noqa: PLR0913, PLR0917  # each is a flag
    run_dir: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The archive. [default: RUN_DIR.nfbench.zip]")
    ] = None,
    data_dir: flags.DataDir = None,
    weights: flags.Weights = None,
    cache_dir: flags.CacheDir = None,
    plugin: flags.Plugins = None,
    allow_code: AllowCode = False,  # noqa: FBT002
) -> None:
    """Pack a run with its adversarial images and artifacts, so that others can check it.

    nfbench submit runs/digits --out my-detector.nfbench.zip
    """
    from nfbench.cli.trusting import submit_and_say

    given = {"data_dir": data_dir, "weights": weights, "allow_code": allow_code}
    raise typer.Exit(submit_and_say(run_dir, _means(given, cache_dir, plugin), out))


def verify(  # noqa: PLR0913, PLR0917  # each is a flag
    target: Annotated[
        Path, typer.Argument(help="A run directory, a submission, or a board's results folder.")
    ],
    rerun: Annotated[
        float | None,
        typer.Option("--rerun", help="Share of cells to repeat from nothing, such as 0.02."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Chooses these cells. [default: drawn]", show_default=False),
    ] = None,
    breaking: Annotated[
        Path | None,
        typer.Option("--break", help="Adversarial images (safetensors) that break a row; with --row."),
    ] = None,
    row: Annotated[str | None, typer.Option("--row", help="The cell that --break is about.")] = None,
    day: Annotated[
        str | None, typer.Option("--date", help="Day to note, YYYY-MM-DD. [default: today]")
    ] = None,
    archive: Archive = None,
    data_dir: flags.DataDir = None,
    weights: flags.Weights = None,
    cache_dir: flags.CacheDir = None,
    device: flags.Device = None,
    plugin: flags.Plugins = None,
    allow_code: AllowCode = False,  # noqa: FBT002
    as_json: flags.AsJson = False,  # noqa: FBT002
    quiet: flags.Quiet = False,  # noqa: FBT002
) -> None:
    """Check results: their files, their adversarial images scored again, a share of cells repeated.

    nfbench verify my-detector.nfbench.zip --rerun 0.02

    nfbench verify runs/mine --break images.safetensors --row kd--pgd--adaptive-whitebox--linf-0.1--seed0
    """
    from nfbench.cli.trusting import break_and_say, verify_and_say
    from nfbench.trust import Rerun

    _require_fitting(breaking, row, rerun, seed)
    given = {"data_dir": data_dir, "weights": weights, "allow_code": allow_code, "archive": archive}
    means = _means(given | {"device": device or "auto"}, cache_dir, plugin)
    today = day or date.today().isoformat()  # noqa: DTZ011  # the day where the person is
    if breaking is not None and row is not None:
        code = break_and_say(breaking, row, target, means, date=today, as_json=as_json)
    else:
        again = None if rerun is None else Rerun(rerun, seed)
        code = verify_and_say(target, means, rerun=again, date=today, as_json=as_json, quiet=quiet)
    raise typer.Exit(code)


def _require_fitting(
    breaking: Path | None, row: str | None, rerun: float | None, seed: int | None
) -> None:
    """Refuse flags of `verify` that do not go together."""
    if (breaking is None) != (row is None):
        raise UsageError("--break and --row go together: the images, and the cell that they break")
    for flag, value in (("--rerun", rerun), ("--seed", seed)):
        if breaking is not None and value is not None:
            raise UsageError(f"{flag} does not go with --break")
    if seed is not None and rerun is None:
        raise UsageError("--seed goes with --rerun: it chooses the cells to repeat")


def _means(given: Mapping[str, Any], cache_dir: Path | None, plugin: list[str] | None) -> Means:
    from nfbench.trust import Means

    cache: Path | None = cache_of(cache_dir, {})
    if cache_dir is None and cache is not None and not cache.is_dir():
        cache = None  # nobody named it
    return Means(load(plugin), cache, **given)
