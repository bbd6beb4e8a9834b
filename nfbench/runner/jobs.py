"""What each kind of job does: from a recipe in plain data and its inputs to an artifact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Dataset, Facts, Splits, Training
from nfbench.core.defense import Defense, Detector, FitData, cross_entropy
from nfbench.core.draws import seed_of
from nfbench.core.errors import ContractViolation
from nfbench.core.registry import Kind, Registry
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Norm, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.attacking import (
    CALIBRATION_LEAST,
    Attempt,
    craft,
    measure,
    measure_noise,
    predict,
    scores,
)
from nfbench.runner.learning import chosen, disjoint, fit_data, positions
from nfbench.runner.negatives import benign_changes
from nfbench.runner.networks import build_network, load_weights
from nfbench.runner.spec import load_factory
from nfbench.runner.train import train
from nfbench.store import Artifact, Job, JobKind, Key

Inputs = Mapping[Key, Artifact]


@dataclass
class Workshop:
    """Where jobs run: what they share that is not part of any recipe."""

    registry: Registry
    device: str = "cpu"
    data_dir: Path | None = None
    weights: Path | None = None
    tick: Callable[[float], None] = lambda _share: None
    """Called with the share of the running job that is done."""
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
        load_weights(network, self.weights)
        return network, bool(identity.get("weights"))

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


def run(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    """Do `job`. Deterministic given its recipe: seeded, and on one thread on a CPU."""
    seed = seed_of(job.kind, job.recipe["seed"])
    with _pinned(), torch.random.fork_rng(devices=_devices(shop.device)):
        torch.manual_seed(seed)
        made = _RUN[job.kind](job, jobs, inputs, shop)
    return Artifact({name: tensor.cpu() for name, tensor in made.tensors.items()}, made.info)


def _train(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    recipe = job.recipe
    facts = shop.dataset(recipe).describe(shop.data_dir)
    network, trained = shop.network(recipe["model"], facts)
    classifier = Classifier(network, facts.num_classes).to(shop.device)
    if not trained:
        training = Training.from_params(recipe["training"])
        loss = cross_entropy
        if recipe["defense"] is not None:
            loss = cast("Defense", shop.build("defense", recipe["defense"])).training_loss
        splits = shop.splits(recipe)._replace(calibration=_held_out(recipe, shop)[0])
        train(classifier, splits, training, loss, shop.tick)
    classifier.eval()
    held_out = _held_out(recipe, shop)[1]
    accuracy = (predict(classifier, held_out.x) == held_out.y).double().mean()
    return Artifact(network.state_dict(), {"calibration_accuracy": float(accuracy)})


def _held_out(recipe: Mapping[str, Any], shop: Workshop) -> tuple[Split, Split]:
    """Images to choose an epoch by, and images to set thresholds on: never the same ones."""
    everything = shop.splits(recipe).calibration.to(shop.device)
    chooses = recipe["training"]["select"] == "min-nll"
    first = torch.arange(len(everything)) < (len(everything) // 2 if chooses else 0)
    return everything.take(first), everything.take(~first)


def _fit(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, *examples_key = job.needs
    recipe = job.recipe
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    defense = cast("Defense", shop.build("defense", recipe["defense"]))
    data, info = FitData(shop.train(recipe).to(shop.device)), {}
    for key in examples_key:
        attack = cast("Attack", shop.build("attack", jobs[key].recipe["attack"]))
        crafted, attempted = inputs[key].tensors, shop.attacked(jobs[key].recipe)
        seed = draws_seed(jobs[key].recipe)
        data = fit_data(data.clean, attempted, crafted, attack, seed)
        fooled = (crafted["prediction"] != crafted["label"]).double().mean()
        info = {"examples": len(crafted["index"]), "misclassified": float(fooled)}
    state = defense.fit(classifier, data)
    if any(not torch.equal(v, before[k]) for k, v in classifier.state_dict().items()):
        raise ContractViolation(f"{defense.name}: fit changed the classifier")
    return Artifact(state, info)


def _clean(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, fit_key = job.needs
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    detector = shop.detector(job.recipe, classifier, inputs[fit_key])
    held_out = _held_out(jobs[train_key].recipe, shop)[1]
    correct = held_out.take(predict(classifier, held_out.x) == held_out.y)
    if len(correct) < CALIBRATION_LEAST:
        raise ContractViolation(
            f"only {len(correct)} calibration images are classified correctly; a threshold at 5 % "
            f"needs {CALIBRATION_LEAST}: train longer or use more data"
        )
    test = shop.test(job.recipe)
    prediction = predict(classifier, test.x)
    tensors = {
        "calibration_score": scores(detector, correct.x),
        "test_index": test.index,
        "test_label": test.y,
        "test_prediction": prediction,
        "test_score": scores(detector, test.x),
    }
    for name, images in benign_changes(test, job.recipe["seed"]):
        tensors[f"benign_{name}_score"] = scores(detector, images, test.x)
        tensors[f"benign_{name}_prediction"] = predict(classifier, images)
    return Artifact(tensors, {"clean_accuracy": float((prediction == test.y).double().mean())})


def _craft(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    recipe, (train_key, *detector_keys) = job.recipe, job.needs
    attack = cast("Attack", shop.build("attack", recipe["attack"]))
    victim = Victim(shop.classifier(jobs[train_key].recipe, inputs[train_key]))
    if detector_keys:
        fit_key, clean_key = detector_keys
        detector = shop.detector(recipe, victim.classifier, inputs[fit_key])
        calibrated = Alarm.calibrated(inputs[clean_key].tensors["calibration_score"])
        victim = Victim(victim.classifier, detector, calibrated)
    threat = cast("ThreatModel", shop.build("threat-model", recipe["threat_model"]))
    budget = _budget(attack.norm, recipe["eps"])
    attempt = Attempt(attack, threat, recipe["objective"], budget, draws_seed(recipe))
    split = shop.attacked(recipe)
    expected = len(split) * attack.passes
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        shop.tick(min(0.99, done / expected))

    return Artifact(craft(attempt, victim, split, tick))


def _score(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, fit_key, clean_key, *craft_keys = job.needs
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    detector = shop.detector(job.recipe, classifier, inputs[fit_key])
    crafted = [inputs[key].tensors for key in craft_keys]
    index = crafted[0]["index"]
    test = shop.splits(job.recipe).test
    clean = test.take(positions(test.index, index)).to(shop.device)
    vectors, images = measure(detector, clean, [c["images"].to(shop.device) for c in crafted])
    vectors |= measure_noise(detector, clean, images, job.recipe["norm"], job.recipe["seed"])
    vectors["forward"] = torch.stack([c["forward"] for c in crafted]).sum(0)
    vectors["backward"] = torch.stack([c["backward"] for c in crafted]).sum(0)
    return Artifact({**vectors, **inputs[clean_key].tensors}, dict(inputs[clean_key].info))


def draws_seed(craft: Mapping[str, Any]) -> int:
    """Of an attack's draws; a training and a test image of the same index get different ones."""
    seed: int = craft["seed"]
    return seed if craft["split"] == "test" else seed_of("examples", seed)


def _budget(norm: Norm, eps: float | None) -> Budget:
    return Budget(norm, math.inf if eps is None else eps)


@contextmanager
def _pinned() -> Iterator[None]:
    """One thread on a CPU, since weights depend on the thread count.

    On a GPU fixed algorithms, and no TensorFloat-32, whose 10 bits would show in scores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)


def _devices(device: str) -> list[int]:
    return list(range(torch.cuda.device_count())) if device.startswith("cuda") else []


_RUN: dict[JobKind, Callable[[Job, Mapping[Key, Job], Inputs, Workshop], Artifact]] = {
    "train": _train,
    "fit": _fit,
    "clean": _clean,
    "craft": _craft,
    "score": _score,
}
