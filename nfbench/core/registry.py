"""The registry: which plugins exist, by kind and name. Built once, never changed, never global."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any

import pluggy

from nfbench.core import hookspecs
from nfbench.core.errors import BrokenPlugin, UnknownPlugin, UsageError
from nfbench.core.offers import HOOKS, KINDS, Kind, Offer, by_address, offer_of
from nfbench.core.recipe import did_you_mean

GROUP = "nfbench"


@dataclass(frozen=True, eq=False)
class Registry:
    """Offers by kind and name, and what went wrong while they were collected."""

    offers: Mapping[Kind, Mapping[str, Offer]]
    broken: Mapping[tuple[str, str], str]
    """Plugins that can't be used: (kind or "plugin", name) to the reason, one line."""
    hooks: pluggy.HookRelay
    made_of: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, *plugins: object, entry_points: bool = True, block: Iterable[str] = ()) -> Registry:
        """Collect what installed distributions and `plugins` (modules or objects) offer.

        One broken plugin never stops the rest: it is listed in `broken`. `block` names entry points,
        distributions or plugins to leave out.

        Raises:
            UsageError: if nothing is called what `block` names.
        """
        autoload = entry_points and os.environ.get("NFBENCH_DISABLE_PLUGIN_AUTOLOAD", "") in ("", "0")
        collector = _Collector(set(block), unseen=not autoload)
        for point in _entry_points() if autoload else ():
            collector.add_entry_point(point)
        for plugin in plugins:
            name = getattr(plugin, "__name__", type(plugin).__name__)
            while collector.manager.has_plugin(name):
                name += "'"
            collector.add(plugin, name, ("(given)", "0"))
        given = [plugin.__name__ if isinstance(plugin, ModuleType) else None for plugin in plugins]
        return collector.finish(
            {"modules": given, "entry_points": autoload, "block": sorted(collector.block)}
        )

    def portable(self) -> Mapping[str, Any]:
        """What another process loads the same plugins from.

        Raises:
            UsageError: if a plugin was given as an object, which only this process has.
        """
        if None in self.made_of["modules"]:
            raise UsageError("a plugin that is an object, not a module, can't run in another process")
        return self.made_of

    def names(self, kind: Kind) -> list[str]:
        """Registered names of a kind, in alphabetical order."""
        return sorted(self.offers[kind])

    def find(self, kind: Kind, name: str) -> Offer:
        """The offer called `name`, or the class at `package.module:Class`.

        Raises:
            UnknownPlugin: if there is none, naming the nearest.
            BrokenPlugin: if it is registered and can't be used.
        """
        if ":" in name:
            return by_address(kind, name)
        if (reason := self.broken.get((kind, name)) or self.broken.get(("plugin", name))) is not None:
            raise BrokenPlugin(reason)
        if name not in self.offers[kind]:
            known = self.names(kind)
            raise UnknownPlugin(
                f"no {kind} is called {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
            )
        return self.offers[kind][name]

    def select(self, kind: Kind, patterns: Sequence[str]) -> list[str]:
        """Names that match: exact ones, `all`, globs like `bim-*`, and `!name` to leave out."""
        chosen: list[str] = []
        for pattern in patterns:
            if pattern.startswith("!"):
                unwanted = set(self._matching(kind, pattern[1:]))
                chosen = [n for n in chosen or self.names(kind) if n not in unwanted]
            else:
                chosen += [n for n in self._matching(kind, pattern) if n not in chosen]
        if not chosen:
            raise UsageError(f"no {kind} is left of {', '.join(patterns) or 'an empty list'}")
        return chosen

    def _matching(self, kind: Kind, pattern: str) -> list[str]:
        pattern = "*" if pattern == "all" else pattern
        if not any(c in pattern for c in "*?["):
            self.find(kind, pattern)
            return [pattern]
        found = fnmatch.filter(self.names(kind), pattern)
        if not found:
            known = ", ".join(self.names(kind))
            raise UnknownPlugin(f"no {kind} matches {pattern!r} (known: {known})")
        return found


class _Collector:
    """Gathers offers plugin by plugin, keeping what is broken apart."""

    def __init__(self, block: set[str], *, unseen: bool) -> None:
        self.block, self.met = block, set[str]()
        self.unseen = unseen
        """Whether there may be plugins that were not met: of a module blocked, broken or not loaded."""
        self.manager = pluggy.PluginManager("nfbench")
        self.manager.add_hookspecs(hookspecs)
        self.offers: dict[Kind, dict[str, Offer]] = {kind: {} for kind in KINDS}
        self.broken: dict[tuple[str, str], str] = {}

    def add_entry_point(self, point: EntryPoint) -> None:
        dist = point.dist
        name = dist.metadata["Name"] if dist else "unknown"
        owner = name, dist.version if dist else "0"
        self.met |= {point.name, name}
        if self.block & {point.name, name}:
            self.unseen = True
            return
        try:
            plugin = point.load()
        except Exception as error:  # whatever a stranger's module raises when imported
            self._fail(point.name, f"plugin {point.name!r} of {owner[0]} {owner[1]}", error)
            return
        self.add(plugin, point.name, owner)

    def add(self, plugin: object, name: str, owner: tuple[str, str]) -> None:
        label = f"plugin {name!r} of {owner[0]} {owner[1]}"
        try:
            self.manager.register(plugin, name)
            self._check_hook_names(plugin)
            offers = []
            for kind, hook in HOOKS.items():
                implementation = getattr(plugin, hook, None)
                offers += [
                    offer_of(kind, one, owner) for one in (implementation() if implementation else ())
                ]
            for offer in offers:
                self._accept(offer)
        except Exception as error:  # as above: one broken plugin must not stop the rest
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            self._fail(name, label, error)

    def _check_hook_names(self, plugin: object) -> None:
        known = {name for name in vars(hookspecs) if name.startswith("nfbench_")}
        for name in dir(plugin):
            if name.startswith("nfbench_") and name not in known and callable(getattr(plugin, name)):
                raise UsageError(f"it implements the unknown hook {name!r}{did_you_mean(name, known)}")

    def _accept(self, offer: Offer) -> None:
        self.met.add(offer.name)
        if self.block & {offer.name}:
            return
        other = self.offers[offer.kind].get(offer.name)
        if other is not None and other.target != offer.target:
            self.broken[offer.kind, offer.name] = (
                f"two plugins offer the {offer.kind} {offer.name!r}: {other.target} of "
                f"{other.distribution} and {offer.target} of {offer.distribution}; "
                f"switch one off with `-p no:{offer.distribution}`"
            )
            return
        self.offers[offer.kind][offer.name] = offer

    def _fail(self, name: str, label: str, error: Exception) -> None:
        self.unseen = True
        cause = str(error).splitlines()[0] if str(error) else ""
        self.broken["plugin", name] = f"{label} can't be loaded: {type(error).__name__}: {cause}"

    def finish(self, made_of: Mapping[str, Any]) -> Registry:
        for name in () if self.unseen else sorted(self.block - self.met):
            raise UsageError(f"-p no:{name}: nothing is called {name!r}{did_you_mean(name, self.met)}")
        for kind, found in self.offers.items():
            for name in [name for name in found if (kind, name) in self.broken]:
                del found[name]
        frozen = {kind: MappingProxyType(found) for kind, found in self.offers.items()}
        return Registry(
            MappingProxyType(frozen), MappingProxyType(self.broken), self.manager.hook, made_of
        )


def _entry_points() -> list[EntryPoint]:
    """Entry points of the group, each once, in a stable order."""
    unique = {(p.name, p.value): p for p in entry_points(group=GROUP)}
    return [unique[key] for key in sorted(unique)]
