"""Metrics of score vectors: against scikit-learn, known values and the identities between them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nfbench.report import metrics

fixed = settings(derandomize=True, deadline=None, max_examples=200)
TIED = st.lists(st.integers(-6, 6), min_size=1, max_size=30)  # few values, so many ties
INFINITE = st.sampled_from([math.inf, -math.inf])
WITH_INFINITIES = st.lists(st.integers(-3, 3).map(float) | INFINITE, min_size=1, max_size=30)
TWENTY = np.arange(1, 21) / 20  # .05, .10, …, 1.00


def labelled(clean, adversarial):
    """Labels and scores as scikit-learn wants them; infinities become ranks."""
    scores = np.concatenate([clean, adversarial])
    return np.repeat([0, 1], [len(clean), len(adversarial)]), rankdata(scores, method="dense")


def test_auroc_has_its_known_value_with_ties_and_infinity():
    assert metrics.auroc(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.35, 0.5, 0.4, np.inf])) == 0.90625


@fixed
@given(clean=TIED, adversarial=TIED, shift=st.sampled_from([0, 50, -1050]), power=st.integers(-6, 6))
def test_auroc_equals_scikit_learn_under_shifts_scales_and_ties(clean, adversarial, shift, power):
    negative, positive = (np.array(v) * 10.0**power + shift for v in (clean, adversarial))
    labels = np.repeat([0, 1], [len(clean), len(adversarial)])
    found = metrics.auroc(negative, positive)
    assert found == pytest.approx(roc_auc_score(labels, np.concatenate([negative, positive])), abs=1e-12)
    assert found == metrics.auroc(np.array(clean), np.array(adversarial))


@fixed
@given(clean=WITH_INFINITIES, adversarial=WITH_INFINITIES)
def test_auroc_with_infinities_equals_scikit_learn_on_ranks(clean, adversarial):
    labels, ranks = labelled(clean, adversarial)
    found = metrics.auroc(np.array(clean), np.array(adversarial))
    assert found == pytest.approx(roc_auc_score(labels, ranks), abs=1e-12)


@fixed
@given(clean=WITH_INFINITIES, adversarial=WITH_INFINITIES)
def test_average_precision_equals_scikit_learn(clean, adversarial):
    labels, ranks = labelled(clean, adversarial)
    found = metrics.average_precision(np.array(clean), np.array(adversarial))
    assert found == pytest.approx(average_precision_score(labels, ranks), abs=1e-12)


@fixed
@given(clean=WITH_INFINITIES, adversarial=WITH_INFINITIES, tpr=st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_fpr_at_tpr_equals_the_first_point_of_the_roc_curve(clean, adversarial, tpr):
    labels, ranks = labelled(clean, adversarial)
    false_positive, true_positive, _ = roc_curve(labels, ranks, drop_intermediate=False)
    wanted = false_positive[np.argmax(true_positive >= tpr - 1e-9)]
    found = metrics.fpr_at_tpr(np.array(clean), np.array(adversarial), tpr)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_float32_scores_that_differ_in_the_last_bit_are_told_apart():
    low = np.float32(-1050.0)
    high = np.nextafter(low, np.float32(0))
    assert metrics.auroc(np.array([low]), np.array([high])) == 1.0


def test_success_rate_has_its_known_value_at_the_interpolated_quantile():
    evasion = np.array([0.3, 0.96, np.inf, 0.5])
    assert metrics.success_rate_at(float(np.quantile(TWENTY, 0.95)), evasion) == 0.5


def test_success_rate_at_the_order_statistic_counts_what_lies_at_or_below_it():
    tau = metrics.threshold(TWENTY, 0.05)
    assert tau == 1.0
    assert metrics.success_rate_at(tau, np.array([0.3, 0.96, np.inf, 0.5])) == 0.75
    assert metrics.success_rate_at(tau, np.array([1.0, np.nextafter(1.0, 2.0)])) == 0.5


def test_an_image_that_was_never_misclassified_is_no_success_at_any_threshold():
    evasion, correct, clean = np.array([0.3, math.inf]), np.array([True, True]), np.array([0.1, 0.1])
    assert metrics.success_rate_at(math.inf, evasion) == 0.5
    assert metrics.robust_accuracy(math.inf, correct, clean, evasion) == 0.5


@fixed
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60))
def test_worst_auroc_is_one_minus_the_area_under_the_success_rate(seed, clean_count, attacked):
    rng = np.random.default_rng(seed)
    clean = rng.random(clean_count)
    evasion = np.where(rng.random(attacked) < 0.3, np.inf, rng.random(attacked) * 1.2)
    # SR(p) is a step function whose steps end at p = k / (n + 1); the mean over them is its integral.
    rates = [k / (clean_count + 1) for k in range(1, clean_count + 1)]
    curve = [metrics.success_rate_at(metrics.threshold(clean, p), evasion) for p in rates]
    assert metrics.auroc(clean, evasion) == pytest.approx(1 - np.mean(curve), abs=1e-12)


@fixed
@given(WITH_INFINITIES, st.integers(-4, 4))
def test_what_is_not_rejected_succeeds(evasion, tau):
    scores = np.array(evasion)
    assert metrics.tpr_at(tau, scores) == pytest.approx(1 - metrics.success_rate_at(tau, scores))


def test_robust_accuracy_charges_errors_rejections_and_evasions():
    correct = np.array([True, False, True, True, True])
    clean = np.array([0.1, 0.1, 0.9, 0.1, 0.5])  # the third is rejected though clean
    evasion = np.array([0.9, 0.9, 0.2, np.inf])  # one for each correct image; the fourth is evaded
    # Survivors at tau = .5: the first and the fifth (its clean score lies at the threshold).
    assert metrics.robust_accuracy(0.5, correct, clean, evasion) == 2 / 5
    assert metrics.robust_accuracy(0.95, correct, clean, evasion) == 1 / 5
    assert metrics.robust_accuracy(0.0, correct, clean, evasion) == 0


@pytest.mark.parametrize("bad", [[], [[0.1, 0.2]], [0.1, math.nan]], ids=["empty", "matrix", "nan"])
@pytest.mark.parametrize("metric", [metrics.auroc, metrics.average_precision, metrics.fpr_at_tpr])
def test_scores_that_are_no_vector_of_numbers_are_refused(metric, bad):
    good = np.array([0.5])
    for pair in ((np.array(bad), good), (good, np.array(bad))):
        with pytest.raises(ValueError, match="non-empty vector without NaN"):
            metric(*pair)
