"""Where jobs run: data, networks and plugins, brought to life from the plain data of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from nfbench.checkpoints import Checkpoint
from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Dataset, Facts, Splits
from nfbench.core.defense import Defense, Detector
from nfbench.core.offers import Kind
from nfbench.core.registry import Registry
from nfbench.core.values import Split
from nfbench.runner.learning import chosen, disjoint
from nfbench.runner.networks import build_network, load_weights
from nfbench.runner.spec import load_factory
from nfbench.store import Artifact, Key

Inputs: TypeAlias = Mapping[Key, Artifact]


@dataclass
class Workshop:
    """Where jobs run: what they share that is not part of any recipe."""

    registry: Registry
    device: str = "cpu"
    data_dir: Path | None = None
    weights: Path | None = None
    tick: Callable[[float], None] = lambda _share: None
    """Called with the share of the running job that is done."""
    say: Callable[[str], None] = lambda _line: None
    """Called with what a person should know before a long job starts."""
    checkpoint: Checkpoint | None = None
    """Where the running job may keep what it has so far."""
    _splits: dict[str, Splits] = field(default_factory=dict)
    _disjoint: dict[str, Split] = field(default_factory=dict)

    def build(self, kind: Kind, identity: Mapping[str, Any]) -> Any:
        """The recipe that plain data describes."""
        params = {k: v for k, v in identity.items() if k not in ("plugin", "source", "name", "version")}
        return self.registry.find(kind, identity["plugin"]).load().from_params(params)

    def dataset(self, recipe: Mapping[str, Any]) -> Dataset:
        return cast("Dataset", self.build("dataset", recipe["dataset"]))

    def splits(self, recipe: Mapping[str, Any]) -> Splits:
        """The data of a recipe, read once."""
        if recipe["digest"] not in self._splits:
            self._splits = {recipe["digest"]: self.dataset(recipe).splits(self.data_dir)}
        return self._splits[recipe["digest"]]

    def test(self, recipe: Mapping[str, Any]) -> Split:
        """The test images a recipe attempts, on the device."""
        test = self.splits(recipe).test
        return test.take(torch.arange(len(test)) < recipe["limit"]).to(self.device)

    def train(self, recipe: Mapping[str, Any]) -> Split:
        """The training images that nothing is judged by."""
        if recipe["digest"] not in self._disjoint:
            self._disjoint = {recipe["digest"]: disjoint(self.splits(recipe))}
        return self._disjoint[recipe["digest"]]

    def attacked(self, recipe: Mapping[str, Any]) -> Split:
        """The images that a craft job attacks if they are classified correctly, on the device."""
        if recipe["split"] == "test":
            return self.test(recipe)
        return chosen(self.train(recipe), recipe["limit"], recipe["seed"]).to(self.device)

    def network(self, identity: Mapping[str, Any], facts: Facts) -> tuple[nn.Module, bool]:
        """A network, and whether it is trained already."""
        if "plugin" in identity:
            model = self.build("model", identity)
            make = partial(model.build, facts.shape, facts.num_classes)
            return build_network(make, facts, str(identity["plugin"])), False
        name = str(identity["factory"])
        network = build_network(load_factory(name), facts, name)
        given = bool(identity.get("weights"))
        load_weights(network, self.weights if given else None)
        return network, given

    def classifier(self, job: Mapping[str, Any], artifact: Artifact) -> Classifier:
        """The trained classifier that a train job left."""
        facts = self.dataset(job).describe(self.data_dir)
        network, _ = self.network(job["model"], facts)
        network.load_state_dict(dict(artifact.tensors))
        classifier = Classifier(network, facts.num_classes).eval().requires_grad_(requires_grad=False)
        return classifier.to(self.device)

    def detector(self, recipe: Mapping[str, Any], classifier: Classifier, fitted: Artifact) -> Detector:
        """The detector that a fit job left."""
        defense = cast("Defense", self.build("defense", recipe["defense"]))
        detector = defense.detector(classifier, dict(fitted.tensors))
        return detector.eval().requires_grad_(requires_grad=False).to(self.device)
