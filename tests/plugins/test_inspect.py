"""One pass tells a matching attack all: logits, score, penalties and what the detector looks at."""

from collections import OrderedDict

import kd_bench
import lid_bench
import mahalanobis_bench
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nfbench import Classifier, Examples, FitData
from nfbench_defenses.bu import BU
from nfbench_defenses.feature_squeezing import FeatureSqueezing
from nfbench_defenses.kd import KD
from nfbench_defenses.kd_bu import KDPlusBU
from nfbench_defenses.lid import LID
from nfbench_defenses.mahalanobis import Mahalanobis
from nfbench_defenses.neuralfp import NeuralFP

SHAPE = (1, 8, 8)
DEFENSES = {
    "neuralfp": NeuralFP(fingerprints=3, secret=1),
    "kd": KD(),
    "kd-learnt": KD(learns_from="fgsm"),
    "bu": BU(passes=6, secret=1),
    "kd+bu": KDPlusBU(passes=6, secret=1),
    "mahalanobis": Mahalanobis(magnitude=0),
    "mahalanobis-stepped": Mahalanobis(magnitude=0.01),
    "mahalanobis-one-layer": Mahalanobis(learns_from=None),
    "lid": LID(k=5, minibatch=20, secret=1),
    "lid-paired": LID(k=5, minibatch=20, secret=1, reference="paired"),
    "feature-squeezing": FeatureSqueezing(bits=2, median=2),
}
CASES = pytest.mark.parametrize("name", DEFENSES)


def counting_classifier():
    """A small network with a convolution, dropout and a hidden layer, and the rows it is asked for."""
    torch.manual_seed(0)
    layers = OrderedDict(
        conv=nn.Conv2d(1, 6, 3),
        relu=nn.ReLU(),
        flatten=nn.Flatten(),
        dense=nn.Linear(216, 12),
        tanh=nn.Tanh(),
        dropout=nn.Dropout(0.3),
        head=nn.Linear(12, 10),
    )
    network, rows = nn.Sequential(layers), []
    for layer in (network.conv, network.head):
        layer.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    return Classifier(network, 10).eval().requires_grad_(False), rows


def built(name):
    """A detector, and the list that gets the rows of each of its passes."""
    classifier, rows = counting_classifier()
    defense, clean = DEFENSES[name], kd_bench.images(100)
    examples = None
    if defense.learns_from is not None:
        some = clean.take(torch.arange(40))
        step = (kd_bench.images(40, 2).x - 0.5).sign()
        examples = Examples(some, some.x + 0.3 * step, some.x + 0.1 * step.flip(0), "planted")
    data = FitData(clean, examples)
    detector = defense.detector(classifier, defense.fit(classifier, data)).eval().requires_grad_(False)
    return detector.bind(clean.x[:20]) if detector.paired else detector, rows


def photographs(count=9):
    return kd_bench.images(count, 5).x


@CASES
def test_inspecting_is_observing_with_features(name):
    detector, _ = built(name)
    x = photographs()
    seen, full = detector.observe(x), detector.inspect(x)
    assert seen.features is None
    for one, other in zip(seen[:4], full[:4], strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert full.features.dim() == 2
    assert len(full.features) == len(x)
    assert full.features.dtype == x.dtype
    assert torch.equal(full.features, detector.features(x))


@CASES
def test_inspecting_runs_the_classifier_as_often_as_observing(name):
    detector, rows = built(name)
    x = photographs()
    detector.observe(x)  # what is computed once and kept is done
    rows.clear()
    detector.observe(x)
    observed = rows.copy()
    rows.clear()
    detector.inspect(x)
    assert sum(observed) > 0
    assert rows == observed


@CASES
def test_features_have_a_gradient_and_are_an_images_own(name):
    detector, _ = built(name)
    x = photographs().requires_grad_()
    features = detector.inspect(x).features
    gradient = torch.autograd.grad(features[2].square().sum(), x)[0]
    assert gradient.isfinite().all()
    assert (gradient[2] != 0).any()
    assert (gradient[[0, 1, *range(3, 9)]] == 0).all()
    alone = torch.cat([detector.inspect(one[None].detach()).features for one in x])
    # Less than an image differs from the next, by far.
    assert torch.allclose(alone, features.detach(), rtol=1e-5, atol=1e-6)
    assert (features[0] - features[1]).abs().max() > 1e-3


def _spread(rows):
    return (rows - rows.mean(0)).square().sum(1).mean().sqrt()


def test_features_of_lid_are_all_layers_in_units_of_the_references_spread():
    classifier = lid_bench.classifier_of()
    detector = lid_bench.detector_of(LID(k=8, minibatch=20, secret=3), classifier)
    x = lid_bench.images(5, 7)

    def layers(z):
        seen = classifier.trace(z).activations
        flat = [z.flatten(1)] + [
            (a.movedim(1, -1) if a.dim() == 4 else a).flatten(1)
            for name, a in seen.items()
            if name not in ("dropout", "flatten")  # they repeat what comes before
        ]
        return [*flat, classifier(z).softmax(1)]

    parts = [a / _spread(r) for a, r in zip(layers(x), layers(detector.reference), strict=True)]
    torch.testing.assert_close(detector.features(x), torch.cat(parts, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 0.02])
def test_features_of_mahalanobis_lie_as_far_from_the_means_as_it_says(size):
    victim, x = mahalanobis_bench.classifier(), mahalanobis_bench.images(6, seed=5).x
    watching, state = mahalanobis_bench.fitted(victim, magnitude=size)
    centres = [state[f"layer{number}.centres"] for number in range(3)]
    parts = watching.features(x).split([c.shape[1] for c in centres], 1)
    nearest = watching.nearest(x)[:, 0]
    for number, (part, centre) in enumerate(zip(parts, centres, strict=True)):
        apart = torch.cdist(part * centre.shape[1] ** 0.5, centre).square().amin(1)
        torch.testing.assert_close(apart, nearest[:, number])


def test_training_images_spread_alike_at_every_layer_of_mahalanobis():
    watching, state = mahalanobis_bench.fitted(magnitude=0)
    known = mahalanobis_bench.images()
    widths = [state[f"layer{number}.centres"].shape[1] for number in range(3)]
    for part in watching.features(known.x).split(widths, 1):
        within = torch.cat([part[known.y == k] - part[known.y == k].mean(0) for k in range(3)])
        assert within.square().sum(1).mean() == pytest.approx(1, rel=0.3)


def test_features_of_dropout_detectors_are_mean_and_spread_of_each_probability():
    detector, _ = built("bu")
    x = photographs()
    trace = detector.classifier.trace(x, detector.passes.traced)
    passes = detector.passes.logits(trace, x, 0).double().softmax(2)
    wanted = torch.cat([passes.mean(0), passes.std(0, correction=0)], 1).float()
    torch.testing.assert_close(detector.features(x), wanted)
    both, _ = built("kd+bu")
    found, points = both.features(x), kd_bench.images(100).x[40:]
    hidden = [both.classifier.trace(z, ["tanh"]).activations["tanh"] for z in (x, points)]
    torch.testing.assert_close(found[:, 12:], wanted)
    torch.testing.assert_close(found[:, :12], hidden[0] / _spread(hidden[1]))


def test_probabilities_that_never_vary_have_a_slope():
    detector, _ = built("bu")
    with torch.no_grad():
        detector.classifier.network.head.weight.zero_()
    x = photographs().requires_grad_()
    gradient = torch.autograd.grad(detector.inspect(x).features.sum(), x)[0]
    assert gradient.isfinite().all()


def test_features_of_the_others_are_what_they_compare():
    x = photographs()
    kd, _ = built("kd")
    assert torch.equal(kd.features(x), kd.classifier.trace(x, ["dropout"]).activations["dropout"])
    squeezing, _ = built("feature-squeezing")
    versions = [x, *(squeeze(x) for squeeze in squeezing.squeezers)]
    probabilities = [F.softmax(squeezing.classifier(version), 1) for version in versions]
    torch.testing.assert_close(squeezing.features(x), torch.cat(probabilities, 1))
