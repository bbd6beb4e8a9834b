"""An experiment at a scale, on its own data or on data that stand in: options of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from nfbench.core.draws import seed_of
from nfbench.core.errors import UsageError
from nfbench.reproduce.paper import Paper, Scale, overlaid
from nfbench.runner.options import Options

_TOP = ("limit", "train-limit", "seed", "vary", "budget")
_HYPER = {
    "training": ("epochs", "images", "precision"),
    "bim-a": ("steps",),
    "bim-b": ("steps",),
    "cw": ("steps", "binary_search_steps"),
    "cw-fp": ("steps", "binary_search_steps", "gamma2_steps"),
    "cw-fp-one": ("steps", "binary_search_steps"),
    "spsa": ("steps", "samples"),
    "pgd": ("steps", "restarts"),
    "pgd-l2": ("steps", "restarts"),
    "random-search": ("points",),
    "detector-breaker": ("budget",),
    "imagefolder": ("size",),
}
"""All that a scale may change: sizes, the width of one's own images among them, and the precision of
training."""
_RANGE = re.compile(r"^(.+=)(\d+)\.\.(\d+)$")


@dataclass(frozen=True)
class Settled:
    """An experiment as it is run."""

    paper: str
    name: str
    scale: Scale
    stand_in: str
    """The data that stand in for its own; empty if none do."""
    entries: Mapping[str, Any]
    """What a configuration file would have."""

    @property
    def dataset(self) -> str:
        return str(self.entries["dataset"])

    @property
    def vary(self) -> list[str]:
        """Lines of `nfbench sweep`; `a..b` is every whole number from a to b."""
        return [_spread(line) for line in self.entries.get("vary", ())]

    @property
    def sizes(self) -> dict[str, Any]:
        """Everything a scale may have changed, by the name a flag has."""
        found = {k: self.entries[k] for k in ("limit", "train-limit", "seed") if k in self.entries}
        for plugin, names in _HYPER.items():
            given = self.entries.get("set", {}).get(plugin, {})
            found |= {f"{plugin}.{name}": given[name] for name in names if name in given}
        return found

    @property
    def digest(self) -> str:
        """Identifies what is run: another one, another experiment."""
        text = json.dumps(self.entries, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]

    def options(self, data_dir: Path | None) -> Options:
        """What `nfbench run` would be asked for, sweeps aside."""
        entries = self.entries
        return Options(
            defense=_many(entries["defense"]),
            attacks=_many(entries["attacks"]),
            threat_model=_many(entries["threat-model"]),
            defender=_many(entries.get("defender", ["blackbox-defense"])),
            dataset=self.dataset,
            model=entries.get("model", ""),
            eps=_many(entries.get("eps", [])),
            limit=entries.get("limit"),
            train_limit=entries.get("train-limit"),
            seed=tuple(int(s) for s in _many(entries.get("seed", 0))),
            settings=entries.get("set", {}),
            data_dir=data_dir,
        )

    def drawn(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point of the sweep, with N drawn for it where the experiment draws N too."""
        if "random-number" not in self.entries:
            return dict(point)
        least, most = self.entries["random-number"]
        drawn = least + seed_of("number", *map(str, point.values())) % (most - least + 1)
        return {**point, "neuralfp.fingerprints": drawn}


def settle(paper: Paper, name: str, scale: Scale, data: str = "") -> Settled:
    """An experiment at a scale.

    Args:
        paper: whose it is.
        name: of the experiment.
        scale: which sizes.
        data: a dataset; it stands in if the experiment is about another.

    Raises:
        UsageError: if a scale would change more than sizes.
    """
    entries = paper.experiment_named(name)
    own = entries.pop("scale", {}).get(scale, {})
    stands_in = data if data and data != entries["dataset"] else ""
    for sizes in (paper.scale.get(scale, {}), own):
        require_sizes(sizes, f"{paper.id}: scale {scale} of {name}")
    if stands_in:
        entries = _replaced(entries, stands_in)
    entries = overlaid(entries, _of_use(paper.scale.get(scale, {}), entries))
    entries = overlaid(entries, {k: v for k, v in own.items() if not (stands_in and k == "set")})
    entries["set"] = {k: v for k, v in entries.get("set", {}).items() if k in _present(entries)}
    return Settled(paper.id, name, scale, stands_in, entries)


def require_sizes(entries: Mapping[str, Any], where: str) -> None:
    """Refuse what would change a formula, N, epsilon or the negatives.

    Raises:
        UsageError: naming it.
    """
    for key in entries:
        if key not in (*_TOP, "set"):
            raise UsageError(f"{where}: a scale may not change {key!r}")
    for plugin, values in entries.get("set", {}).items():
        for name in values:
            if name not in _HYPER.get(plugin, ()):
                raise UsageError(f"{where}: a scale may not change {plugin}.{name}")


def parameters(paper: Paper, study: str, scale: Scale) -> dict[str, Any]:
    """The parameters of a study at a scale."""
    entries = dict(paper.study[study])
    scales = entries.pop("scale", {})
    return overlaid(entries, scales.get(scale, {}))


def _replaced(entries: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The experiment on other data: their network, training and budget of pixels."""
    found = dict(entries)
    found["set"] = {k: v for k, v in entries.get("set", {}).items() if k != "training"}
    found["eps"] = [one for one in _many(entries.get("eps", [])) if not one.startswith("l0=")]
    found |= {"dataset": data, "model": ""}
    return found


def _of_use(sizes: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes without those of plugins that are not part of the experiment."""
    present = _present(entries)
    named = {plugin: values for plugin, values in sizes.get("set", {}).items() if plugin in present}
    return {**sizes, "set": named}


def _present(entries: Mapping[str, Any]) -> set[str]:
    """The plugins that an experiment has; another that it takes over from may have others."""
    names = ("attacks", "defense", "threat-model", "model", "dataset")
    return {"training", *(one for name in names for one in _many(entries[name]))}


def _spread(line: str) -> str:
    found = _RANGE.match(line)
    if found is None:
        return line
    head, first, last = found.groups()
    return head + ",".join(map(str, range(int(first), int(last) + 1)))


def _many(value: Any) -> list[str]:
    return [str(one) for one in _flat(value)]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    else:
        yield value
