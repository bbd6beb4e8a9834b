"""Rank metrics under resamples, beside the plain metrics of repeated images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nfbench.report import metrics
from nfbench.stats import auroc, bootstrap

SCORES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf])
METRICS = [
    (bootstrap.auroc, metrics.auroc),
    (bootstrap.average_precision, metrics.average_precision),
    (bootstrap.fpr_at_tpr, metrics.fpr_at_tpr),
]


@pytest.mark.parametrize(("weighted", "plain"), METRICS)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=12), st.integers(0, 1000))
def test_weights_are_repetitions(weighted, plain, pairs, seed):
    clean, adversarial = map(np.array, zip(*pairs, strict=True))
    weights = bootstrap.draws(len(clean), 5, seed)
    found = weighted(bootstrap.levels(clean, adversarial, weights, weights))
    for counts, value in zip(weights.astype(int), found, strict=True):
        assert value == pytest.approx(plain(np.repeat(clean, counts), np.repeat(adversarial, counts)))


@pytest.mark.parametrize(("weighted", "plain"), METRICS)
def test_metrics_see_only_the_order(weighted, plain):
    clean, adversarial = np.random.default_rng(0).normal(size=(2, 60)).round(1)
    weights = bootstrap.draws(60, 20)
    before = weighted(bootstrap.levels(clean, adversarial, weights, weights))
    after = weighted(bootstrap.levels(np.exp(clean), np.exp(adversarial), weights, weights))
    np.testing.assert_array_equal(before, after)


def test_images_with_two_negatives_are_drawn_with_both():
    weights = bootstrap.draws(3, 50)
    at = bootstrap.levels(
        np.arange(6.0), np.array([2.5, 4.5, 0.5]), weights[:, [0, 1, 2, 0, 1, 2]], weights
    )
    assert (at.clean_total == 6).all()


def test_draws_are_multinomial_and_repeatable():
    weights = bootstrap.draws(40, 4000, 3)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(40), abs=0.08)
    assert weights.var() == pytest.approx(1 - 1 / 40, rel=0.02)
    np.testing.assert_array_equal(weights, bootstrap.draws.__wrapped__(40, 4000, 3))
    assert (weights != bootstrap.draws(40, 4000, 4)).any()


def test_resampled_thresholds_and_rates_are_those_of_repeated_images():
    rng = np.random.default_rng(1)
    calibration, lowest = rng.normal(size=50).round(1), np.r_[rng.normal(size=29), math.inf]
    own, other = bootstrap.draws(50, 30), bootstrap.draws(30, 30)
    taus = bootstrap.thresholds(calibration, own, 0.1)
    rates = bootstrap.success_rate(lowest, other, taus)
    for draw in range(30):
        tau = metrics.threshold(np.repeat(calibration, own[draw].astype(int)), 0.1)
        assert taus[draw] == tau
        attacked = np.repeat(lowest, other[draw].astype(int))
        assert rates[draw] == pytest.approx(metrics.success_rate_at(tau, attacked))
    assert np.isnan(bootstrap.thresholds(calibration, own, 0.001)).all()
    assert bootstrap.success_rate(np.full(30, math.inf), other, np.full(30, math.inf)).max() == 0


def test_a_resample_without_positives_has_no_value():
    at = bootstrap.levels(np.zeros(2), np.ones(1), np.ones((1, 2)), np.zeros((1, 1)))
    assert np.isnan(bootstrap.auroc(at)).all()
    assert np.isnan(bootstrap.average_precision(at)).all()


def test_the_replicates_spread_as_the_clustered_variance_says():
    rng = np.random.default_rng(2)
    clean = rng.normal(size=200)
    adversarial = 0.7 * clean + 0.7 * rng.normal(size=200) + 1
    weights = bootstrap.draws(200)
    replicates = bootstrap.auroc(bootstrap.levels(clean, adversarial, weights, weights))
    assert replicates.var() == pytest.approx(auroc.influence(clean, adversarial).variance, rel=0.12)


def test_perfect_separation_keeps_a_width():
    found = bootstrap.rank_intervals(np.linspace(0, 1, 100), np.linspace(2, 3, 100))
    assert found["ap"].high == 1
    assert 0.95 < found["ap"].low < 0.98
    assert found["fpr_at_95_tpr"].low == 0
    assert 0.02 < found["fpr_at_95_tpr"].high < 0.05


def test_many_images_are_resampled_in_blocks_with_the_same_outcome(monkeypatch):
    rng = np.random.default_rng(3)
    clean, adversarial = rng.normal(size=80), rng.normal(1, 1, 50)
    args = clean, adversarial, np.arange(80), np.arange(20, 70)
    whole = bootstrap.rank_intervals(*args)
    monkeypatch.setattr(bootstrap, "MOST_WEIGHTS", 80 * 300)
    parts = bootstrap.rank_intervals(*args)
    assert set(whole) == {"ap", "fpr_at_95_tpr"}
    for name, interval in whole.items():
        assert parts[name] == pytest.approx(interval, abs=0.02)


@pytest.mark.parametrize("target", [0.8, 0.99])
def test_intervals_of_rank_metrics_cover(target):
    rng, n = np.random.default_rng(4), 120
    shift = math.sqrt(2) * stats.norm.ppf(target)

    def sample(count):
        clean, noise = rng.normal(size=(2, count))
        return clean, 0.6 * clean + 0.8 * noise + shift

    everyone = sample(400_000)
    true = {"ap": metrics.average_precision(*everyone), "fpr_at_95_tpr": metrics.fpr_at_tpr(*everyone)}
    hits = dict.fromkeys(true, 0)
    for _ in range(100):
        for name, (low, high) in bootstrap.rank_intervals(*sample(n)).items():
            hits[name] += low <= true[name] <= high
    assert min(hits.values()) >= 91
