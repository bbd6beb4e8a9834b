"""The commands. Each parses, calls one function below, and prints."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nfbench.cli import options as opts
from nfbench.core.errors import NFBenchError, UsageError
from nfbench.core.registry import KINDS, Registry

if TYPE_CHECKING:
    from nfbench.runner.plan import Plan
    from nfbench.runner.spec import Options

app = typer.Typer(
    help="Measure how well detectors of adversarial examples hold up against attacks that know them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True, soft_wrap=True)


def _option(*names: str, env: str, text: str) -> Any:
    return typer.Option(*names, envvar=f"NFBENCH_{env}", help=text, show_default=False)


Defense = Annotated[
    list[str] | None,
    _option("--defense", "-d", env="DEFENSE", text="Defenses: names, all, globs, !name, package:Class."),
]
Attacks = Annotated[
    list[str] | None, _option("--attacks", "-a", env="ATTACKS", text="Attacks, likewise. [default: all]")
]
Threats = Annotated[
    list[str] | None,
    _option(
        "--threat-model",
        "-t",
        env="THREAT_MODEL",
        text="Threat models, likewise. [default: partial-whitebox, adaptive-whitebox]",
    ),
]
Dataset = Annotated[
    str | None,
    _option("--dataset", env="DATASET", text="A dataset's name, or a file.npz. [default: digits]"),
]
Model = Annotated[
    str | None,
    _option("--model", env="MODEL", text="An architecture, or package.module:factory. [the dataset's]"),
]
Weights = Annotated[
    Path | None,
    _option("--weights", env="WEIGHTS", text="Safetensors for the factory's network; not trained then."),
]
Eps = Annotated[
    list[str] | None,
    _option("--eps", env="EPS", text="Radius: 0.1 or 8/255 (L-inf), l2=0.5, l0=20. [the dataset's]"),
]
Limit = Annotated[
    int | None, _option("--limit", env="LIMIT", text="Test images attempted. [the dataset's]")
]
Seed = Annotated[list[str] | None, _option("--seed", env="SEED", text="One or more seeds. [default: 0]")]
Setting = Annotated[
    list[str] | None,
    _option("--set", env="SET", text="A hyperparameter: neuralfp.fingerprints=20, training.epochs=3."),
]
DataDir = Annotated[
    Path | None, _option("--data-dir", env="DATA_DIR", text="Where dataset files lie.")
]
Config = Annotated[
    Path | None, _option("--config", "-c", env="CONFIG", text="A TOML file whose keys are these flags.")
]
Out = Annotated[
    Path | None, _option("--out", "-o", env="OUT", text="The run directory. [default: runs/…]")
]
CacheDir = Annotated[
    Path | None, _option("--cache-dir", env="CACHE_DIR", text="Artifacts shared by all runs.")
]
Device = Annotated[
    str | None, _option("--device", env="DEVICE", text="cpu, cuda, cuda:1. [default: a GPU if any]")
]
Plugins = Annotated[
    list[str] | None,
    _option("--plugin", "-p", env="PLUGINS", text="no:NAME switches a plugin or distribution off."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def run(  # noqa: PLR0913, PLR0917  # each is a flag
    defense: Defense = None,
    attacks: Attacks = None,
    threat_model: Threats = None,
    dataset: Dataset = None,
    model: Model = None,
    weights: Weights = None,
    eps: Eps = None,
    limit: Limit = None,
    seed: Seed = None,
    setting: Setting = None,
    data_dir: DataDir = None,
    config: Config = None,
    out: Out = None,
    cache_dir: CacheDir = None,
    device: Device = None,
    plugin: Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, run nothing.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Train, attack, score and render; what is done already is reused.

    nfbench run --defense neuralfp --attacks all

    nfbench run -d neuralfp -a 'bim-*,pgd' --dataset mnist --data-dir data --eps 0.3 --limit 200
    """
    flags = {k: v for k, v in locals().items() if k not in ("dry_run", "as_json", "quiet")}
    registry = _registry(plugin)
    options, file = _options(flags)
    if dry_run:
        _show_plan(options, registry, _cache(cache_dir, file), as_json=as_json)
        return
    from nfbench.cli.running import run_and_show

    target = out or (Path(file["out"]) if "out" in file else None)
    code = run_and_show(
        options,
        registry,
        out=target,
        cache=_cache(cache_dir, file),
        device=device or file.get("device", "auto"),
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(code)


@app.command()
def plan(  # noqa: PLR0913, PLR0917  # each is a flag
    defense: Defense = None,
    attacks: Attacks = None,
    threat_model: Threats = None,
    dataset: Dataset = None,
    model: Model = None,
    weights: Weights = None,
    eps: Eps = None,
    limit: Limit = None,
    seed: Seed = None,
    setting: Setting = None,
    data_dir: DataDir = None,
    config: Config = None,
    cache_dir: CacheDir = None,
    plugin: Plugins = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show what `run` with the same flags would do, and how much of it is done already."""
    flags = {k: v for k, v in locals().items() if k != "as_json"}
    options, file = _options(flags)
    _show_plan(options, _registry(plugin), _cache(cache_dir, file), as_json=as_json)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; all if left out.")] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the plugins there are, bundled and installed."""
    registry = _registry(plugin)
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
    plugin: Plugins = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show a plugin: what it is, where it comes from, its hyperparameters and their defaults."""
    from nfbench.cli.listing import show_plugin

    show_plugin(_registry(plugin), name, as_json=as_json)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A run directory.")],
    statistic: Annotated[
        str, typer.Option(help="auroc_worst, auroc_returned or auroc_successes.")
    ] = "auroc_worst",
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Render a run again from its files alone."""
    from nfbench.cli.running import render_again

    render_again(run_dir, statistic, as_json=as_json)


@app.command("check-plugin")
def check_plugin(
    name: Annotated[str, typer.Argument(help="A plugin's name, or package.module:Class.")],
    plugin: Plugins = None,
) -> None:
    """Check that a plugin keeps its contract; says what failed and why."""
    from nfbench.cli.checking import check

    raise typer.Exit(check(_registry(plugin), name))


@app.command()
def doctor(
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    plugin: Plugins = None,
) -> None:
    """Say what is installed, broken or missing, and which devices and data are there."""
    from nfbench.cli.checking import examine

    raise typer.Exit(examine(_registry(plugin, warn=False), data_dir, _cache(cache_dir, {})))


def main() -> None:
    """Entry point: turns deliberate errors into one line and an exit code."""
    try:
        app(standalone_mode=True)
    except NFBenchError as error:
        err.print(f"[bold red]error[/bold red] {_escaped(str(error))}", highlight=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)


def _registry(plugin: list[str] | None, *, warn: bool = True) -> Registry:
    blocked = []
    for value in opts.many(plugin, None):
        if not value.startswith("no:"):
            raise UsageError(f"-p {value}: expected no:NAME")
        blocked.append(value.removeprefix("no:"))
    registry = Registry.load(block=blocked)
    if warn:
        for reason in registry.broken.values():
            err.print(f"[yellow]warning[/yellow] {_escaped(reason)}", highlight=False)
    return registry


def _options(flags: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """`Options` from flags over environment (typer has merged them) over the file over defaults."""
    from nfbench.runner.spec import DEFAULT_THREAT_MODELS, Options, parse_settings

    file = opts.read_config(flags["config"])
    flag_settings = parse_settings(flags["setting"] or [])
    data_dir, weights = flags["data_dir"] or file.get("data-dir"), flags["weights"] or file.get("weights")
    limit = flags["limit"]
    return Options(
        defense=opts.many(flags["defense"], file.get("defense")),
        attacks=opts.many(flags["attacks"], file.get("attacks", "all")),
        threat_model=opts.many(
            flags["threat_model"], file.get("threat-model", list(DEFAULT_THREAT_MODELS))
        ),
        dataset=flags["dataset"] or file.get("dataset", "digits"),
        model=flags["model"] or file.get("model", ""),
        weights=Path(weights) if weights else None,
        eps=opts.many(flags["eps"], file.get("eps")),
        limit=file.get("limit") if limit is None else limit,
        seed=opts.seeds(opts.many(flags["seed"], file.get("seed", "0"))),
        settings=opts.merge_settings(file.get("set", {}), flag_settings),
        data_dir=Path(data_dir) if data_dir else None,
    ), file


def _show_plan(options: Options, registry: Registry, cache: Path, *, as_json: bool) -> None:
    from nfbench.cli.listing import show_plan
    from nfbench.session import plan_of
    from nfbench.store import Store

    unrolled: Plan = plan_of(options, registry)
    show_plan(unrolled, Store(cache), as_json=as_json)


def _cache(flag: Path | None, file: Mapping[str, Any]) -> Path:
    from platformdirs import user_cache_path

    return flag or Path(file.get("cache-dir") or user_cache_path("nfbench"))


def _singular(kind: str) -> str:
    kind = kind.lower().replace("_", "-")
    return kind if kind in KINDS else kind.removesuffix("s")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def command_line() -> str:
    """The command as it was typed, for result files."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


