"""Operating points: an order statistic that keeps its promised false-alarm rate."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.core.threshold import spread, threshold
from nfbench.core.victim import Alarm

TWENTY = np.arange(1, 21) / 20  # .05, .10, …, 1.00


def test_the_threshold_of_twenty_scores_is_their_largest_not_an_interpolated_quantile():
    assert np.quantile(TWENTY, 0.95) == pytest.approx(0.9525)
    assert threshold(TWENTY, 0.05) == 1.0


RANKS = [(19, 0.05, 19), (39, 0.05, 38), (99, 0.01, 99), (4, 0.5, 3)]


@pytest.mark.parametrize(("count", "fpr", "rank"), RANKS)
def test_the_rank_is_the_least_that_keeps_the_rate(count, fpr, rank):
    shuffled = np.random.default_rng(0).permutation(count) + 1.0
    assert threshold(shuffled, fpr) == rank


@pytest.mark.parametrize(("count", "fpr"), [(18, 0.05), (98, 0.01), (0, 0.5), (8, 0.1)])
def test_too_few_scores_give_nan_instead_of_a_threshold(count, fpr):
    assert math.isnan(threshold(np.arange(count), fpr))
    assert not math.isnan(threshold(np.arange(count + 1), fpr))


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_of_all_orders_of_exchangeable_scores_at_most_the_rate_puts_the_fresh_one_above(count, fpr):
    everyone = np.arange(count + 1)  # each one is the fresh score equally often
    above = [fresh > threshold(np.delete(everyone, fresh), fpr) for fresh in everyone]
    undefined = math.isnan(threshold(everyone[1:], fpr))
    rate = np.mean(above)
    assert rate <= fpr + 1e-12
    assert undefined or rate > fpr - 1 / (count + 1) - 1e-12  # and not needlessly far below


@pytest.mark.parametrize("count", [19, 60, 300])
def test_fresh_clean_scores_are_rejected_at_the_rate_in_simulation(count):
    rng = np.random.default_rng(count)
    # The share of uniform scores above tau is 1 - tau, so no fresh sample is needed.
    rates = 1 - np.array([threshold(rng.random(count), 0.05) for _ in range(3000)])
    exact = 1 - math.ceil((count + 1) * 0.95) / (count + 1)
    assert rates.mean() == pytest.approx(exact, abs=4 * rates.std() / 3000**0.5)
    assert rates.mean() <= 0.05 + 4 * rates.std() / 3000**0.5


def test_ties_are_accepted_and_never_raise_the_rate():
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 4, size=(2000, 40)).astype(float)
    rejected = [fresh > threshold(held_out, 0.05) for fresh, *held_out in draws]
    assert np.mean(rejected) <= 0.05 + 4 * (0.05 / 2000) ** 0.5
    assert threshold(np.full(30, 2.0), 0.05) == 2.0


def test_an_infinite_score_is_a_score():
    assert threshold(np.append(TWENTY[:-1], np.inf), 0.05) == math.inf


def test_the_spread_is_the_interquartile_range_and_one_where_there_is_none():
    assert spread(np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == 2.0
    assert spread(np.full(9, 0.3)) == 1.0
    assert spread(np.array([0.0, 1.0, 2.0, 3.0, 1e9])) == 2.0


def test_an_alarm_is_read_off_the_calibration_scores():
    alarm = Alarm.calibrated(torch.arange(1.0, 40.0))
    assert (alarm.threshold, alarm.median, alarm.unit) == (38.0, 20.0, 19.0)
