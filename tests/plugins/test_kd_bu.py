"""KD+BU: its two features beside independent ones, the regression on them, and the one pass."""

import numpy as np
import pytest
import torch
from logistic_bench import counted
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KernelDensity

from nfbench import Classifier, Examples, FitData, Split, UsageError
from nfbench.testing import check_defense
from nfbench_defenses.bu import BU
from nfbench_defenses.kd import KD
from nfbench_defenses.kd_bu import KDPlusBU
from nfbench_models.nets import DigitsMLP

SHAPE = (1, 8, 8)


def random_classifier(dropout: float = 0.3) -> Classifier:
    """Untrained, with logits moved so that its predictions differ."""
    torch.manual_seed(0)
    classifier = Classifier(DigitsMLP(dropout=dropout).build(SHAPE, 10), 10).eval().requires_grad_(False)
    classifier.network[-1].bias -= classifier(images(60)).mean(0)
    return classifier


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def learning(classifier: Classifier) -> FitData:
    x = images(400)
    train = Split(x, classifier(x).argmax(1), torch.arange(400))
    chosen = train.take(train.index % 4 == 0)
    noise = torch.randn(chosen.x.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    adversarial = chosen.x + 5 * noise.flip(0)
    return FitData(train, Examples(chosen, adversarial, chosen.x + noise, "planted"))


def fitted(classifier: Classifier, **knobs):
    defense = KDPlusBU(**{"secret": 3, "passes": 20, **knobs})
    return defense.detector(classifier, defense.fit(classifier, learning(classifier))).eval()


def features(classifier: Classifier, x: torch.Tensor) -> np.ndarray:
    """Log density by scikit-learn, and U by `bu`. (B, 2)"""
    others = learning(classifier).others
    points = classifier.trace(others.x).activations["8"].double()
    queries, logs = classifier.trace(x).activations["8"].double(), np.zeros(len(x))
    predicted = classifier(x).argmax(1)
    for k in predicted.unique():
        estimator = KernelDensity(bandwidth=1.2, leaf_size=len(points)).fit(points[others.y == k])
        logs[predicted == k] = estimator.score_samples(queries[predicted == k])
    bu = BU(secret=3, passes=20)
    state = bu.fit(classifier, FitData(others))
    return np.stack([logs, bu.detector(classifier, state).score(x).double().exp().numpy()], 1)


def test_the_score_is_scikit_learns_regression_on_scikit_learns_density_and_bus_variance():
    classifier = random_classifier()
    examples, x = learning(classifier).examples, images(50, 9)
    kinds = (examples.adversarial, examples.clean.x, examples.noisy)
    rows = np.concatenate([features(classifier, kind) for kind in kinds])
    low, span = rows.min(0), np.ptp(rows, 0)
    count = len(examples.clean)
    folds = list(GroupKFold(5).split(rows, groups=np.tile(np.arange(count), 3)))
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": np.logspace(-4, 4, 10)}, cv=folds)
    search.fit((rows - low) / span, np.repeat([1, 0, 0], count))
    odds = search.decision_function((features(classifier, x) - low) / span)
    wanted = counted(odds, search.decision_function((rows[count : 2 * count] - low) / span))
    score = fitted(classifier).score(x)
    assert score.numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert np.abs(search.best_estimator_.coef_).min() > 0.01  # both count


def test_the_evidence_is_that_of_its_two_halves():
    classifier, x = random_classifier(), images(30, 5)
    found = fitted(classifier).evidence(x).numpy()
    assert found == pytest.approx(features(classifier, x), rel=1e-5)


def test_penalties_are_the_scores_under_each_classs_density_and_never_below_the_score():
    classifier, x = random_classifier(), images(30, 5)
    watching = fitted(classifier)
    seen, variance = watching.observe(x), watching.evidence(x)[:, 1]
    kd = KD()
    plain = kd.detector(classifier, kd.fit(classifier, FitData(learning(classifier).others)))
    logs = -plain.observe(x).penalties.double()  # exact where it is no more than the predicted class's
    predicted = classifier(x).argmax(1)
    below = logs < logs.gather(1, predicted[:, None])
    for k in range(10):
        odds = watching.odds(torch.stack([logs[:, k], variance], 1))
        wanted = torch.maximum(odds, seen.score.double())
        assert torch.allclose(
            seen.penalties[below[:, k], k].double(), wanted[below[:, k]], rtol=1e-4, atol=1e-3
        )
    assert below.sum() > 30
    assert (seen.penalties >= seen.score[:, None]).all()
    assert torch.equal(seen.penalties.gather(1, predicted[:, None])[:, 0], seen.score)
    assert torch.equal(seen.score, watching.score(x))
    assert torch.equal(seen.logits, classifier(x))


def test_one_query_runs_the_network_once_and_only_what_follows_the_dropout_again():
    classifier, runs = random_classifier(), []
    watching = fitted(classifier)
    for name in ("2", "6", "10"):
        classifier.network.get_submodule(name).register_forward_hook(
            lambda *_, name=name: runs.append(name)
        )
    watching.observe(images(40))
    assert sorted(runs) == ["10", "10", "10", "2", "6", "6", "6"]  # 20 passes of 40 rows are two batches


def test_all_images_of_a_call_share_a_draw_and_draws_differ():
    classifier, x = random_classifier(), images(40, 5)
    watching = fitted(classifier)
    first = watching.score(x)
    alone = torch.cat([watching.score(image[None]) for image in x])
    assert torch.allclose(first, alone, rtol=1e-4, atol=1e-5)
    watching.draw = 1
    assert not torch.allclose(first, watching.score(x), rtol=1e-3)
    assert watching.stochastic


def test_the_gradient_of_the_evidence_is_that_of_finite_differences():
    classifier = random_classifier()
    watching = fitted(classifier, passes=4).double()
    x = images(3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(watching.evidence, x, atol=1e-5)
    (whole,) = torch.autograd.grad(watching.score(x).sum(), x)
    weight = watching.odds.weight / watching.odds.span
    parts = [torch.autograd.grad(watching.evidence(x)[:, i].sum(), x)[0] * weight[i] for i in range(2)]
    assert torch.allclose(whole, sum(parts), rtol=1e-5)


def test_the_contract_is_kept():
    check_defense(KDPlusBU())


def test_a_classifier_that_lacks_what_either_half_needs_is_refused():
    with pytest.raises(UsageError, match=r"kd\+bu needs a classifier with dropout"):
        fitted(random_classifier(dropout=0.0))
    assert KDPlusBU().mismatch(random_classifier(dropout=0.0))
    assert not KDPlusBU().mismatch(random_classifier())
    with pytest.raises(UsageError, match=r"kd\+bu.layer = 'relu'"):
        KDPlusBU(layer="relu").mismatch(random_classifier())
    classifier = random_classifier()
    data = learning(classifier)
    lacking = FitData(data.clean.take(data.clean.y != 4), data.examples)
    with pytest.raises(UsageError, match=r"kd\+bu needs 2 training images of each class; class 4 has 0"):
        KDPlusBU().fit(classifier, lacking)
