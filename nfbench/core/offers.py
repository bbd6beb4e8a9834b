"""Offers: what plugins there are to be loaded, of which kind, and what a class must be to be one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nfbench.core.errors import BrokenPlugin
from nfbench.core.hookspecs import Entry
from nfbench.core.recipe import Recipe

Kind = Literal["defense", "attack", "threat-model", "dataset", "model", "executor"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_IDENTITY = ("name", "plugin", "source", "version")
"""What identifies a plugin in job keys and result files, beside its hyperparameters."""
HOOKS: Mapping[Kind, str] = {
    "defense": "nfbench_defenses",
    "attack": "nfbench_attacks",
    "threat-model": "nfbench_threat_models",
    "dataset": "nfbench_datasets",
    "model": "nfbench_models",
    "executor": "nfbench_executors",
}
_BASES: Mapping[Kind, str] = {
    "defense": "nfbench.core.defense:Defense",
    "attack": "nfbench.core.attack:Attack",
    "threat-model": "nfbench.core.threat:ThreatModel",
    "dataset": "nfbench.core.dataset:Dataset",
    "model": "nfbench.core.model:Model",
    "executor": "nfbench.core.execution:Executor",
}


@dataclass(frozen=True)
class Offer:
    """One plugin that is registered, and who offers it."""

    kind: Kind
    name: str
    target: str
    summary: str
    distribution: str
    version: str
    cls: type[Recipe] | None = field(default=None, compare=False)

    def load(self) -> type[Recipe]:
        """The plugin's class.

        Raises:
            BrokenPlugin: if it can't be imported, is of another kind or is not complete.
        """
        owner = f"{self.distribution} {self.version}"
        cls = self.cls or _load(self.kind, self.target, owner)
        reason = _incomplete(self.kind, cls)
        if not reason and self.name != cls.name:
            reason = f"calls itself {cls.name!r} and is registered as {self.name!r}"
        if reason:
            raise BrokenPlugin(f"{self.target} of {owner} {reason}")
        return cls

    def provenance(self) -> dict[str, str]:
        """Who made it, for result files."""
        return {"plugin": self.distribution, "version": self.version, "target": self.target}


def offer_of(kind: Kind, offered: Any, owner: tuple[str, str]) -> Offer:
    if isinstance(offered, Entry):
        return Offer(kind, offered.name, offered.target, offered.summary, *owner)
    if not (isinstance(offered, type) and issubclass(offered, _base(kind))):
        raise TypeError(f"{HOOKS[kind]} must return {_base(kind).__name__} classes, not {offered!r}")
    summary = (offered.__doc__ or "").strip().partition("\n")[0]
    target = f"{offered.__module__}:{offered.__qualname__}"
    if reason := _incomplete(kind, offered):
        raise TypeError(f"{target} {reason}")
    return Offer(kind, offered.name, target, summary, *owner, cls=offered)


def _base(kind: Kind) -> type[Recipe]:
    module, _, name = _BASES[kind].partition(":")
    base: type[Recipe] = getattr(importlib.import_module(module), name)
    return base


def _load(kind: Kind, target: str, owner: str) -> type[Recipe]:
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise BrokenPlugin(f"can't load {target} of {owner}: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, _base(kind))):
        raise BrokenPlugin(f"{target} of {owner} is no {_base(kind).__name__}")
    return found


def _incomplete(kind: Kind, cls: type[Recipe]) -> str:
    """What a class must have and lacks, or has and must not have; empty if nothing."""
    for taken in (name for name in _IDENTITY if name in cls.model_fields):
        own = f" (or, to set its {taken}, leave out the type)" if taken in Recipe.__class_vars__ else ""
        return f"has a hyperparameter {taken!r}, which identifies plugins: rename it{own}"
    methods = sorted(getattr(cls, "__abstractmethods__", ()))
    if methods:
        return f"does not implement {', '.join(methods)}"
    # A dataset may read its shape and classes from its files.
    needed = ("name",) if kind == "dataset" else sorted(_base(kind).__class_vars__)
    lacking = [name for name in needed if not hasattr(cls, name)]
    return f"does not set {', '.join(lacking)}" if lacking else ""


def by_address(kind: Kind, target: str) -> Offer:
    """An offer for a class that is named by its address rather than registered."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    cls = _load(kind, target, "your own code")
    return Offer(kind, getattr(cls, "name", target), target, "", "(address)", "0", cls=cls)
