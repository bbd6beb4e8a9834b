"""Robust accuracy with reject and RAUC, against sums over images and thresholds written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.report.robustness import lenient, rauc, strict


def drawn(seed, images=60, calibration=80):
    rng = np.random.default_rng(seed)
    correct = rng.random(images) < 0.8
    clean = np.round(rng.normal(size=images), 1)
    lowest = np.round(clean[correct] + rng.normal(0.3, 1, correct.sum()), 1)
    lowest[rng.random(len(lowest)) < 0.3] = np.inf
    return {
        "test_label": np.zeros(images, int),
        "test_prediction": np.where(correct, 0, 1),
        "test_score": clean,
        "evasion_score": lowest,
        "calibration_score": np.round(rng.normal(size=calibration), 1),
    }


def by_hand(vectors, tau, *, mild):
    kept, position = 0, 0
    for wrong, score in zip(vectors["test_prediction"], vectors["test_score"], strict=True):
        if wrong:
            kept += mild and score > tau
            continue
        lowest = vectors["evasion_score"][position]
        position += 1
        evaded = np.isfinite(lowest) and lowest <= tau
        kept += not evaded if mild else score <= tau and not evaded
    return kept / len(vectors["test_label"])


@given(st.integers(0, 2**32), st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_both_readings_are_counts_of_images(seed, tau):
    vectors = drawn(seed)
    taus = np.array([tau, np.round(tau, 1), np.inf])
    for share, mild in ((strict(vectors), False), (lenient(vectors), True)):
        expected = [by_hand(vectors, one, mild=mild) for one in taus]
        assert share(taus) == pytest.approx(expected)
    assert (strict(vectors)(taus) <= lenient(vectors)(taus) + 1e-12).all()


@given(st.integers(0, 2**32), st.sampled_from([1.0, 0.5, 0.1]))
@settings(max_examples=40, deadline=None)
def test_rauc_is_the_mean_over_thresholds_of_strict_by_what_nobody_exceeds(seed, upto):
    vectors = drawn(seed)
    taus, m = np.sort(vectors["calibration_score"]), 80
    terms = [
        by_hand(vectors, tau, mild=False) * (m + 1) / rank
        for rank, tau in enumerate(taus, 1)
        if 1 - rank / (m + 1) <= upto + 1e-12
    ]
    found = rauc(vectors, upto=upto)
    assert found.value == pytest.approx(min(1.0, np.mean(terms)))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_perfect_defense_has_a_rauc_of_one():
    vectors = drawn(1) | {"test_prediction": np.zeros(60, int), "evasion_score": np.full(60, np.inf)}
    vectors["test_score"] = vectors["calibration_score"] = np.arange(60) / 60
    assert rauc(vectors).value == pytest.approx(1.0, abs=0.02)


def test_the_interval_covers_what_many_images_give():
    """Of 300 test and calibration images; the error of both is in it."""

    def one(seed, size):
        return rauc(drawn(seed, size, size), upto=0.5)

    truth = np.mean([one(seed, 20_000).value for seed in range(3)])
    found = [one(seed, 300) for seed in range(200)]
    assert np.mean([v.low <= truth <= v.high for v in found]) >= 0.92
    spread = np.std([v.value for v in found])
    assert np.mean([v.high - v.low for v in found]) < 1.3 * 3.92 * spread


def test_too_few_calibration_images_leave_no_area():
    found = rauc(drawn(0, calibration=5), upto=0.1)
    assert found.value is None
    assert "5 calibration images" in found.flag


def test_a_rauc_of_nothing_and_of_everything_has_a_width():
    lost = drawn(2, 200, 200) | {"evasion_score": np.full(200, -9.0)}
    lost["test_prediction"] = np.zeros(200, int)
    found = rauc(lost)
    assert found.value == 0.0
    assert 0.005 < found.high < 0.05
    kept = lost | {"evasion_score": np.full(200, np.inf)}
    kept["test_score"] = kept["calibration_score"] = np.arange(200) / 200
    assert rauc(kept).low < 0.99
