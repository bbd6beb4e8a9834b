import math

import numpy as np
import pytest
import torch
from mahalanobis_bench import CLASSES, COUNT, Net, classifier, data, fitted, images
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from torch import nn

from nfbench import Classifier, Examples, FitData, Split, UsageError
from nfbench.testing import check_defense
from nfbench_datasets.digits import Digits
from nfbench_defenses.gaussians import TiedGaussians, fit_gaussians
from nfbench_defenses.mahalanobis import MAGNITUDES, Mahalanobis, _learn
from nfbench_models.nets import DigitsMLP


def reference(rows, y, query, ridge=0.0):
    """Squared distances by scikit-learn and scipy. (N, D), (N,), (B, D) -> (B, K)"""
    means = np.stack([rows[y == k].mean(0) for k in range(CLASSES)])
    covariance = EmpiricalCovariance().fit(rows - means[y]).covariance_
    covariance = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return np.array([[mahalanobis(q, mean, inverse) ** 2 for mean in means] for q in query])


def vectors(count=200, width=6, seed=2):
    generator = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    mixed = generator.normal(size=(count, width)) @ generator.normal(size=(width, width))
    return mixed + 3 * np.eye(width)[y] + 5, y


def distances(rows, y, query, ridge=0.0, dtype=torch.float64):
    state = fit_gaussians(torch.tensor(rows, dtype=dtype), torch.tensor(y), CLASSES, ridge)
    return TiedGaussians(state)(torch.tensor(query, dtype=dtype)).numpy()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_distances_are_those_of_scipy(ridge, dtype, rtol):
    rows, y = vectors()
    query = vectors(9, seed=3)[0] * 1.5
    found = distances(rows, y, query, ridge, dtype)
    np.testing.assert_allclose(found, reference(rows, y, query, ridge), rtol=rtol)


def test_a_singular_covariance_is_inverted_as_by_a_pseudo_inverse():
    rows, y = vectors()
    rows = np.hstack([rows, rows[:, :2] @ [[1.0, 2.0], [0.5, -1.0]], np.full((len(rows), 1), 4.0)])
    query = vectors(9, width=9, seed=3)[0]
    found = distances(rows, y, query)
    np.testing.assert_allclose(found, reference(rows, y, query), rtol=1e-6)
    aside = query + 7 * np.eye(9)[8]  # along the feature that never differs
    np.testing.assert_allclose(distances(rows, y, aside), found, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("layer", "pooled"), [("conv2", True), ("tanh", False)])
def test_the_unsupervised_score_is_the_least_distance_at_one_layer(layer, pooled, dtype, rtol):
    victim, x = classifier(dtype=dtype), images(11, dtype, seed=5).x
    watching, _ = fitted(victim, dtype=dtype, learns_from=None, layers=layer, ridge=0.01)

    def features(z):
        found = victim.trace(z, [layer]).activations[layer].double()
        return (found.mean((2, 3)) if pooled else found).numpy()

    known = images(dtype=dtype)
    wanted = reference(features(known.x), known.y.numpy(), features(x), 0.01)
    seen = watching.observe(x)
    assert seen.score.dtype == dtype
    np.testing.assert_allclose(seen.penalties.numpy(), wanted, rtol=rtol)
    np.testing.assert_allclose(seen.score.numpy(), wanted.min(1), rtol=rtol)
    np.testing.assert_allclose(watching.nearest(x)[:, 0].numpy(), wanted.min(1)[:, None], rtol=rtol)


def test_classes_are_told_by_label_and_examples_are_left_out():
    victim, given = classifier(), data()
    state = Mahalanobis(magnitude=0).fit(victim, given)
    rows = victim.trace(given.others.x, ["tanh"]).activations["tanh"]
    assert len(given.others) == COUNT - 40
    last = max(int(key[5]) for key in state if key.startswith("layer"))
    torch.testing.assert_close(state[f"layer{last}.shift"], rows.mean(0))
    projected = (rows - rows.mean(0)) @ state[f"layer{last}.whiten"]
    wanted = torch.stack([projected[given.others.y == k].mean(0) for k in range(CLASSES)])
    torch.testing.assert_close(state[f"layer{last}.centres"], wanted)


def test_every_run_of_every_activation_and_the_last_hidden_layer_are_looked_at():
    assert Mahalanobis().layers_of(classifier()) == ["relu", "tanh"]
    assert Mahalanobis(learns_from=None).layers_of(classifier()) == ["tanh"]  # dropout is passive
    watching, _ = fitted(magnitude=0)
    assert watching.nearest(images(4).x).shape == (4, 1, 3)
    mlp = Classifier(DigitsMLP(dropout=0.0).build((1, 8, 8), 10), 10)
    assert Mahalanobis().layers_of(mlp) == ["3", "6", "7"]
    assert Mahalanobis(learns_from=None).layers_of(mlp) == ["7"]
    assert Mahalanobis(layers=("conv", "head")).layers_of(classifier()) == ["conv", "head"]


class Planted:
    """Distances that tell attacked images (all ones) from others at one magnitude only."""

    magnitudes = MAGNITUDES

    def nearest(self, x):
        rows = torch.rand(len(x), len(MAGNITUDES), 2, dtype=torch.float64)
        rows[:, 3, 0] += x.flatten(1).mean(1)
        return rows


def test_the_magnitude_is_the_one_that_tells_held_out_examples_best():
    torch.manual_seed(0)
    clean = images(60)
    zeros = torch.zeros_like(clean.x)
    clean = Split(zeros, clean.y, clean.index)
    state = _learn("mahalanobis", Planted(), Examples(clean, zeros + 1, zeros, "planted"))
    assert float(state["magnitude"]) == MAGNITUDES[3] == 0.002
    assert state["weight"][0] > abs(state["weight"][1])


class Deceptive(Planted):
    """At another magnitude it tells the examples regressed on perfectly, and the others backwards."""

    def nearest(self, x):
        mean = x.flatten(1).mean(1)
        rows = torch.rand(len(x), len(MAGNITUDES), 2, dtype=torch.float64)
        rows[:, 3, 0] += mean.clamp_max(1) / 2
        rows[:, 1, 0] = torch.where(mean == 1, 9, torch.where(mean == 2, -9, 0))
        return rows


def test_the_magnitude_is_not_judged_by_the_examples_regressed_on():
    torch.manual_seed(0)
    clean = images(60)
    zeros = torch.zeros_like(clean.x)
    attacked = zeros + torch.tensor([1.0, 2.0]).repeat(30)[:, None, None, None]
    clean = Split(zeros, clean.y, clean.index)
    state = _learn("mahalanobis", Deceptive(), Examples(clean, attacked, zeros, "planted"))
    assert float(state["magnitude"]) == MAGNITUDES[3]


def test_equally_good_magnitudes_leave_the_image_where_it_is():
    class Perfect(Planted):
        def nearest(self, x):
            return x.flatten(1).mean(1)[:, None, None].expand(-1, len(MAGNITUDES), 2)

    clean = images(60)
    state = _learn("mahalanobis", Perfect(), Examples(clean, clean.x + 9, clean.x, "planted"))
    assert float(state["magnitude"]) == 0


@pytest.fixture(scope="module")
def digits():
    """A trained net; training, attacked and held-out images, the attack being FGSM."""
    splits = Digits().splits(None)
    torch.manual_seed(0)
    net = Classifier(DigitsMLP().build((1, 8, 8), 10), 10)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(15):
        for rows in torch.randperm(len(splits.train)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(splits.train.x[rows]), splits.train.y[rows]).backward()
            optimizer.step()
    net.eval().requires_grad_(False)
    return net, splits


def fgsm(net, images, eps=0.2):
    x = images.x.clone().requires_grad_()
    gradient = torch.autograd.grad(nn.functional.cross_entropy(net(x), images.y, reduction="sum"), x)[0]
    return (images.x + eps * gradient.sign()).clamp(0, 1)


@pytest.mark.parametrize("knobs", [{}, {"learns_from": None}])
def test_attacked_digits_score_above_clean_ones(digits, knobs):
    net, splits = digits
    chosen = splits.train.take(torch.arange(0, 1000, 4))
    noisy = (chosen.x + 0.1 * torch.randn(chosen.x.shape)).clamp(0, 1)
    examples = Examples(chosen, fgsm(net, chosen), noisy, "fgsm")
    watching, _ = fitted(net, FitData(splits.train, examples if not knobs else None), **knobs)
    attacked = fgsm(net, splits.test)
    fooled = net(attacked).argmax(1) != splits.test.y
    scores = torch.cat([watching.score(attacked[fooled]), watching.score(splits.test.x)])
    labels = np.r_[np.ones(int(fooled.sum())), np.zeros(len(splits.test))]
    assert int(fooled.sum()) > 100
    assert roc_auc_score(labels, scores.numpy()) > 0.85


@pytest.mark.parametrize(
    "knobs", [{}, {"magnitude": 0}, {"learns_from": None, "magnitude": 0.01}, {"layers": "norm"}]
)
def test_the_contract_is_kept(knobs):
    check_defense(Mahalanobis(**knobs))


def test_layers_may_be_typed_as_words_or_numbers():
    assert Mahalanobis(layers="a,b").layers == ("a", "b")
    assert Mahalanobis(layers=4).layers == ("4",)
    assert Mahalanobis.from_params({"layers": ["a"]}).layers == ("a",)


def test_rows_per_image_count_the_steps():
    assert Mahalanobis(magnitude=0).rows_per_image == 1
    assert Mahalanobis(learns_from=None).rows_per_image == 1
    assert Mahalanobis(layers="a,b").rows_per_image == 3
    assert Mahalanobis(learns_from=None, magnitude=0.01, layers="a").rows_per_image == 2


def refused(message, victim=None, given=None, **knobs):
    with pytest.raises(UsageError) as caught:
        fitted(victim, given, **knobs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Dead(Net):
    """Its second convolution never fires."""

    def __init__(self):
        super().__init__()
        self.conv2.bias.data.fill_(-99)


def test_a_layer_with_the_same_features_for_all_images_is_refused():
    refused("can't use layer 'relu#2', whose features are the same", classifier(Dead), magnitude=0)


def test_a_class_of_one_image_is_refused():
    few = images(7).take(torch.tensor([0, 1, 3, 4, 6]))
    refused(
        "needs 2 training images of each class; class 2 has 0 of the",
        given=FitData(few),
        learns_from=None,
    )
    few = images(7).take(torch.tensor([0, 1, 2, 3, 4]))
    refused("class 2 has 1 of the 5 that no example", given=FitData(few), learns_from=None)


def test_an_unknown_layer_is_refused_by_name():
    refused("mahalanobis.layers: the network has no layer 'cnv' (layers: conv, relu,", layers="conv,cnv")
    with pytest.raises(UsageError, match="no layer 'cnv'"):
        Mahalanobis(layers="cnv").mismatch(classifier())


def test_a_network_without_activation_modules_needs_named_layers():
    def linear():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, CLASSES))

    assert "name layers with --set mahalanobis.layers=" in Mahalanobis().mismatch(classifier(linear))
    refused("finds no activation modules", classifier(linear))
    assert not Mahalanobis(layers="1").mismatch(classifier(linear))
    assert not Mahalanobis(learns_from=None).mismatch(classifier(linear))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learns_from": None, "layers": ["a", "b"]}, "without learns_from it looks at one layer"),
        ({"layers": []}, "layers must name at least one layer"),
        ({"magnitude": -0.1}, "magnitude = -0.1"),
        ({"ridge": -1}, "ridge = -1"),
        ({"magnitude": math.nan}, "magnitude = nan"),
    ],
)
def test_a_wrong_hyperparameter_is_refused(params, message):
    with pytest.raises(UsageError, match=message):
        Mahalanobis.from_params(params)
