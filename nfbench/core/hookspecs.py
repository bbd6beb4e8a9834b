"""The hooks a plugin may implement. Imports no torch, so that listing plugins stays quick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from nfbench.core.attack import Attack
    from nfbench.core.dataset import Dataset
    from nfbench.core.defense import Defense
    from nfbench.core.execution import Executor
    from nfbench.core.model import Model
    from nfbench.core.threat import ThreatModel

hookspec = pluggy.HookspecMarker("nfbench")
hookimpl = pluggy.HookimplMarker("nfbench")


@dataclass(frozen=True)
class Entry:
    """A plugin class by address, loaded only when it is used.

    A module that offers entries instead of classes need not import torch to be listed.
    """

    name: str
    target: str
    """`package.module:Class`."""
    summary: str = ""


@hookspec
def nfbench_defenses() -> Iterable[Entry | type[Defense]]:  # type: ignore[empty-body]
    """Defenses this plugin offers. Called once, when the registry is loaded; order is irrelevant."""


@hookspec
def nfbench_attacks() -> Iterable[Entry | type[Attack]]:  # type: ignore[empty-body]
    """Attacks this plugin offers. Called once, when the registry is loaded."""


@hookspec
def nfbench_threat_models() -> Iterable[Entry | type[ThreatModel]]:  # type: ignore[empty-body]
    """Threat models this plugin offers. Called once, when the registry is loaded."""


@hookspec
def nfbench_datasets() -> Iterable[Entry | type[Dataset]]:  # type: ignore[empty-body]
    """Datasets this plugin offers. Called once, when the registry is loaded."""


@hookspec
def nfbench_models() -> Iterable[Entry | type[Model]]:  # type: ignore[empty-body]
    """Classifier architectures this plugin offers. Called once, when the registry is loaded."""


@hookspec
def nfbench_executors() -> Iterable[Entry | type[Executor]]:  # type: ignore[empty-body]
    """Executors this plugin offers. Called once, when the registry is loaded."""


@hookspec
def nfbench_job_finished(kind: str, key: str, seconds: float) -> None:
    """Called in the main process after each job that ran; observe only, nothing is done with results."""
