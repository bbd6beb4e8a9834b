"""LID: what is estimated of which layers, and how a detector learns from it, against a plain loop."""

import numpy as np
import pytest
import torch
from lid_bench import CLASSES, SHAPE, Functional, Smooth, classifier_of, detector_of, fit_data, images
from logistic_bench import counted
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.preprocessing import MinMaxScaler

from nfbench import FitData, Split
from nfbench.runner.measuring import scores
from nfbench.testing import check_defense
from nfbench_defenses.lid import LID
from nfbench_defenses.lid_layers import Profile

COLUMNS = ["input", "conv", "relu", "pool", "dropout", "flatten", "dense", "relu#2", "head", "softmax"]


def layers_by_hand(x, net=None):
    """Activations in float64, one module after the other."""
    net = net or classifier_of().network.double()
    conv = net.conv(x.double())
    pooled = net.pool(conv.relu())
    dense = net.dense(pooled.flatten(1))
    head = net.head(dense.relu())
    seen = [x, conv, conv.relu(), pooled, pooled, pooled, dense, dense.relu(), head, head.softmax(1)]
    return [a.flatten(1).double().numpy() for a in seen]


def lid_by_hand(x, reference, k, first=1):
    """LID from float64 differences, image by image. (B, L)"""
    rows = []
    for query, batch in zip(layers_by_hand(x), layers_by_hand(reference), strict=True):
        columns = []
        for point in query:
            near = np.sort(np.sqrt(((batch - point) ** 2).sum(1)))[first : first + k]
            columns.append(-k / sum(np.log(d / near[-1]) for d in near))
        rows.append(columns)
    return np.array(rows).T


def log_odds_by_hand(kinds, x):
    """What scikit-learn makes of features of adversarial, clean and noisy images."""
    rows, count = np.concatenate(kinds), len(kinds[0])
    scaler, y = MinMaxScaler().fit(rows), np.repeat([1, 0, 0], count)
    folds = list(GroupKFold(5).split(rows, groups=np.tile(np.arange(count), 3)))
    grid = {"C": np.logspace(-4, 4, 10)}
    search = GridSearchCV(LogisticRegression(max_iter=2000), grid, cv=folds)
    search.fit(scaler.transform(rows), y)
    odds, clean = (search.decision_function(scaler.transform(r)) for r in (x, kinds[1]))
    return counted(odds, clean)


@pytest.mark.parametrize(("knobs", "first"), [({}, 1), ({"skip_first": False}, 0), ({"k": 12}, 1)])
def test_estimates_are_those_of_a_loop_in_float64(knobs, first):
    defense = LID(**({"k": 19, "secret": 3, "minibatch": 20} | knobs))
    detector = detector_of(defense, classifier_of())
    x = torch.cat([images(6, 5), detector.reference[:3] + 1e-3 * images(3, 6)])
    found = detector.estimates(x)
    assert found.shape == (9, len(COLUMNS))
    wanted = lid_by_hand(x, detector.reference, k=defense.k, first=first)
    assert found.numpy() == pytest.approx(wanted, rel=1e-4)


def test_scores_are_the_log_odds_of_scikit_learn_on_features_by_hand():
    data, x = fit_data(), images(9, 5)
    detector = detector_of(LID(k=8, minibatch=20, secret=3), classifier_of(), data)
    kinds = (data.examples.adversarial, data.examples.clean.x, data.examples.noisy)
    features = [lid_by_hand(kind, detector.reference, 8) for kind in kinds]
    wanted = log_odds_by_hand(features, lid_by_hand(x, detector.reference, 8))
    assert detector.score(x).numpy() == pytest.approx(wanted, rel=1e-2, abs=1e-2)
    assert np.ptp(wanted) > 1


def test_paired_scores_see_minibatches_of_the_clean_originals_in_fit_and_after():
    data, batch = fit_data(), 32
    detector = detector_of(LID(k=8, minibatch=batch, reference="paired"), classifier_of(), data)
    given = data.examples
    windows = [(0, 0), (32, 0), (70 - batch, 3 * batch - 70)]  # the last reaches back

    def by_hand(x):
        parts = [lid_by_hand(x[a : a + batch], given.clean.x[a : a + batch], 8)[n:] for a, n in windows]
        return np.concatenate(parts)

    kinds = [by_hand(x) for x in (given.adversarial, given.clean.x, given.noisy)]
    found = scores(detector, given.adversarial, given.clean.x)
    assert found.numpy() == pytest.approx(log_odds_by_hand(kinds, kinds[0]), rel=1e-2, abs=1e-2)
    features = detector.bind(given.clean.x[:batch]).estimates(given.adversarial[:5])
    assert features.numpy() == pytest.approx(kinds[0][:5], rel=1e-4)


def test_a_paired_image_leaves_out_its_own_original():
    classifier, originals = classifier_of(), images(30, 5)
    with_own = Profile(classifier, originals, None, 8).look(originals[:1])[1]
    without = Profile(classifier, originals[1:], None, 8, skip_first=False).look(originals[:1])[1]
    assert torch.allclose(with_own, without, rtol=1e-4)


def test_the_order_within_a_minibatch_changes_no_paired_score():
    data, order = fit_data(), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    detector = detector_of(LID(k=8, minibatch=30, reference="paired"), classifier_of(), data)
    x, originals = data.examples.adversarial[:30], data.examples.clean.x[:30]
    found, shuffled = scores(detector, x, originals), scores(detector, x[order], originals[order])
    assert shuffled.numpy() == pytest.approx(found[order].numpy(), rel=1e-4, abs=1e-5)
    assert found.std() > 0.1


def test_only_the_paired_reference_warns_and_binds():
    data, originals = fit_data(), images(30, 5)
    assert LID().caveat == ""
    assert LID().paired == 0
    disjoint = detector_of(LID(k=8, minibatch=30), classifier_of(), data)
    assert disjoint.paired == 0
    assert disjoint.bind(originals) is disjoint
    defense = LID(k=8, minibatch=30, reference="paired")
    assert "own clean original" in defense.caveat
    assert defense.paired == detector_of(defense, classifier_of(), data).paired == 30


def test_layers_that_change_nothing_are_neither_traced_nor_compared_twice():
    classifier = classifier_of()
    profile = Profile(classifier, images(30), None, 8)
    features = profile.look(images(5, 2))[1]
    pool = COLUMNS.index("pool")
    assert torch.equal(features[:, pool], features[:, pool + 1])
    assert torch.equal(features[:, pool], features[:, pool + 2])
    assert {"dropout", "flatten"}.isdisjoint(profile.names)
    alone = Profile(classifier, images(30), ("dropout",), 8).look(images(5, 2))[1]
    assert torch.allclose(alone[:, 0], features[:, pool], rtol=1e-5)


def test_a_dropout_after_a_function_is_a_layer_of_its_own():
    profile = Profile(classifier_of(Functional), images(30), ("conv", "dropout"), 8)
    conv, dropout = profile.look(images(5, 2))[1].T
    assert profile.names == ["conv", "dropout"]
    assert ((conv / dropout - 1).abs() > 1e-3).all()


def test_chosen_layers_are_columns_in_order_of_execution_both_runs_of_a_module_among_them():
    classifier, x = classifier_of(), images(5, 2)
    everything = Profile(classifier, images(30), None, 8).look(x)[1]
    some = Profile(classifier, images(30), ("softmax", "relu", "input"), 8).look(x)[1]
    wanted = everything[:, [COLUMNS.index(name) for name in ("input", "relu", "relu#2", "softmax")]]
    assert torch.equal(some, wanted)


def test_the_reference_is_drawn_by_the_secret_from_images_no_example_was_made_of():
    data, classifier = fit_data(), classifier_of()
    first, again, other = (
        LID(k=8, minibatch=15, secret=s).fit(classifier, data)["reference"] for s in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    unused = {image.numpy().tobytes() for image in data.others.x}
    drawn = {image.numpy().tobytes() for image in first}
    assert len(drawn) == 15
    assert drawn < unused


def test_an_image_alone_has_the_bits_it_has_in_a_batch():
    detector, x = detector_of(LID(k=8, minibatch=20), classifier_of()), images(50, 5)
    together = detector.observe(x)
    alone = [detector.observe(image[None]) for image in x]
    for whole, parts in zip(together[:3], zip(*alone, strict=True), strict=False):
        assert torch.equal(whole, torch.cat(parts))


def test_one_pass_gives_logits_score_and_penalties():
    classifier, x = classifier_of(), images(40, 5)
    detector = detector_of(LID(k=8, minibatch=20), classifier)
    score = detector.score(x)
    rows = []
    classifier.network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    seen = detector.observe(x)
    assert rows == [40]
    assert torch.allclose(seen.logits, classifier(x), atol=1e-6)
    assert torch.equal(seen.score, score)
    assert torch.equal(seen.penalties, score[:, None].expand(40, CLASSES))


def test_the_slope_of_a_score_is_that_of_finite_differences():
    classifier, data = classifier_of(Smooth), fit_data()
    detector = detector_of(LID(k=8, minibatch=20), classifier, data).double()
    x = images(4, 5).double().requires_grad_()
    weights = torch.rand(4, detector.estimates(x).shape[1], dtype=torch.float64)
    (slope,) = torch.autograd.grad((detector.estimates(x) * weights).sum(), x)
    for seed in range(5):
        step = 1e-6 * (images(4, seed).double() - 0.5)
        with torch.no_grad():
            above, below = (detector.estimates(x + s) for s in (step, -step))
        measured = ((above - below) * weights).flatten(1).sum(1) / 2
        assert torch.allclose((slope * step).flatten(1).sum(1), measured, rtol=1e-5, atol=0)
    (of_score,) = torch.autograd.grad(detector.score(x).sum(), x)
    (in_float,) = torch.autograd.grad(
        detector.float().score(f := x.detach().float().requires_grad_()).sum(), f
    )
    assert of_score.flatten(1).norm(dim=1).min() > 0.1
    assert torch.allclose(
        in_float.double(), of_score, rtol=1e-2, atol=1e-3 * float(of_score.abs().max())
    )


def test_a_moved_detector_computes_in_the_numbers_it_was_moved_to():
    detector = detector_of(LID(k=8, minibatch=20), classifier_of())
    x = images(4, 5)
    in_float = detector.estimates(x)
    in_double = detector.double().estimates(x.double())
    assert in_double.dtype == torch.float64
    wanted = lid_by_hand(x, detector.reference.float(), 8)
    assert in_double.numpy() == pytest.approx(wanted, rel=1e-9)
    assert torch.equal(detector.float().estimates(x), in_float)


def test_coincident_points_have_finite_scores_and_slopes():
    data = fit_data()
    same = data.clean.x[:1].expand(12, *SHAPE)  # 12 of the 20 images no example was made of
    x = torch.cat([same, data.clean.x[12:]])
    crowded = FitData(Split(x, data.clean.y, data.clean.index), data.examples)
    detector = detector_of(LID(k=8, minibatch=20), classifier_of(), crowded)
    probe = torch.cat([same[:2], images(2, 5)]).requires_grad_()
    score = detector.score(probe)
    (slope,) = torch.autograd.grad(score.sum(), probe)
    assert score.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"reference": "paired"},
        {"skip_first": False, "k": 5},
        {"layers": ("relu", "softmax")},
    ],
)
def test_it_keeps_the_contract(knobs):
    check_defense(LID(**knobs))
