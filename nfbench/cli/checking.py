"""`check-plugin` and `doctor`: does a plugin keep its contract, and is everything there to run it?"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console

from nfbench.cli.console import headed, plain_console
from nfbench.cli.listing import locate
from nfbench.core.errors import BrokenPlugin, DataMissing, NFBenchError, UsageError
from nfbench.core.offers import KINDS, Offer
from nfbench.core.recipe import Recipe
from nfbench.core.registry import Registry

if TYPE_CHECKING:
    from nfbench.core.dataset import Dataset

PACKAGES = (
    "torch",
    "torchvision",
    "foolbox",
    "adversarial-robustness-toolbox",
    "numpy",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "pluggy",
)
"""What nfbench and the bundled plugins cannot do without, as far as results depend on it."""
SCHEDULE = "digits"
"""The dataset whose defaults shorten a plugin's schedule while it is checked."""


def check(registry: Registry, name: str, data_dir: Path | None = None) -> int:
    """Check the plugins of a name, clause by clause, and say what came of it; the exit code.

    Raises:
        NFBenchError: if there is no such plugin, it can't be loaded, or its data is missing.
    """
    console = plain_console()
    failed = sum([_check_one(registry, offer, console, data_dir) for offer in locate(registry, name)])
    return 1 if failed else 0


def _check_one(registry: Registry, offer: Offer, console: Console, data_dir: Path | None) -> int:
    from nfbench.testing import checks

    recipe = _recipe(registry, offer)
    owner = f"({offer.distribution} {offer.version})"
    console.print(headed(f"{offer.kind} {recipe.name}", "bold", owner))
    failed = 0
    found = checks(recipe, data_dir)
    for number, clause in enumerate(found, 1):
        try:
            clause.run()
        except AssertionError as error:
            failed += 1
            console.print(headed("failed", "red", clause.title))
            console.print(f"       {error}")
            if clause.vital and number < len(found):
                console.print(
                    f"       {len(found) - number} further checks make no sense before that is right"
                )
                break
        else:
            console.print(headed("passed", "green", clause.title))
    verdict = (
        "keeps its contract" if not failed else f"breaks its contract in {failed} of {len(found)} points"
    )
    console.print(f"{recipe.name} {verdict}", style="red" if failed else "green")
    return failed


def _recipe(registry: Registry, offer: Offer) -> Recipe:
    """The plugin with its defaults, and the quick schedule where it has one."""
    cls = offer.load()
    try:
        dataset = cast("type[Dataset]", registry.find("dataset", SCHEDULE).load())
        quick = dataset.defaults.plugins.get(cls.name, {})
    except NFBenchError:
        quick = {}
    try:
        return cls.from_params({k: v for k, v in quick.items() if k in cls.model_fields})
    except UsageError as error:
        raise UsageError(
            f"{error}; {offer.name} can't be built without it: check it in a test of yours, "
            f"with nfbench.testing.check_{offer.kind.replace('-', '_')}"
        ) from None


def examine(registry: Registry, data_dir: Path | None, cache: Path) -> int:
    """Print one line a fact about this installation; the exit code."""
    console = plain_console()
    missing = _packages(console)
    if "torch" in missing:
        console.print("plugins  not looked at: they need torch")
        return 1
    _devices(console)
    broken = _plugins(registry, console)
    _data(registry, data_dir, console)
    writable = _cache(cache, console)
    if missing or not writable:
        return 1
    return BrokenPlugin.exit_code if broken else 0


def _packages(console: Console) -> list[str]:
    """Versions of what is installed; the names of what is not."""
    missing = []
    console.print(f"python   {platform.python_version()} ({platform.system()} {platform.machine()})")
    for package in ("nfbench", *PACKAGES):
        try:
            console.print(f"package  {package} {version(package)}")
        except PackageNotFoundError:
            console.print(f"package  {package} is MISSING: pip install {package}", style="red")
            missing.append(package)
    return missing


def _devices(console: Console) -> None:
    import torch

    cores = os.cpu_count()
    console.print(f"device   cpu: {cores} cores, {torch.get_num_threads()} threads (jobs use 1)")
    if not torch.cuda.is_available():
        console.print("device   no CUDA device: everything runs on the CPU")
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        console.print(f"device   cuda:{number}: {device.name}, {device.total_memory / 2**30:.0f} GiB")


def _plugins(registry: Registry, console: Console) -> int:
    """What is registered and whether it loads; the number of broken plugins."""
    reasons = dict(registry.broken)
    for kind in KINDS:
        usable = []
        for name in registry.names(kind):
            try:
                registry.find(kind, name).load()
                usable.append(name)
            except Exception as error:  # whatever a stranger's module raises when imported
                reasons[kind, name] = " ".join(str(error).split())
        console.print(f"plugins  {len(usable)} of kind {kind}: {', '.join(usable) or 'none'}")
    for (what, name), reason in reasons.items():
        console.print(f"plugins  BROKEN {what} {name}: {reason}", style="red")
    return len(reasons)


def _data(registry: Registry, data_dir: Path | None, console: Console) -> None:
    """Whether each dataset can be read now, from files or because it is embedded."""
    for name in registry.names("dataset"):
        try:
            cls: Any = registry.find("dataset", name).load()
            recipe = cls.from_params({})
            with _offline():
                splits = recipe.splits(data_dir)
            sizes = ", ".join(f"{len(split)} {part}" for part, split in splits._asdict().items())
            console.print(f"data     {name}: ready ({sizes})")
        except DataMissing as error:
            console.print(f"data     {name}: not here ({str(error).removeprefix(f'{name}: ')})")
        except UsageError as error:
            console.print(f"data     {name}: can't be looked for without more ({error})")
        except Exception as error:  # a broken plugin, named above; or a dataset that is none
            console.print(
                f"data     {name}: can't be read ({type(error).__name__}: {error})", style="red"
            )


@contextmanager
def _offline() -> Iterator[None]:
    """Turn every attempt to reach the network into an error, so that nothing is downloaded."""

    def refuse(*_args: object, **_kwargs: object) -> Any:
        raise OSError("doctor does not use the network; run would try")

    kept = socket.getaddrinfo, socket.create_connection, socket.socket.connect
    socket.getaddrinfo = socket.create_connection = refuse
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.getaddrinfo, socket.create_connection = kept[:2]
        socket.socket.connect = kept[2]  # type: ignore[method-assign]


def _cache(cache: Path, console: Console) -> bool:
    """Where artifacts are kept; whether they can be."""
    from nfbench.store import FORMAT

    existing = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    size = (
        sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    )
    state = "writable" if writable else "NOT writable: set --cache-dir"
    kept = f"{size / 2**20:.1f} MiB" if cache.is_dir() else "not made yet"
    console.print(f"cache    {cache}: {kept}, {state}", style=None if writable else "red")
    for old in sorted(cache.glob("v*")):
        if old.is_dir() and old.name != f"v{FORMAT}":
            console.print(f"cache    {old} was written by another version of nfbench and is not used")
    return writable
