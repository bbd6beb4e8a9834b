"""What each kind of job does: from a recipe in plain data and its inputs to an artifact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Training
from nfbench.core.defense import Defense, FitData, cross_entropy
from nfbench.core.draws import seed_of
from nfbench.core.ensemble import replica_victim
from nfbench.core.errors import ContractViolation
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access, Budget, Norm, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.cost import price
from nfbench.runner.distil import distil
from nfbench.runner.guides import guides
from nfbench.runner.health import gradient_health
from nfbench.runner.latency import latency
from nfbench.runner.learning import fit_data, positions
from nfbench.runner.measuring import (
    CALIBRATION_LEAST,
    at_half_budget,
    distances,
    measure,
    measure_noise,
    predict,
    scores,
)
from nfbench.runner.negatives import benign_changes
from nfbench.runner.surrogates import Surrogate, followed
from nfbench.runner.train import train
from nfbench.runner.workshop import Inputs, Workshop
from nfbench.store import Artifact, Job, JobKind, Key


def run(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    """Do `job`. Deterministic given its recipe: seeded, and on one thread on a CPU."""
    seed = seed_of(job.kind, job.recipe["seed"])
    with pinned(), torch.random.fork_rng(devices=_devices(shop.device)):
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
        train(classifier, splits, training, loss, shop.tick, shop.checkpoint)
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
    data, info = FitData(_part(shop.train(recipe), recipe).to(shop.device)), {}
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


def _part(train: Split, recipe: Mapping[str, Any]) -> Split:
    """What a detector is fitted to: all training images, or the half that somebody else had."""
    if "half" not in recipe:
        return train
    generator = torch.Generator().manual_seed(seed_of("half", recipe["half"]))
    return train.take(torch.randperm(len(train), generator=generator)[: len(train) // 2].sort().values)


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


def _time(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, fit_key, _ = job.needs  # the last only so that a detector that can't score is not timed
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    detector = shop.detector(job.recipe, classifier, inputs[fit_key])
    images = shop.splits(job.recipe).calibration.x.to(shop.device)
    return Artifact({}, {"device": shop.device, **latency(detector, images)})


def _distil(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, fit_key = job.needs
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    detector = shop.detector(job.recipe, classifier, inputs[fit_key])
    images = shop.train(job.recipe).to(shop.device)
    made = distil(detector, images, seed_of("distil", job.recipe["seed"]), shop.tick)
    return Artifact(made.tensors, {"rank_correlation": made.rank_correlation})


def _craft(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    recipe = job.recipe
    attack = cast("Attack", shop.build("attack", recipe["attack"]))
    threat = cast("ThreatModel", shop.build("threat-model", recipe["threat_model"]))
    victim = _known(job, jobs, inputs, shop, threat)
    budget = _budget(attack.norm, recipe["eps"])
    attempt = Attempt(attack, threat, recipe["objective"], budget, draws_seed(recipe))
    split = shop.attacked(recipe)
    expected = len(split) * attack.passes_among(victim.classifier.num_classes)
    if attack.announces_cost and threat.follows_gradient(attack):  # elsewhere it is another, short one
        shop.say(price(attack, victim, split))
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        shop.tick(min(0.99, done / expected))

    around = guides(victim, shop.train(recipe).to(shop.device), recipe["seed"], threat.access)
    crafted = craft(attempt, victim, split, tick, guides=around, checkpoint=shop.checkpoint)
    health: dict[str, float] = {}
    if threat.detector == "victim" and threat.access is Access.GRADIENT:
        health = gradient_health(victim, split.x, split.y, recipe["seed"])
    if recipe.get("surrogate") == "distilled":
        told = [inputs[key].info for key in job.needs if jobs[key].kind == "distil"]
        health["surrogate_misled"] = max(1 - one["rank_correlation"] for one in told)
    return Artifact(crafted.vectors, {"stages": crafted.stages, "health": health})


def _known(
    job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop, threat: ThreatModel
) -> Victim:
    """What the attacker of a craft job has: the victim as far as it is revealed, or replicas."""
    surrogate: Surrogate = job.recipe.get("surrogate", "")
    shape = shop.dataset(job.recipe).describe(shop.data_dir).shape

    def defended(train_key: Key, fit_key: Key, clean_key: Key, *distil_key: Key) -> Victim:
        classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
        detector = shop.detector(jobs[fit_key].recipe, classifier, inputs[fit_key])
        calibrated = Alarm.calibrated(inputs[clean_key].tensors["calibration_score"])
        learnt = {name: t for key in distil_key for name, t in inputs[key].tensors.items()}
        return Victim(classifier, followed(detector, surrogate, learnt, shape), calibrated)

    keys = job.needs
    if not threat.transfers:
        if len(keys) > 1:
            return defended(*keys)
        return Victim(shop.classifier(jobs[keys[0]].recipe, inputs[keys[0]]))
    if threat.detector == "none":
        members = [Victim(shop.classifier(jobs[key].recipe, inputs[key])) for key in keys]
        return replica_victim(None, members, detectors=False)
    classifier = shop.classifier(jobs[keys[0]].recipe, inputs[keys[0]])
    each = 4 if surrogate == "distilled" else 3
    members = [defended(*keys[i : i + each]) for i in range(1, len(keys), each)]
    return replica_victim(classifier, members, detectors=True)


def _score(job: Job, jobs: Mapping[Key, Job], inputs: Inputs, shop: Workshop) -> Artifact:
    train_key, fit_key, clean_key, *craft_keys = job.needs
    classifier = shop.classifier(jobs[train_key].recipe, inputs[train_key])
    detector = shop.detector(job.recipe, classifier, inputs[fit_key])
    calm = inputs[clean_key].tensors
    right = calm["test_index"][calm["test_prediction"] == calm["test_label"]]
    crafted = [_only(inputs[key].tensors, right) for key in craft_keys]
    test = shop.splits(job.recipe).test
    clean = test.take(positions(test.index, crafted[0]["index"])).to(shop.device)
    candidates = [c["images"].to(shop.device) for c in crafted]
    threshold = Alarm.calibrated(calm["calibration_score"]).threshold
    own = job.recipe["own"]
    first = jobs[craft_keys[0]].recipe
    transfers = shop.build("threat-model", first["threat_model"]).transfers
    claimed = torch.stack([c["claimed"] for c in crafted]).to(shop.device) if transfers else None
    vectors, images = measure(detector, clean, candidates, own=own, threshold=threshold, claimed=claimed)
    vectors |= measure_noise(detector, clean, images, job.recipe["norm"], job.recipe["seed"])
    nearest = [c["nearest"].to(shop.device) for c in crafted if "nearest" in c]
    if nearest and not transfers and not detector.stochastic:  # else by luck or by whom he can't ask
        vectors["distance"] = distances(detector, clean, nearest, threshold, job.recipe["norm"])
    for count in ("forward", "backward"):
        vectors[count] = torch.stack([c[count] for c in crafted]).sum(0)
    stages = torch.stack([c["stage"] for c in crafted])  # (O, B)
    rows = torch.arange(stages.shape[1])
    vectors["stage"] = stages[vectors["winner"].cpu().clamp_min(0), rows]
    portfolio = shop.build("attack", first["attack"]).announces_cost
    own_craft = crafted[0]
    if portfolio and not transfers and own_craft["claimed"].isfinite().any():
        vectors["half_budget_score"] = at_half_budget(own_craft["history"], own_craft["forward"])
        vectors["full_budget_score"] = own_craft["claimed"]
    told = [inputs[key].info for key in craft_keys]
    info = {"stages": [one["stages"] for one in told], "health": _worst([one["health"] for one in told])}
    return Artifact({**vectors, **calm}, {**inputs[clean_key].info, **info})


def _worst(shares: list[dict[str, float]]) -> dict[str, float]:
    """The largest share of each fault that any of the attacks had to live with."""
    names = dict.fromkeys(name for one in shares for name in one)
    return {name: max(one.get(name, 0.0) for one in shares) for name in names}


def _only(crafted: Mapping[str, torch.Tensor], index: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """The rows of those images; the victim may get others wrong, which a replica could not tell."""
    chosen = torch.isin(crafted["index"], index)
    return {name: tensor[chosen] for name, tensor in crafted.items()}


def draws_seed(craft: Mapping[str, Any]) -> int:
    """Of an attack's draws; a training and a test image of the same index get different ones."""
    seed: int = craft["seed"]
    return seed if craft["split"] == "test" else seed_of("examples", seed)


def _budget(norm: Norm, eps: float | None) -> Budget:
    return Budget(norm, math.inf if eps is None else eps)


@contextmanager
def pinned() -> Iterator[None]:
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
    "distil": _distil,
    "craft": _craft,
    "score": _score,
    "time": _time,
}
