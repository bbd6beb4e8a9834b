"""KD: the layer looked at, and those that are refused."""

import pytest
import torch
from kd_bench import fitted, images, random_classifier
from torch import nn

from nfbench import Classifier, FitData, UsageError
from nfbench_defenses.kd import KD
from nfbench_models.lid_nets import MNISTLid
from nfbench_models.nets import DigitsMLP, Table8


class Functional(nn.Module):
    """Its last activation is a function, not a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x.flatten(1)))).softmax(1)


def test_the_default_layer_is_what_the_last_weight_matrix_is_given():
    x = images(5).x
    digits = random_classifier()
    assert torch.equal(fitted(digits).features(x), digits.trace(x).activations["7"])  # after BatchNorm
    with_dropout = random_classifier(DigitsMLP(dropout=0.5))
    last = with_dropout.trace(x).activations["8"]
    assert torch.equal(fitted(with_dropout).features(x), last)
    for end in (nn.Softmax(1), nn.BatchNorm1d(10)):
        longer = Classifier(nn.Sequential(*digits.network, end), 10).eval()
        assert torch.equal(fitted(longer).features(x), digits.trace(x).activations["7"])
    functional = Classifier(Functional(), 10).eval().requires_grad_(False)
    hidden = functional.trace(x).activations["first"].relu()
    assert torch.equal(fitted(functional).features(x), hidden)
    assert not torch.equal(hidden, functional.trace(x).activations["first"])


def test_the_net_of_lid_is_looked_at_after_its_last_relu():
    classifier, x = random_classifier(MNISTLid(), (1, 28, 28)), images(4, shape=(1, 28, 28)).x
    found = fitted(classifier, images(20, shape=(1, 28, 28))).features(x)
    assert found.shape == (4, 128)
    assert torch.equal(found, classifier.trace(x).activations["2"])
    assert isinstance(classifier.network[2], nn.ReLU)


def test_a_named_layer_is_looked_at_flattened():
    classifier, x = random_classifier(Table8(), (1, 28, 28)), images(4, shape=(1, 28, 28)).x
    watching = fitted(classifier, images(20, shape=(1, 28, 28)), layer="0.4")
    assert torch.equal(watching.features(x), classifier.trace(x).activations["0.4"].flatten(1))


def test_an_unknown_layer_is_refused_by_name():
    for refuse in (KD(layer="fc3").mismatch, lambda c: KD(layer="fc3").fit(c, FitData(images()))):
        with pytest.raises(
            UsageError, match=r"kd.layer = 'fc3': the network has no such layer \(layers: 0, 1"
        ):
            refuse(random_classifier())
    assert not KD(layer="7").mismatch(random_classifier())
    assert not KD().mismatch(random_classifier())


def test_a_network_without_weights_is_refused():
    bare = Classifier(nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)), 10).eval()
    with pytest.raises(UsageError, match=r"kd finds no layer with a weight matrix .*--set kd.layer"):
        KD().mismatch(bare)
    assert fitted(bare, layer="0").score(images(3).x).shape == (3,)


class Heads(nn.Module):
    """A layer that yields the logits, and one defined after it that does something else."""

    def __init__(self, *, aside: int, functional: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(64, 32)
        self.last = nn.Parameter(torch.randn(10, 32)) if functional else nn.Linear(32, 10)
        self.aside = nn.Linear(32, aside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.hidden(x.flatten(1)).relu()
        functional = isinstance(self.last, nn.Parameter)
        return nn.functional.linear(h, self.last) if functional else self.last(h)


def test_the_last_layer_is_one_that_yields_logits():
    classifier = Classifier(Heads(aside=3), 10).eval()
    hidden = classifier.network.hidden(images().x.flatten(1)).relu()
    assert torch.allclose(fitted(classifier).features(images().x), hidden)
    with pytest.raises(UsageError, match=r"no layer with a weight matrix that yields logits"):
        KD().mismatch(Classifier(Heads(aside=3, functional=True), 10).eval())
    with pytest.raises(UsageError, match="the last layer with a weight matrix is not run"):
        KD().fit(Classifier(Heads(aside=10), 10).eval(), FitData(images()))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Second(nn.Module):
    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return pair[1]


def test_a_layer_without_a_tensor_is_refused():
    odd = Classifier(nn.Sequential(nn.Flatten(), Pair(), Second(), nn.Linear(64, 10)), 10).eval()
    with pytest.raises(UsageError, match="layer '1' yields no tensor"):
        KD(layer="1").fit(odd, FitData(images()))
