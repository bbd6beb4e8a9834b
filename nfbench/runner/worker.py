"""A worker: does one job after the other, in this process or in one of an executor's."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nfbench.checkpoints import Checkpoint
from nfbench.core.errors import CorruptArtifact, NFBenchError
from nfbench.core.execution import Report
from nfbench.core.registry import Registry
from nfbench.leases import Leases
from nfbench.runner import jobs as kinds
from nfbench.runner.environment import environment_of
from nfbench.runner.shift import jobs_of
from nfbench.runner.workshop import Workshop
from nfbench.store import Artifact, Job, Key, Store

KEPT = 8
"""Artifacts that a worker remembers; most jobs need what the one before them made."""


@dataclass(eq=False)
class Worker:
    """Makes artifacts that the store lacks."""

    store: Store
    shop: Workshop
    environment: Mapping[str, Any]
    leases: Leases
    _recent: dict[Key, Artifact] = field(default_factory=dict)

    @classmethod
    def here(cls, store: Store, shop: Workshop, environment: Mapping[str, Any]) -> Worker:
        return cls(store, shop, environment, Leases(store.leases))

    def perform(
        self, job: Job, jobs: Mapping[Key, Job], advanced: Callable[[float], None] = lambda _share: None
    ) -> Report:
        """Make the artifact of `job`, unless it is there or somebody else is at it.

        Args:
            job: what to make.
            jobs: at least those it needs, by key.
            advanced: called with the share that is done.
        """

        def tick(share: float) -> None:
            self.leases.tick(share)
            advanced(share)

        self.shop.tick = tick
        with self.leases.take(job.key, job.label, self.shop.device) as mine:
            if not mine:
                return Report(job.key, "busy")
            if job.key in self.store:
                return Report(job.key, "present")
            return self._make(job, jobs)

    def _make(self, job: Job, jobs: Mapping[Key, Job]) -> Report:
        start = time.perf_counter()
        checkpoint = Checkpoint(self.store.unfinished / f"{job.key}.safetensors", self._versions)
        self.shop.checkpoint = checkpoint
        try:
            inputs = {}
            for need in job.needs:
                try:
                    inputs[need] = self._get(need)
                except CorruptArtifact as error:
                    return Report(job.key, "damaged", reason=str(error), about=need)
            artifact = kinds.run(job, jobs, inputs, self.shop)
        except Exception as error:  # a failed job must not take the others with it
            return _failed(job, error)
        seconds = time.perf_counter() - start
        try:
            self.store.put(job, artifact, {"seconds": seconds, "environment": dict(self.environment)})
        except OSError as error:
            reason = (
                f"{job.label}: can't write to the cache {self.store.root}: {error.strerror or error}; "
                "what is finished is kept, make room and run again"
            )
            return Report(job.key, "unwritable", reason=reason, traceback=traceback.format_exc())
        checkpoint.clear()
        self._keep(job.key, artifact)
        return Report(job.key, "made", seconds)

    @property
    def _versions(self) -> str:
        """What a checkpoint must have been made by; which of several equal devices is the same."""
        told = {k: v for k, v in self.environment.items() if not k.startswith("git_")}
        return json.dumps(told | {"device": self.shop.device.partition(":")[0]}, sort_keys=True)

    def _get(self, key: Key) -> Artifact:
        if key not in self._recent:
            self._keep(key, self.store.get(key))
        return self._recent[key]

    def forget(self, key: Key) -> None:
        """Read it again next time."""
        self._recent.pop(key, None)

    def _keep(self, key: Key, artifact: Artifact) -> None:
        self._recent[key] = artifact
        while len(self._recent) > KEPT:
            del self._recent[next(iter(self._recent))]


def _failed(job: Job, error: Exception) -> Report:
    """One line: which job, and what went wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "" if isinstance(error, NFBenchError) else f"{type(error).__name__}: "
    reason = f"{job.label}: {kind}{text}"
    return Report(job.key, "failed", reason=reason, traceback=traceback.format_exc())


def site_of(store: Store, shop: Workshop) -> str:
    """What workers elsewhere must know besides their tasks.

    Raises:
        UsageError: if a plugin was given as an object that they can't import.
    """
    return json.dumps(
        {
            "worker": f"{__name__}:{perform.__name__}",
            "store": str(store.root.absolute()),
            "data_dir": shop.data_dir and str(shop.data_dir.absolute()),
            "weights": shop.weights and str(shop.weights.absolute()),
            "registry": shop.registry.portable(),
            "cwd": str(Path.cwd()),
        }
    )


def perform(site: str, payload: str, device: str) -> Report:
    """Do a task in this process, whose data and artifacts are kept for the next one."""
    job, needs = jobs_of(payload)
    return _worker(site, device).perform(job, needs)


@cache
def _worker(site: str, device: str) -> Worker:
    """The worker of this process; it keeps data and artifacts from one task to the next."""
    told = json.loads(site)
    if told["cwd"] not in sys.path and Path(told["cwd"]).is_dir():
        sys.path.insert(0, told["cwd"])  # where classes named by address may lie
        os.chdir(told["cwd"])
    made = told["registry"]
    modules = [importlib.import_module(name) for name in made["modules"]]
    registry = Registry.load(*modules, entry_points=made["entry_points"], block=made["block"])
    data_dir, weights = (told[name] and Path(told[name]) for name in ("data_dir", "weights"))
    shop = Workshop(registry, device, data_dir, weights)
    return Worker.here(Store(Path(told["store"])), shop, environment_of(device))
