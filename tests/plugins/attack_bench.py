"""What the attack tests share: small victims trained in seconds, and how both libraries see them."""

import copy
import gzip
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import foolbox
import numpy as np
import pytest
import torch
from torch import nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Splits, Training
from nfbench.core.defense import FitData, cross_entropy
from nfbench.core.draws import Draws
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Images, Labels, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.measuring import predict, scores
from nfbench.runner.train import train
from nfbench_datasets.digits import Digits
from nfbench_defenses.neuralfp import NeuralFP
from nfbench_models.nets import DigitsMLP, Table8
from nfbench_threats.whitebox import AdaptiveWhitebox, PartialWhitebox

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from art.estimators.classification import PyTorchClassifier

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
STATIC, ADAPTIVE = PartialWhitebox(), AdaptiveWhitebox()


@dataclass(frozen=True, eq=False)
class Bench:
    """A defended victim and test images that it classifies correctly."""

    victim: Victim
    split: Split

    @property
    def classifier(self) -> Classifier:
        return self.victim.classifier

    def take(self, count: int) -> "Bench":
        return Bench(self.victim, self.split.take(torch.arange(len(self.split)) < count))

    def double(self) -> "Bench":
        """The same in float64, where independent computations agree to the sign of every gradient."""
        classifier, detector = copy.deepcopy((self.victim.classifier, self.victim.detector))
        if detector is not None:
            detector.double()
        victim = Victim(classifier.double(), detector, self.victim.alarm)
        return Bench(victim, Split(self.split.x.double(), self.split.y, self.split.index))

    def attack(
        self, attack: Attack, budget: Budget, threat: ThreatModel = STATIC, name: str = "", seed: int = 0
    ) -> "Attacked":
        """What `attack` returns, and the recorder that watched it."""
        objective, recorder = self.objective(budget, threat, name or threat.objectives(attack)[0])
        draws = Draws(seed, self.split.index.tolist())
        return Attacked(attack.perturb(objective, self.split.x, budget, draws), recorder)

    def objective(
        self, budget: Budget, threat: ThreatModel = STATIC, name: str = "cross-entropy"
    ) -> tuple[Objective, Recorder]:
        victim = self.victim if threat.adaptive else Victim(self.classifier)
        recorder = Recorder(victim, self.split.x, self.split.y, budget, threat.access, guides=self.split)
        recorder.evasion_score = recorder.evasion_score.to(self.split.x)  # float32 but for `double`
        return threat.objective(name, recorder, self.split.y, victim.alarm), recorder


@dataclass(frozen=True, eq=False)
class Attacked:
    images: Images
    recorder: Recorder


@cache
def digits(epochs: int = 4) -> Bench:
    """A digits-mlp trained with NeuralFP for a few epochs, and correctly classified test images."""
    splits = Digits().splits(None)
    few = Splits(splits.train, splits.calibration, splits.test.take(torch.arange(150)))
    return _trained(DigitsMLP().build((1, 8, 8), 10), few, epochs, NeuralFP(fingerprints=3, secret=1))


@cache
def mnist(images: int = 2000) -> Bench:
    """The paper's MNIST net trained without a defense on a few thousand images of the real MNIST."""
    if not MNIST.is_dir():
        pytest.skip(f"needs the MNIST files in {MNIST.parent.name}/{MNIST.name} beside the checkout")
    train_x, train_y = _idx("train-images-idx3"), _idx("train-labels-idx1")
    test_x, test_y = _idx("t10k-images-idx3"), _idx("t10k-labels-idx1")
    splits = Splits(
        _split(train_x[:images], train_y[:images]),
        _split(train_x[-400:], train_y[-400:]),
        _split(test_x[:150], test_y[:150]),
    )
    return _trained(Table8().build((1, 28, 28), 10), splits, 1, None)


def _idx(name: str) -> np.ndarray:
    data = gzip.decompress((MNIST / f"{name}-ubyte.gz").read_bytes())
    header = 16 if "images" in name else 8
    array = np.frombuffer(data, np.uint8, offset=header)
    return array.reshape(-1, 1, 28, 28) if header == 16 else array


def _split(x: np.ndarray, y: np.ndarray) -> Split:
    images = torch.from_numpy(x.copy()).float() / 255
    return Split(images, torch.from_numpy(y.astype(np.int64)), torch.arange(len(x)))


def _trained(network: nn.Module, splits: Splits, epochs: int, defense: NeuralFP | None) -> Bench:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        classifier = Classifier(network, 10)
        loss = cross_entropy if defense is None else defense.training_loss
        training = Training(epochs=epochs, learning_rate=2e-3, batch_size=64)
        train(classifier, splits, training, loss, lambda _: None)
    victim = Victim(classifier)
    if defense is not None:
        state = defense.fit(classifier, FitData(splits.train))
        detector = defense.detector(classifier, state).eval().requires_grad_(False)
        victim = Victim(classifier, detector, Alarm.calibrated(scores(detector, splits.calibration.x)))
    return Bench(victim, splits.test.take(predict(classifier, splits.test.x) == splits.test.y))


def foolbox_model(classifier: nn.Module) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")


def art_classifier(classifier: nn.Module, x: Images, loss: nn.Module | None = None) -> PyTorchClassifier:
    return PyTorchClassifier(
        classifier,
        loss or nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )


def art_images(attack: object, x: Images, labels: Labels) -> Images:
    """What an attack of ART makes of `x`."""
    return torch.from_numpy(attack.generate(x.numpy(), labels.numpy()))


def differing(a: Images, b: Images) -> int:
    """Pixels that are not the same number."""
    return int((a != b).sum())
