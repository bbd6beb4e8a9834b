"""What bundled plugins make of a network and images written by hand.

Keys hold a recipe's version, not its code: a plugin that begins to give other results must raise it, or
caches mix old with new. Values are compared to one per cent: last bits differ between machines.
"""

import pytest
import torch
from golden_attacks import ATTACKS, FASTER
from torch import nn

from nfbench import Alarm, Budget, Classifier, Examples, FitData, Split, Victim
from nfbench.core.offers import KINDS
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.measuring import scores
from nfbench.runner.train import train
from nfbench.store import VERSIONS

EPS = {"linf": 0.1, "l2": 0.8, "l1": 3.0, "l0": 12.0}
# Version; scores of the first two images, mean score, training loss.
DEFENSES = {
    "max-softmax": (1, -0.3939, -0.4014, -0.4026, 1.1046),
    "neuralfp": (1, 0.783, 0.7876, 0.7828, 2.7969),
    "lid": (1, 0.6048, -0.2207, 0.3334, 1.1046),
    "kd": (1, 17.6355, 17.6521, 17.642, 1.1046),
    "bu": (1, -2.6957, -2.7053, -2.6983, 1.1046),
    "kd+bu": (1, -0.5387, 2.8115, 0.763, 1.1046),
    "mahalanobis": (1, 13.9937, 86.9666, 43.3491, 1.1046),
    "feature-squeezing": (1, -4.6193, -3.1515, -3.6059, 1.1046),
    "random": (1, 0.7002, 0.9215, 0.5575, 1.1046),
}
# Version; parameters, then relative logits of two images and their spread.
MODELS = {
    "digits-mlp": (1, 17610, -0.5295, -0.0566, 0.6673),
    "mnist-4conv": (1, 313386, -0.3869, -0.7294, 0.5715),
    "mnist-table8": (1, 300298, -0.9401, -0.3053, 0.6131),
    "cifar-table9": (1, 834890, -0.8403, 0.2309, 0.4696),
    "mnist-lid": (1, 1218634, 0.1142, 1.0, 0.6701),
    "cifar-lid": (1, 1997034, -1.0, -0.9712, 0.7522),
    "small-conv": (1, 151754, 0.9148, 0.6142, 0.7668),
    "alexnet-table7": (1, 7311006, -0.0867, 0.4163, 0.7068),
}
# Version of the train job; spread of the logits, loss on calibration images.
TRAINING = (2, 0.9041, 0.7757)


def wave(*shape, pace):
    """Numbers in [-1, 1] that look irregular and are the same everywhere."""
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64) * pace).sin().view(shape).float()


@pytest.fixture(scope="module")
def classifier():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Dropout(), nn.Linear(16, 4)
    )
    with torch.no_grad():
        network[1].weight.copy_(wave(16, 64, pace=1.7) / 2)
        network[1].bias.copy_(wave(16, pace=0.9))
        network[4].weight.copy_(wave(4, 16, pace=2.3))
        network[4].bias.copy_(wave(4, pace=0.4) / 4)
    return Classifier(network, 4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images(classifier):
    x = 0.5 + 0.4 * wave(24, 1, 8, 8, pace=0.611)
    return Split(x, classifier(x).argmax(1), torch.arange(24))


@pytest.fixture(scope="module")
def train_images():
    x = 0.5 + 0.4 * wave(160, 1, 8, 8, pace=0.617)
    return Split(x, torch.arange(160) % 4, torch.arange(160))


def learnt_from(train_images, defense):
    """Training images; examples of a quarter of them for those that ask for some."""
    if defense.learns_from is None:
        return FitData(train_images)
    clean = train_images.take(torch.arange(40))
    adversarial = (clean.x + 0.3 * wave(1, 1, 8, 8, pace=0.831).sign()).clamp(0, 1)
    noisy = (clean.x + 0.1 * wave(*clean.x.shape, pace=1.117)).clamp(0, 1)
    return FitData(train_images, Examples(clean, adversarial, noisy, "planted"))


def bundled(registry, kind):
    return {n for n in registry.names(kind) if registry.offers[kind][n].distribution == "nfbench"}


def advice(cls):
    return (
        f"{cls.name} gives other results than before: raise {cls.__name__}.version "
        f"(now {cls.version}) and update the value here"
    )


def close(found, expected, rel=0.01):
    return found == pytest.approx(expected, rel=rel, abs=0.005)


@pytest.mark.parametrize(("name", "threat"), ATTACKS)
def test_attacks_do_what_their_version_did(registry, classifier, images, name, threat):
    cls = registry.find("attack", name).load()
    attack = cls.from_params(FASTER.get(name, {}))
    threat_model = registry.find("threat-model", threat).load()()
    defense = registry.find("defense", "max-softmax").load()()
    detector = defense.detector(classifier, {})
    victim = Victim(classifier, detector, Alarm.calibrated(scores(detector, images.x)))
    found = {}
    for objective in threat_model.objectives(attack):
        attempt = Attempt(attack, threat_model, objective, Budget(attack.norm, EPS[attack.norm]), 5)
        result = craft(attempt, victim, images, guides=images).vectors
        wrong = (result["prediction"] != images.y).float().mean()
        moved = (result["images"] - images.x).flatten(1)
        found[objective] = (
            float(wrong),
            float(moved.norm(dim=1).mean()),
            float(scores(detector, result["images"]).mean()),
        )
    version, *expected = ATTACKS[name, threat]
    assert cls.version == version, "update the golden value: the version was raised"
    rel = 0.05 if name == "jsma" else 0.01  # the last bits decide which pixels it takes
    pairs = zip(found.values(), expected, strict=True)
    assert all(close(f, e, rel) for f, e in pairs), (advice(cls), found)


@pytest.mark.parametrize("name", DEFENSES)
def test_defenses_do_what_their_version_did(registry, classifier, images, train_images, name):
    cls = registry.find("defense", name).load()
    defense = cls.from_params({"secret": 3})
    detector = defense.detector(classifier, defense.fit(classifier, learnt_from(train_images, defense)))
    score = scores(detector, images.x)
    loss = defense.training_loss(classifier, images.x, images.y)
    found = (float(score[0]), float(score[1]), float(score.mean()), float(loss))
    version, *expected = DEFENSES[name]
    assert cls.version == version, "update the golden value: the version was raised"
    assert close(found, expected), (advice(cls), found)


@pytest.mark.parametrize("name", MODELS)
def test_models_do_what_their_version_did(registry, name):
    cls = registry.find("model", name).load()
    size = {"digits-mlp": 8, "alexnet-table7": 84}.get(name, 28)
    network = cls().build((1, size, size), 10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(wave(*parameter.shape, pace=1.3) * 2 / parameter[0].numel() ** 0.5)
            else:
                parameter.fill_(1.0 if key.endswith("weight") else 0.0)
        logits = network(0.5 + 0.4 * wave(2, 1, size, size, pace=0.611))
    shares = logits / logits.abs().max()
    found = (*shares[:, 0].tolist(), float(shares.std()))
    version, parameters, *expected = MODELS[name]
    assert cls.version == version, "update the golden value: the version was raised"
    assert sum(p.numel() for p in network.parameters()) == parameters, advice(cls)
    assert close(found, expected), (advice(cls), found)


def test_training_does_what_its_version_did(registry):
    dataset = registry.find("dataset", "digits").load()()
    model = registry.find("model", "digits-mlp").load()(dropout=0.0)
    torch.manual_seed(11)
    classifier = Classifier(model.build(dataset.shape, 10), 10)
    schedule = dataset.defaults.training.model_copy(update={"epochs": 2})
    trained = train(classifier, dataset.splits(None), schedule, _cross_entropy, lambda _share: None)
    held_out = dataset.splits(None).calibration
    logits = trained(held_out.x)
    found = (float(logits.std()), float(nn.functional.cross_entropy(logits, held_out.y)))
    version, *expected = TRAINING
    assert VERSIONS["train"] == version, "update the value: the version was raised"
    assert close(found, expected), ("training differs: raise VERSIONS['train'], update this", found)


def _cross_entropy(classifier, x, y):
    return nn.functional.cross_entropy(classifier(x), y)


def test_no_bundled_plugin_is_left_out(registry):
    pinned = {
        "attack": {name for name, _ in ATTACKS},
        "threat-model": {threat for _, threat in ATTACKS},
        "defense": set(DEFENSES),
        "model": set(MODELS),
    }
    for kind in set(KINDS) - {"dataset", "executor"}:  # pinned by digest; no part of a number
        assert bundled(registry, kind) == pinned[kind], f"add golden values for each {kind}"
