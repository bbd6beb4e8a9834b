"""Submitting: one archive of results, images, and what it takes to score these again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.records import SCHEMA
from nfbench.report.run import Run
from nfbench.runner.plan import Plan
from nfbench.runner.spec import Chosen
from nfbench.store import Store
from nfbench.trust import breaks
from nfbench.trust.archive import SUFFIX, pack
from nfbench.trust.artifacts import Missing, scratch
from nfbench.trust.means import Means, needed, of_cells, planned
from nfbench.trust.opening import open_target


@dataclass(frozen=True)
class Packed:
    """An archive that was made."""

    path: Path
    sha256: str
    """Of its manifest, which stands for all that is in it."""
    cells: int
    bytes: int


def submit(run_dir: Path, means: Means, out: Path | None = None) -> Packed:
    """Pack a run directory, its breaks, and its artifacts from the cache; `verify` accepts the archive.

    Args:
        run_dir: what `run` left.
        means: the plugins and the cache that made it.
        out: the file to write; beside the run directory if None.

    Raises:
        UsageError: if it is no run directory, has no finished cell, or the cache lacks an artifact.
        CorruptArtifact: if a file is damaged, or the cache has other artifacts than it was made from.
        VerificationMismatch: if the results are not what their vectors amount to.
    """
    if run_dir.is_file():
        raise UsageError(f"{run_dir} is a file: give its directory, {run_dir.parent}")
    if not (run_dir / "results.jsonl").is_file():
        raise UsageError(f"{run_dir} is no run directory: it has no results.jsonl")
    if means.cache is None or not means.cache.is_dir():
        raise UsageError("there is no cache with the artifacts of the run: give --cache-dir")
    with scratch() as home:
        run = open_target(run_dir, Path(home)).run
    if not any(cell.finished for cell in run.cells):
        raise UsageError(f"{run_dir} has no finished cell to submit")
    plan, store = planned(run.info, means), Store(means.cache)
    keys = _keys(run, plan, store)
    path = out or run_dir.resolve().with_name(run_dir.resolve().name + SUFFIX)
    digest = pack(path, _members(run_dir, run, store, keys), _facts(run, plan))
    return Packed(path, digest, sum(cell.finished for cell in run.cells), path.stat().st_size)


def _keys(run: Run, plan: Plan, store: Store) -> list[str]:
    """The artifacts to pack, all of them there and the ones that the records name."""
    records, keys = {cell.cell: cell for cell in run.cells if cell.finished}, dict[str, None]()
    for cell in of_cells(plan, records).cells:
        for key in needed(plan, cell):
            if key not in store:
                label = plan.jobs[key].label
                raise Missing(
                    f"the cache {store.root} lacks what {cell.name} was computed from ({label}): run "
                    "the command of the run again"
                )
            keys[key] = None
        assert cell.score is not None
        assert cell.undefended is not None
        named = (*cell.crafts, cell.undefended, *plan.jobs[cell.score].needs[:2])
        found = [store.manifest(key)["sha256"] for key in named]
        if records[cell.name].inputs[1:] != found:
            raise CorruptArtifact(
                f"the cache {store.root} has other artifacts than {cell.name} was computed from: run "
                "the command of the run again"
            )
    return sorted(keys)


def _members(run_dir: Path, run: Run, store: Store, keys: list[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents, in alphabetical order."""
    for key in keys:
        manifest, tensors = _artifact(store, key)
        yield f"artifacts/{key}/manifest.json", manifest
        yield f"artifacts/{key}/tensors.safetensors", tensors
    broken = breaks.read_breaks(run_dir)
    if broken:
        yield breaks.FILE, (run_dir / breaks.FILE).read_bytes()
    for file in sorted({one.file for one in broken}):
        yield f"{breaks.FOLDER}/{file}", (run_dir / breaks.FOLDER / file).read_bytes()
    for name in ("gallery.safetensors", "results.jsonl", "run.json"):
        if (run_dir / name).is_file():
            yield name, (run_dir / name).read_bytes()
    for cell in sorted(cell.cell for cell in run.cells if cell.finished):
        yield f"samples/{cell}.safetensors", (run_dir / "samples" / f"{cell}.safetensors").read_bytes()


def _artifact(store: Store, key: str) -> tuple[bytes, bytes]:
    """Manifest and tensors of an artifact."""
    from safetensors.torch import save

    artifact, manifest = store.get(key), store.manifest(key)
    said = {name: manifest[name] for name in ("info", "job", "provenance", "sha256")}
    text = json.dumps(said, indent=1, sort_keys=True) + "\n"
    return text.encode(), save(dict(artifact.tensors))


def _facts(run: Run, plan: Plan) -> dict[str, Any]:
    """What it takes to check the archive."""
    spec = plan.spec
    chosen: list[Chosen[Any]] = [spec.dataset, *spec.defenses, *spec.attacks, *spec.threat_models]
    chosen += [spec.model] if isinstance(spec.model, Chosen) else []
    return {
        "schema_version": SCHEMA,
        "nfbench": version("nfbench"),
        "plan": plan.digest,
        "data_sha256": spec.data_digest,
        "distributions": {one.offer.distribution: one.offer.version for one in chosen},
        "cells": sum(cell.finished for cell in run.cells),
    }
