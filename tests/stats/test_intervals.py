"""Rates, rates at a calibrated threshold, means over seeds, differences."""

import math

import numpy as np
import pytest
from scipy import stats

from nfbench.stats import intervals
from nfbench.stats.intervals import Interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(successes, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_ends_exactly_at_0_and_1_and_takes_effective_numbers():
    assert intervals.wilson(0, 30).low == 0.0
    assert intervals.wilson(30, 30).high == 1.0
    assert intervals.wilson(7.5, 7.5) == (pytest.approx(7.5 / (7.5 + 1.959964**2)), 1.0)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_wilson_refuses_what_is_no_rate(successes, n):
    with pytest.raises(ValueError, match="no rate"):
        intervals.wilson(successes, n)


def test_a_difference_of_rates_gives_the_published_interval():
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, example (a), method 10."""
    one, other = intervals.wilson(56, 70), intervals.wilson(48, 80)
    found = intervals.difference(56 / 70, one, 48 / 80, other)
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_error_of_the_threshold_is_that_of_resampled_calibration_scores():
    rng = np.random.default_rng(0)
    calibration, lowest = rng.normal(size=80).round(1), rng.normal(0.8, 1, 200)
    share = intervals.evaded_shares(lowest)
    rate, variance = intervals.threshold_variance(share, calibration, 0.05)
    rank = math.ceil(81 * 0.95)
    resampled = np.sort(rng.choice(calibration, (20_000, 80)), axis=1)[:, rank - 1]
    assert rate == (lowest <= np.sort(calibration)[rank - 1]).mean()
    assert variance == pytest.approx(share(resampled).var(), rel=0.05)


def test_infinite_points_never_evade_even_where_nothing_is_rejected():
    calibration = np.full(40, np.inf)
    found = intervals.evasion_rate(np.array([np.inf, np.inf, 3.0, np.inf]), calibration, 0.05)
    assert found == pytest.approx(intervals.wilson(1, 4))


def test_a_certain_threshold_leaves_wilson():
    found = intervals.evasion_rate(np.linspace(0, 1, 50), np.full(60, 0.5), 0.05)
    assert found == pytest.approx(intervals.wilson(25, 50))


def test_an_alarm_is_a_score_strictly_above_the_threshold():
    scores = np.array([0.5] * 30 + [0.6] * 10)
    assert intervals.alarm_rate(scores, np.full(60, 0.5), 0.05) == pytest.approx(
        intervals.wilson(10, 40)
    )


def test_too_few_calibration_images_have_no_interval():
    with pytest.raises(ValueError, match="10 calibration images"):
        intervals.evasion_rate(np.zeros(5), np.zeros(10), 0.05)


@pytest.mark.parametrize(("shift", "spread"), [(1.5, 0.3), (0.0, 1.0), (3.5, 1.0)])
def test_the_rate_at_the_true_false_alarm_rate_is_covered(shift, spread):
    """The first case's attack ends where the threshold is uncertain: Wilson alone covers .3 there."""
    rng = np.random.default_rng(1)
    true = stats.norm.cdf((stats.norm.ppf(0.95) - shift) / spread)
    covered, wilson = 0, 0
    for _ in range(300):
        calibration, lowest = rng.normal(size=150), rng.normal(shift, spread, 200)
        low, high = intervals.evasion_rate(lowest, calibration, 0.05)
        covered += low <= true <= high
        evaded = (lowest <= np.sort(calibration)[math.ceil(151 * 0.95) - 1]).sum()
        low, high = intervals.wilson(evaded, 200)
        wilson += low <= true <= high
    assert covered / 300 >= 0.915
    assert spread > 0.5 or wilson / 300 < 0.6


def contributions(outcomes):
    return (outcomes - outcomes.mean(axis=1, keepdims=True)) / outcomes.shape[1]


def test_seeds_that_all_agree_at_one_leave_the_interval_over_images():
    found = intervals.over_seeds(np.ones(5), np.zeros((5, 300)))
    assert found == pytest.approx(intervals.wilson(300, 300))


def test_one_seed_has_the_interval_over_images():
    outcomes = np.array([[1.0] * 60 + [0.0] * 140])
    found = intervals.over_seeds([0.3], contributions(outcomes))
    assert found == pytest.approx(intervals.wilson(60, 200), abs=1e-3)


def test_where_images_add_nothing_the_interval_is_students():
    values = np.array([0.48, 0.50, 0.52])
    low, high = intervals.over_seeds(values, np.array([[1e-6, -1e-6, 0.0]] * 3) * 1e-3, n=10**9)
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    assert (high - low) / 2 == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.6), (5, 0.3), (1, 0.0)])
def test_the_mean_over_seeds_is_covered(seeds, spread):
    rng = np.random.default_rng(2)
    everyone = 1 + math.hypot(spread, 2) * rng.normal(size=400_000)
    true, covered, n = (1 / (1 + np.exp(-everyone))).mean(), 0, 120
    for _ in range(300):
        logits = 1 + spread * rng.normal(size=(seeds, 1)) + 2 * rng.normal(size=(1, n))
        outcomes = (rng.random((seeds, n)) < 1 / (1 + np.exp(-logits))).astype(float)
        low, high = intervals.over_seeds(outcomes.mean(axis=1), contributions(outcomes))
        covered += low <= true <= high
    assert covered / 300 >= 0.92


def test_the_shared_variance_is_that_of_images_and_not_of_seeds():
    rng = np.random.default_rng(3)
    images, rest = rng.normal(size=5000), rng.normal(size=(4, 5000))
    found = intervals.shared_variance((2 * images + 3 * rest) / 5000)
    assert found == pytest.approx(4 / 5000, rel=0.15)


def test_seeds_with_different_images_are_aligned():
    found = intervals.aligned(
        [np.array([4, 2]), np.array([7, 4])], [np.array([1.0, 2]), np.array([3.0, 4])]
    )
    assert found.tolist() == [[2, 1, 0], [0, 4, 3]]


def test_equal_contributions_take_part_equally():
    assert intervals.participation(np.array([2.0, -2, 0, 2])) == pytest.approx(3)
    assert intervals.participation(np.zeros(4)) == 0
    assert intervals.participation(np.array([1e-200, 1e-200])) == pytest.approx(2)


def test_intervals_widen_with_the_level():
    narrow, wide = intervals.wilson(5, 50, level=0.5), intervals.wilson(5, 50, level=0.99)
    assert isinstance(narrow, Interval)
    assert wide.low < narrow.low < 0.1 < narrow.high < wide.high
