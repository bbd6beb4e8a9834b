"""`sweep`: one run for each combination of some hyperparameters' values."""

from __future__ import annotations

from typing import Annotated

import typer

from nfbench.cli import flags
from nfbench.cli.options import options_of
from nfbench.cli.plugins import crew_of, load, place_of, split_settings

Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        envvar="NFBENCH_VARY",
        help="A hyperparameter and its values: fingerprints=5,10,20, or neuralfp.fingerprints=5,10,20. "
        "Repeat the flag for more: every combination is run.",
        show_default=False,
    ),
]


def sweep(  # noqa: PLR0913, PLR0917  # each is a flag
    vary: Vary = None,
    defense: flags.Defense = None,
    attacks: flags.Attacks = None,
    threat_model: flags.Threats = None,
    skip: flags.Skip = None,
    defender: flags.Defender = None,
    dataset: flags.Dataset = None,
    model: flags.Model = None,
    weights: flags.Weights = None,
    eps: flags.Eps = None,
    budget: flags.Budget = None,
    limit: flags.Limit = None,
    train_limit: flags.TrainLimit = None,
    seed: flags.Seed = None,
    setting: flags.Setting = None,
    data_dir: flags.DataDir = None,
    config: flags.Config = None,
    out: flags.Out = None,
    cache_dir: flags.CacheDir = None,
    device: flags.Device = None,
    executor: flags.Executor = None,
    devices: flags.Devices = None,
    jobs_per_device: flags.PerDevice = None,
    address: flags.Address = None,
    statistic: flags.Statistic = None,
    plugin: flags.Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the points, run nothing.")] = False,  # noqa: FBT002
    as_json: flags.AsJson = False,  # noqa: FBT002
    quiet: flags.Quiet = False,  # noqa: FBT002
) -> None:
    """Run every combination of some hyperparameters' values: one table, one plot.

    nfbench sweep -d neuralfp -a pgd --vary fingerprints=5,10,20 --vary size=0.003,0.006,0.01
    """
    given = {k: v for k, v in locals().items() if k not in ("vary", "dry_run", "as_json", "quiet")}
    from nfbench.cli.swept import show_points, sweep_and_show
    from nfbench.sweeping import unroll
    from nfbench.sweeping.running import planned

    registry = load(plugin)
    options, file = options_of(given)
    options, own = split_settings(options, registry)
    what = planned(unroll(options, vary or [], registry))
    place = place_of(given, file, crew_of(registry, given, own))
    if dry_run:
        show_points(what, place.cache, as_json=as_json)
        return
    raise typer.Exit(sweep_and_show(what, place, registry, as_json=as_json, quiet=quiet))
