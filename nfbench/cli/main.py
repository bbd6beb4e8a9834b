"""The commands. Each parses, calls one function below, and prints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench import __version__
from nfbench.cli import boards, caching, flags, reproducing, results, statusing, sweeping
from nfbench.cli import options as opts
from nfbench.cli.console import headed, never_fail_to_encode, plain_console
from nfbench.cli.plugins import cache_of, crew_of, load, place_of, split_settings
from nfbench.core.errors import NFBenchError, UsageError
from nfbench.core.offers import KINDS
from nfbench.core.registry import Registry

if TYPE_CHECKING:
    from nfbench.runner.options import Options
    from nfbench.runner.plan import Plan

app = typer.Typer(
    help="Measure how well detectors of adversarial examples hold up against attacks that know them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = plain_console(stderr=True)
_ClickException: Any = typer.BadParameter.__mro__[2]  # of click itself or of the copy typer brings


def _say_version(value: bool) -> None:  # noqa: FBT001  # typer's callbacks are called like this
    if value:
        typer.echo(f"nfbench {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show it and exit.", is_eager=True, callback=_say_version)
]


@app.callback()
def _everywhere(version: Version = False) -> None:  # noqa: FBT002
    """Flags that go before the command; typer takes the help text from `app`."""


@app.command()
def run(  # noqa: PLR0913, PLR0917  # each is a flag
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
    shard: flags.Shard = None,
    statistic: flags.Statistic = None,
    plugin: flags.Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, run nothing.")] = False,  # noqa: FBT002
    as_json: flags.AsJson = False,  # noqa: FBT002
    quiet: flags.Quiet = False,  # noqa: FBT002
) -> None:
    """Train, attack, score and render; what is done already is reused.

    nfbench run --defense neuralfp --attacks all

    nfbench run -d neuralfp -a 'bim-*,pgd' --dataset mnist --data-dir data --eps 0.3 --limit 200
    """
    given = {k: v for k, v in locals().items() if k not in ("dry_run", "as_json", "quiet")}
    registry = load(plugin)
    options, file = opts.options_of(given)
    options, own = split_settings(options, registry)
    if dry_run:
        _show_plan(options, registry, cache_of(cache_dir, file), as_json=as_json)
        return
    from nfbench.cli.running import run_and_show

    place = place_of(given, file, crew_of(registry, given, own))
    raise typer.Exit(run_and_show(options, registry, place, as_json=as_json, quiet=quiet))


app.command()(sweeping.sweep)


@app.command()
def plan(  # noqa: PLR0913, PLR0917  # each is a flag
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
    cache_dir: flags.CacheDir = None,
    plugin: flags.Plugins = None,
    power: flags.Power = None,
    pilot: flags.Pilot = None,
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Show what `run` with the same flags would do, and how much of it is done already.

    nfbench plan --config leaderboards/digits.toml --power 0.02
    """
    given = {k: v for k, v in locals().items() if k not in ("as_json", "power", "pilot")}
    if pilot is not None and power is None:
        raise UsageError("--pilot goes with --power: it is what the spread is learnt from")
    options, file = opts.options_of(given)
    if power is not None:
        from nfbench.cli.powering import show_power
        from nfbench.session import plan_of

        show_power(plan_of(options, load(plugin)), power, pilot, as_json=as_json)
        return
    _show_plan(options, load(plugin), cache_of(cache_dir, file), as_json=as_json)


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; all if left out.")
    ] = None,
    plugin: flags.Plugins = None,
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """List the plugins there are, bundled and installed."""
    registry = load(plugin)
    kinds = [k for k in KINDS if kind is None or k == _singular(kind)]
    if not kinds:
        raise UsageError(f"no kind of plugin is called {kind!r}; kinds: {', '.join(KINDS)}")
    offers = [registry.offers[k][name] for k in kinds for name in registry.names(k)]
    if as_json:
        rows = [{"kind": o.kind, "name": o.name, "summary": o.summary, **o.provenance()} for o in offers]
        typer.echo(json.dumps(rows, indent=1))
        return
    from nfbench.cli.listing import show_offers

    show_offers(offers)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin's name, or package.module:Class.")],
    plugin: flags.Plugins = None,
    as_json: flags.AsJson = False,  # noqa: FBT002
) -> None:
    """Show a plugin: what it is, where it comes from, its hyperparameters and their defaults."""
    from nfbench.cli.listing import show_plugin

    show_plugin(load(plugin), name, as_json=as_json)


app.command()(reproducing.reproduce)
app.command()(reproducing.claims)
app.command()(results.report)
app.command()(statusing.status)
app.command()(results.submit)
app.command()(results.verify)
app.add_typer(boards.app, name="leaderboard")
app.add_typer(caching.app, name="cache")


@app.command("check-plugin")
def check_plugin(
    name: Annotated[str, typer.Argument(help="A plugin's name, or package.module:Class.")],
    data_dir: flags.DataDir = None,
    plugin: flags.Plugins = None,
) -> None:
    """Check that a plugin keeps its contract; says what failed and why."""
    from nfbench.cli.checking import check

    raise typer.Exit(check(load(plugin), name, data_dir))


@app.command()
def doctor(
    data_dir: flags.DataDir = None,
    cache_dir: flags.CacheDir = None,
    plugin: flags.Plugins = None,
) -> None:
    """Say what is installed, broken or missing, and which devices and data are there."""
    from nfbench.cli.checking import examine

    raise typer.Exit(examine(load(plugin, warn=False), data_dir, cache_of(cache_dir, {})))


def main() -> None:
    """Entry point: turns deliberate errors into one line and an exit code."""
    never_fail_to_encode()
    try:
        code = app(prog_name="nfbench", standalone_mode=False)
    except NFBenchError as error:
        _complain(str(error))
        code = error.exit_code
    except typer.Abort:
        _complain("interrupted")
        code = 130
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            _complain(error.format_message())
        code = error.exit_code
    sys.exit(code)


def _complain(message: str) -> None:
    err.print(headed("error:", "bold red", " ".join(message.split())))


def _show_plan(options: Options, registry: Registry, cache: Path, *, as_json: bool) -> None:
    from nfbench.cli.listing import show_plan
    from nfbench.session import plan_of
    from nfbench.store import Store

    unrolled: Plan = plan_of(options, registry)
    show_plan(unrolled, Store(cache), as_json=as_json)


def _singular(kind: str) -> str:
    kind = kind.lower().replace("_", "-")
    return kind if kind in KINDS else kind.removesuffix("s")


def command_line() -> str:
    """The command for result files: with the arguments as typed, however nfbench was started."""
    return shlex.join(["nfbench", *sys.argv[1:]])
