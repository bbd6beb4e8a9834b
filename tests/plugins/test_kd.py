"""KD: densities beside scikit-learn's, and their gradients."""

import numpy as np
import pytest
import torch
from kd_bench import BANDWIDTHS, SHAPE, fitted, images, random_classifier
from sklearn.base import clone
from sklearn.neighbors import KernelDensity

from nfbench import Classifier, Examples, FitData, Split, UsageError
from nfbench.testing import check_defense
from nfbench_defenses import densities
from nfbench_defenses.densities import ClassDensities
from nfbench_defenses.kd import KD
from nfbench_models.nets import DigitsMLP, Table8


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
        watching.observe(x)[:3], *[watching.observe(p)[:3] for p in x.split(7)], strict=True
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
    assert score.numpy() == pytest.approx(np.polyval(slope, plain), rel=1e-4, abs=1e-3)  # a line
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
