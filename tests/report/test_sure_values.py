"""Numbers with their intervals."""

import numpy as np
import pytest
from scipy.stats import t as student

from nfbench.records import Value
from nfbench.report.operating import alarm_precision
from nfbench.report.values import auroc, less, mean, rate, threshold


def test_a_rate_has_wilson_s_interval():
    found = rate(np.array([True] * 81 + [False] * 182))  # Newcombe 1998, table I
    assert (found.value, found.low, found.high) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=1e-4)


def test_a_mean_has_student_s_interval():
    values = np.array([1.0, 2.0, 4.0])
    found = mean(values, "none")
    half = student.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((7 / 3 - half, 7 / 3 + half))
    assert mean(values / 4, "none", bounded=True).high == 1.0


@pytest.mark.parametrize("make", [rate, lambda v: mean(v, "nothing"), lambda v: auroc(v, v)])
def test_of_nothing_there_is_no_number(make):
    found = make(np.array([], dtype=bool))
    assert found.value is None
    assert found.flag


def test_one_image_has_a_mean_and_no_interval():
    found = mean(np.array([2.0]), "none")
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_a_mean_of_probabilities_that_agree_has_a_width_all_the_same():
    for value in (0.0, 1.0):
        found = mean(np.full(50, value), "none", bounded=True)
        assert found.value == value
        assert 0.05 < found.high - found.low < 0.1
    assert mean(np.array([0.0]), "none", bounded=True).high > 0.5


def test_a_threshold_has_no_limit_where_nothing_brackets_it():
    found = threshold(np.arange(40.0), 0.05)
    assert found.value == 38.0
    assert found.high is None
    assert found.low is not None


def test_a_threshold_lies_between_order_statistics_that_hold_the_quantile_nineteen_times_of_twenty():
    rng, held, wide = np.random.default_rng(0), 0, 0.0
    for _ in range(400):
        found = threshold(rng.random(300), 0.05)
        held += found.low <= 0.95 <= found.high
        wide += found.high - found.low
    assert held / 400 > 0.93
    assert wide / 400 < 0.06
    assert threshold(np.full(300, np.inf), 0.05).value is None


def test_a_difference_of_rates_is_null_if_one_of_them_is():
    known = Value(value=0.5, low=0.4, high=0.6)
    assert less(known, Value(value=None, flag="why")).flag == "why"
    found = less(known, known)
    assert found.value == 0.0
    assert (found.low, found.high) == pytest.approx((-0.1 * 2**0.5, 0.1 * 2**0.5))


def test_the_precision_of_alarms_falls_with_the_base_rate():
    detection, alarms = Value(value=0.95, low=0.9, high=1.0), Value(value=0.05, low=0.04, high=0.06)
    found = alarm_precision(detection, alarms)
    assert found["alarm_precision_1_in_100"].value == pytest.approx(0.16, abs=1e-3)
    assert found["alarm_precision_1_in_1000000"].value == pytest.approx(1.9e-5, rel=1e-3)
    one = found["alarm_precision_1_in_1000"]
    assert (one.low, one.high) == pytest.approx((0.9 / 60.9, 1 / 41))


def test_without_any_alarm_there_is_no_precision():
    none = Value(value=0.0, low=0.0, high=0.1)
    found = alarm_precision(none, none)["alarm_precision_1_in_100"]
    assert (found.value, found.flag) == (None, "no alarm at all")
