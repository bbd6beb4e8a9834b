"""What several commands begin with: the plugins there are, and where things lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nfbench.cli import options as opts
from nfbench.cli.console import headed, plain_console
from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry

if TYPE_CHECKING:
    from nfbench.core.execution import Executor
    from nfbench.runner.crew import Crew
    from nfbench.runner.options import Options
    from nfbench.session import Place


def load(plugin: list[str] | None, *, warn: bool = True) -> Registry:
    """Every plugin but those switched off; broken ones are warned of.

    Raises:
        UsageError: for a value of `--plugin` that switches nothing off.
    """
    blocked = []
    for value in opts.many(plugin, None):
        if not value.startswith("no:"):
            raise UsageError(f"-p {value}: expected no:NAME")
        blocked.append(value.removeprefix("no:"))
    registry = Registry.load(block=blocked)
    if warn:
        for reason in registry.broken.values():
            plain_console(stderr=True).print(headed("warning", "yellow", reason))
    return registry


def cache_of(flag: Path | None, file: Mapping[str, Any]) -> Path:
    """The cache that a flag, else a file, else the platform names."""
    from platformdirs import user_cache_path

    return flag or Path(file.get("cache-dir") or user_cache_path("nfbench"))


def crew_of(
    registry: Registry, given: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> Crew | None:
    """Who does the jobs, from the flags and what `--set` says of the executor; None for this process.

    Raises:
        NFBenchError: for an unknown executor, or a flag that it does not have.
    """
    names = ("devices", "jobs_per_device", "address")
    flags = {name: given.get(name) for name in names}
    wanted = {name: value for name, value in flags.items() if value is not None}
    implied = "ray" if "address" in wanted else "local" if wanted else ""
    name = given["executor"] or implied
    if not name and not settings:
        return None
    for other in settings.keys() - {name}:
        raise UsageError(f"--set {other}.…: goes with --executor {other}")
    from nfbench.runner.crew import Crew

    found = cast("type[Executor]", registry.find("executor", name).load())
    for flag in wanted.keys() - found.model_fields.keys():
        raise UsageError(f"--{flag.replace('_', '-')}: the executor {name} does not have it")
    if "devices" in wanted:
        wanted["devices"] = tuple(opts.many([wanted["devices"]], None))
    return Crew(found.from_params({**settings.get(name, {}), **wanted}))


def split_settings(options: Options, registry: Registry) -> tuple[Options, dict[str, Mapping[str, Any]]]:
    """Options without what they say of executors, which is no part of a run; and that."""
    own = {
        name: options.settings[name] for name in registry.names("executor") if name in options.settings
    }
    rest = {name: values for name, values in options.settings.items() if name not in own}
    return replace(options, settings=rest), own


def place_of(given: Mapping[str, Any], file: Mapping[str, Any], crew: Crew | None = None) -> Place:
    """Where a run happens and what its tables show: flags over a file over defaults."""
    from nfbench.runner.sharding import parse_shard
    from nfbench.session import Place

    target = given["out"] or (Path(file["out"]) if "out" in file else None)
    statistic = given["statistic"] or file.get("statistic", "auroc_worst")
    device = given["device"] or file.get("device", "auto")
    part = parse_shard(given["shard"]) if given.get("shard") else (1, 1)
    return Place(target, cache_of(given["cache_dir"], file), device, statistic, crew, part)
