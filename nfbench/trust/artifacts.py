"""Artifacts that results were computed from: where they lie, and copying them into a fresh store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import reason, strict_json
from nfbench.runner.plan import Cell, Plan
from nfbench.store import Artifact, Key, Store
from nfbench.trust.means import Means, needed

Found: TypeAlias = tuple[Artifact, Mapping[str, Any]]
"""An artifact and its provenance."""
Read: TypeAlias = Callable[[Key], Found]


class Missing(UsageError):
    """An artifact is not where it was looked for."""


def cached(store: Store) -> Read:
    """Reads from a cache."""

    def read(key: Key) -> Found:
        if key not in store:
            raise Missing(f"{store.root} has no artifact {key}")
        return store.get(key), store.manifest(key)["provenance"]

    return read


def unpacked(folder: Path) -> Read:
    """Reads from an archive that was unpacked into `folder`."""
    from safetensors.torch import load

    def read(key: Key) -> Found:
        home = folder / "artifacts" / key
        if not (home / "manifest.json").is_file() or not (home / "tensors.safetensors").is_file():
            raise Missing(f"the archive has no artifact {key}")
        manifest = strict_json((home / "manifest.json").read_bytes(), f"artifact {key}")
        try:
            info, provenance = dict(manifest["info"]), dict(manifest["provenance"])
            return Artifact(load((home / "tensors.safetensors").read_bytes()), info), provenance
        except Exception as error:  # headers that lie raise whatever they lead to
            raise CorruptArtifact(f"artifact {key} in the archive is damaged: {reason(error)}") from None

    return read


def source(means: Means, folder: Path | None) -> Read:
    """Where artifacts come from: an unpacked archive, or the cache.

    Raises:
        Missing: if there is neither.
        UsageError: if the cache that was named is not there.
    """
    if folder is not None:
        return unpacked(folder)
    if means.cache is None:
        raise Missing("there is no cache that the artifacts could be in: give --cache-dir or --archive")
    if not means.cache.is_dir():
        raise UsageError(f"there is no cache {means.cache}: give another --cache-dir, or --archive")
    return cached(Store(means.cache))


def gather(plan: Plan, cells: Iterable[Cell], read: Read, into: Store) -> None:
    """Copy what re-scoring `cells` takes.

    Raises:
        Missing: naming the first cell and artifact that is not there.
        CorruptArtifact: if one is damaged.
    """
    for cell in cells:
        for key in needed(plan, cell):
            if key in into:
                continue
            try:
                artifact, provenance = read(key)
                into.put(plan.jobs[key], artifact, provenance)
            except Missing as error:
                label = plan.jobs[key].label
                raise Missing(f"{cell.name} can't be re-scored: {error} ({label})") from None
            except (TypeError, ValueError) as error:
                raise CorruptArtifact(f"artifact {key} of {cell.name} is damaged: {error}") from None


def scratch() -> TemporaryDirectory[str]:
    """A directory for artifacts that are gone when the check is over."""
    return TemporaryDirectory(prefix="nfbench-")
