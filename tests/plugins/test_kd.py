"""KD: densities beside scikit-learn's, their gradients, the layer looked at, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.neighbors import KernelDensity
from torch import nn

from nfbench import Classifier, Examples, FitData, Model, Split, UsageError
from nfbench.testing import check_defense
from nfbench_defenses import densities
from nfbench_defenses.densities import ClassDensities
from nfbench_defenses.kd import KD
from nfbench_models.lid_nets import MNISTLid
from nfbench_models.nets import DigitsMLP, Table8

BANDWIDTHS = [0.26, 1.2, 3.7926]
SHAPE = (1, 8, 8)


def random_classifier(model: Model | None = None, shape=SHAPE) -> Classifier:
    """Untrained, with logits moved so that its predictions differ."""
    torch.manual_seed(0)
    model = model or DigitsMLP(dropout=0.0)
    classifier = Classifier(model.build(shape, 10), 10).eval().requires_grad_(False)
    classifier.network[-1].bias -= classifier(images(shape=shape).x).mean(0)
    return classifier


def images(count: int = 60, seed: int = 1, shape=SHAPE) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.rand(count, *shape, generator=generator), torch.arange(count) % 10, torch.arange(count)
    )


def fitted(classifier: Classifier, data: Split | FitData | None = None, **knobs):
    data = images() if data is None else data
    data = data if isinstance(data, FitData) else FitData(data)
    defense = KD(**knobs)
    return defense.detector(classifier, defense.fit(classifier, data)).eval()


def activations(count: int, size: int, seed: int) -> torch.Tensor:
    """Like those after a ReLU: half zero."""
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).relu() * 2


def reference(points, labels, queries, bandwidth: float) -> np.ndarray:
    """Log densities under each class by scikit-learn. (B, K)

    All points in one leaf: bounds of its default tree cancel, and far from the points it is wrong.
    """
    estimator = KernelDensity(bandwidth=bandwidth, leaf_size=len(points))
    fits = [clone(estimator).fit(points[labels == k]) for k in range(int(labels.max()) + 1)]
    return np.stack([fit.score_samples(queries) for fit in fits], 1)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize(("size", "per_class"), [(128, 300), (512, 40), (2, 5)])
def test_log_densities_are_scikit_learns(bandwidth, size, per_class):
    labels = torch.arange(3).repeat_interleave(torch.tensor([per_class, per_class + 7, 2]))
    points, queries = activations(len(labels), size, 0), activations(20, size, 1)
    queries[0], queries[1] = points[4], 1e4  # a training image, and one far from all
    found = ClassDensities({"points": points, "counts": labels.bincount()}, bandwidth)
    wanted = reference(points.double(), labels, queries.double(), bandwidth)
    assert found(queries).numpy() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    classes = torch.arange(20) % 3
    alone = found.of(queries, classes)[:, 0].numpy()
    assert alone == pytest.approx(wanted[np.arange(20), classes], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize(("model", "shape"), [(DigitsMLP(), SHAPE), (Table8(), (1, 28, 28))])
def test_the_score_is_minus_the_log_density_under_the_predicted_class(model, shape, bandwidth):
    classifier, train, x = random_classifier(model, shape), images(shape=shape), images(9, 2, shape).x
    seen = []
    classifier.network[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].double()))
    classifier(train.x)
    logits = classifier(x)
    wanted = reference(seen[0][:60], train.y, seen[1][:9], bandwidth)
    predicted = wanted[np.arange(9), logits.argmax(1)]
    watching = fitted(classifier, train, bandwidth=bandwidth)
    assert watching.score(x).numpy() == pytest.approx(-predicted, rel=1e-5)
    observed = watching.observe(x)
    assert torch.equal(observed.score, watching.score(x))
    assert torch.equal(observed.logits, logits)
    assert observed.penalties.numpy() == pytest.approx(
        np.maximum(-wanted, -predicted[:, None]), rel=1e-5
    )
    assert len({*logits.argmax(1).tolist()}) > 1  # or classes could be mixed up unseen


def test_a_densitys_images_are_those_of_its_true_class():
    classifier, train = random_classifier(), images()
    state = KD().fit(classifier, FitData(train))
    shifted = KD().fit(classifier, FitData(Split(train.x, (train.y + 1) % 10, train.index)))
    assert state["counts"].tolist() == [6] * 10
    assert torch.equal(shifted["points"][6:12], state["points"][:6])  # class 0 is now class 1


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


def test_gradients_are_those_of_finite_differences():
    points = activations(30, 6, 0).double()
    counts = torch.tensor([10, 12, 8])
    queries = activations(7, 6, 1).double().requires_grad_()
    for bandwidth in BANDWIDTHS:
        found = ClassDensities({"points": points, "counts": counts}, bandwidth)
        assert torch.autograd.gradcheck(found, queries)
        assert torch.autograd.gradcheck(lambda q, f=found: f.of(q, torch.arange(7) % 3), queries)


def test_the_gradient_of_a_score_in_the_image_is_that_of_finite_differences():
    classifier = random_classifier()
    watching = fitted(classifier).double()
    x = images(3, 2).x.double().requires_grad_()
    assert torch.autograd.gradcheck(watching.score, x, atol=1e-4)
    assert torch.autograd.gradcheck(lambda x: watching.observe(x).penalties, x, atol=1e-4)


def test_far_from_all_points_the_gradient_still_leads_to_the_nearest():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [9.0, 8.0]])
    found = ClassDensities({"points": points, "counts": torch.tensor([2, 2])}, 0.26)
    queries = torch.tensor([[1e3, 0.0], [-5.0, -1e3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(found(queries)[:, 0].sum(), queries)
    wanted = (torch.tensor([[1.0, 0.0], [0.0, 0.0]]) - queries.detach()) / 0.26**2
    assert torch.allclose(gradient, wanted, rtol=1e-5)


def test_large_batches_go_block_by_block(monkeypatch):
    points, queries = activations(60, 6, 0), activations(11, 6, 1).requires_grad_()
    found = ClassDensities({"points": points, "counts": torch.tensor([20, 20, 20])}, 1.2)
    whole = found(queries)
    (gradient,) = torch.autograd.grad(whole[:, 1:].sum(), queries)
    monkeypatch.setattr(densities, "BLOCK", 50)  # two entries
    parts = found(queries)
    assert torch.allclose(whole, parts, rtol=1e-12)
    assert torch.allclose(gradient, torch.autograd.grad(parts[:, 1:].sum(), queries)[0], rtol=1e-6)


def test_only_the_entries_asked_for_are_computed():
    found = ClassDensities({"points": activations(9, 6, 0), "counts": torch.tensor([4, 5])}, 1.2)
    wanted = torch.tensor([[True, False], [False, False], [True, True]])
    blocks = list(found.blocks(wanted, torch.tensor([[1, 0], [0, 1], [0, 1]])))
    entries = [(b.rows.tolist(), b.columns.tolist(), len(b.points)) for b in blocks]
    assert [entry for entry in entries if entry[0]] == [([2], [0], 4), ([0, 2], [0, 1], 5)]


def test_an_image_has_its_numbers_whatever_the_batch():
    classifier, x = random_classifier(), images(40, 2).x
    watching = fitted(classifier)
    for whole, *parts in zip(
        watching.observe(x), *[watching.observe(p) for p in x.split(7)], strict=True
    ):
        assert torch.allclose(whole, torch.cat(parts), rtol=1e-6)
    alone = torch.cat([watching.score(image[None]) for image in x])
    assert torch.allclose(watching.score(x), alone, rtol=1e-6)


def test_one_query_runs_the_network_once():
    classifier, runs = random_classifier(), []
    watching = fitted(classifier)
    classifier.network.register_forward_hook(lambda *_: runs.append(1))
    watching.observe(images(9).x)
    assert len(runs) == 1


def supervised(*, near: bool) -> tuple[Classifier, FitData]:
    """Examples that lie nearer to the other images of their class than clean ones, or farther off."""
    classifier, train = random_classifier(), images(400)
    train = Split(train.x, classifier(train.x).argmax(1), train.index)
    is_example = torch.arange(400) % 4 == 0
    chosen, others = train.take(is_example), train.take(~is_example)
    first = torch.stack([others.x[others.y == k][0] for k in range(10)])
    adversarial = first[chosen.y] if near else chosen.x.round() * 4
    noisy = (chosen.x + 0.01).clamp(0, 1)
    return classifier, FitData(train, Examples(chosen, adversarial, noisy, "planted"))


@pytest.mark.parametrize("near", [True, False])
def test_a_regression_learns_which_side_is_adversarial(near):
    classifier, data = supervised(near=near)
    plain = fitted(classifier, data.others).score(images(50, 5).x)
    learnt = fitted(classifier, data, learns_from="fgsm")
    score = learnt.score(images(50, 5).x)
    slope = np.polyfit(plain, score, 1)
    assert score.numpy() == pytest.approx(np.polyval(slope, plain), abs=1e-4)  # a line
    assert (slope[0] < 0) == near
    seen = learnt.observe(images(50, 5).x)
    assert torch.allclose(seen.score, score, rtol=1e-5)
    assert (seen.penalties >= seen.score[:, None]).all()
    assert (seen.penalties > seen.score[:, None]).any()


def test_an_example_never_meets_itself():
    classifier, data = supervised(near=False)
    state = KD(learns_from="fgsm").fit(classifier, data)
    assert len(state["points"]) == 300
    own = classifier.trace(data.examples.clean.x).activations["7"]
    assert torch.cdist(own, state["points"]).min() > 1e-3


@pytest.mark.parametrize("knobs", [{}, {"learns_from": "fgsm"}, {"layer": "relu", "bandwidth": 0.26}])
def test_the_contract_is_kept(knobs):
    check_defense(KD(**knobs))


def test_a_class_of_too_few_images_is_refused():
    few = images(20)
    with pytest.raises(
        UsageError, match="kd needs 2 training images of each class; class 9 has 1 of the 19"
    ):
        KD().fit(random_classifier(), FitData(few.take(torch.arange(19))))
    with pytest.raises(UsageError, match="class 4 has 0 of the 18"):
        KD().fit(random_classifier(), FitData(few.take(few.y != 4)))
    assert KD().fit(random_classifier(), FitData(few))["counts"].tolist() == [2] * 10


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
    with pytest.raises(UsageError, match=r"kd finds no last layer with a weight matrix.*--set kd.layer"):
        KD().mismatch(bare)
    assert fitted(bare, layer="0").score(images(3).x).shape == (3,)


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
