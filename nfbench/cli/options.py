"""From flags, environment and a TOML file to `Options`: command line > environment > file > default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean

if TYPE_CHECKING:
    from nfbench.runner.options import Options

KEYS = {
    "defense": list,
    "attacks": list,
    "threat-model": list,
    "defender": list,
    "dataset": str,
    "model": str,
    "weights": str,
    "skip": list,
    "eps": list,
    "budget": str,
    "limit": int,
    "train-limit": int,
    "seed": list,
    "data-dir": str,
    "device": str,
    "out": str,
    "cache-dir": str,
    "statistic": str,
    "set": dict,
    "board": dict,
}
"""What a configuration file may say; the keys are the flags."""


_NAMES = {list: "list or a single value", str: "string", int: "whole number", dict: "table"}


def read_config(path: Path | None) -> dict[str, Any]:
    """A TOML file whose keys are flags, with `[set.<plugin>]` tables for hyperparameters.

    Raises:
        UsageError: if it can't be read, is no TOML, or says something unknown.
    """
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"can't read --config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is no valid TOML: {error}") from None
    for key, value in found.items():
        if key not in KEYS:
            raise UsageError(
                f"--config {path}: unknown key {key!r}{did_you_mean(key, KEYS)} "
                f"(known: {', '.join(KEYS)})"
            )
        wanted = KEYS[key]
        ok = isinstance(value, (list, str, int, float) if wanted is list else wanted)
        if not ok or isinstance(value, bool):
            raise UsageError(f"--config {path}: {key} = {value!r} should be a {_NAMES[wanted]}")
    return found


def many(values: Sequence[str] | None, fallback: Any) -> list[str]:
    """A list from repeated or comma-separated flags, or from the file."""
    chosen = values or fallback
    if chosen is None:
        return []
    if not isinstance(chosen, (list, tuple)):
        chosen = [chosen]
    return [part.strip() for value in chosen for part in str(value).split(",") if part.strip()]


def seeds(values: Sequence[str]) -> tuple[int, ...]:
    """Non-negative integers.

    Raises:
        UsageError: for anything else.
    """
    try:
        found = tuple(int(v) for v in values)
    except ValueError:
        raise UsageError(f"--seed {','.join(values)}: expected integers") from None
    if any(s < 0 for s in found):
        raise UsageError(f"--seed {','.join(values)}: seeds must not be negative")
    return found


def merge_settings(
    file: Mapping[str, Mapping[str, Any]], flags: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Hyperparameters of the file under those of the flags, which also come later.

    Raises:
        UsageError: if the file's `set` is not tables of hyperparameters.
    """
    merged: dict[str, dict[str, Any]] = {}
    for source in (file, flags):
        for plugin, values in source.items():
            if not isinstance(values, Mapping):
                raise UsageError(f"set.{plugin} should be a table, such as [set.neuralfp]")
            below = {k: v for k, v in merged.get(plugin, {}).items() if k not in values}
            merged[plugin] = {**below, **values}
    return merged


def spare(
    file: Mapping[str, Any], typed: Mapping[str, object], skip: Sequence[str] | None
) -> frozenset[str]:
    """What a file says of plugins and pairs that flags beside it have left out of the run."""
    pairs = [] if skip else many(None, file.get("skip"))
    return frozenset(file.get("set", {})) - frozenset(typed) | frozenset(pairs)


def options_of(given: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """`Options` from flags over environment (typer has merged them) over the file over defaults."""
    from nfbench.runner.literals import parse_settings
    from nfbench.runner.options import DEFAULT_THREAT_MODELS, DEFENDERS, Options

    file = read_config(given["config"])
    data_dir = _path(given["data_dir"] or file.get("data-dir"))
    dataset = given["dataset"] or file.get("dataset", "digits")
    if dataset.endswith(".npz"):
        dataset, data_dir = "npz", (data_dir or Path()) / Path(dataset).expanduser()
    threats = file.get("threat-model", list(DEFAULT_THREAT_MODELS))
    typed = parse_settings(given["setting"] or [])
    narrowed = any(given[flag] for flag in ("defense", "attacks", "threat_model", "dataset", "model"))
    return Options(
        defense=many(given["defense"], file.get("defense")),
        attacks=many(given["attacks"], file.get("attacks", "all")),
        threat_model=many(given["threat_model"], threats),
        defender=many(given["defender"], file.get("defender", DEFENDERS[0])),
        dataset=dataset,
        model=given["model"] or file.get("model", ""),
        weights=_path(given["weights"] or file.get("weights")),
        skip=many(given["skip"], file.get("skip")),
        eps=many(given["eps"], file.get("eps")),
        budget=given["budget"] or ("" if given["attacks"] else file.get("budget", "")),
        limit=file.get("limit") if given["limit"] is None else given["limit"],
        train_limit=file.get("train-limit") if given["train_limit"] is None else given["train_limit"],
        seed=seeds(many(given["seed"], file.get("seed", "0"))),
        settings=merge_settings(file.get("set", {}), typed),
        spare=spare(file, typed, given["skip"]) if narrowed else frozenset(),
        data_dir=data_dir,
    ), file


def _path(value: str | Path | None) -> Path | None:
    return Path(value).expanduser() if value else None
