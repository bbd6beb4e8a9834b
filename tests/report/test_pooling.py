"""Several seeds as one number: its value, and how wide its interval is."""

import math

import numpy as np
import pytest

from nfbench.records import Value
from nfbench.report import metrics
from nfbench.report.pooling import Case, auroc, averaged, grids, moved, success
from nfbench.stats.compare import ranking

IMAGES = 200
CALIBRATION = np.arange(1, 400) / 400


def case(seed, share, images=IMAGES, *, apart=False):
    """One seed whose first images evade; or others, drawn for this seed, if they are `apart`."""
    drawn = np.random.default_rng(seed)
    clean = drawn.random(images)
    order = drawn.permutation(images) if apart else np.arange(images)
    lowest = np.where(order < share * images, 0.1, np.inf)
    return Case(np.arange(images), lowest, clean, CALIBRATION)


def test_one_seed_has_the_interval_over_images():
    found = success([case(0, 0.3)])
    assert found.value == 0.3
    half = 1.96 * math.sqrt(0.21 / IMAGES)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.01)


def test_the_mean_over_seeds_is_the_mean_of_the_rates_and_of_the_aurocs():
    cases = [case(seed, share) for seed, share in enumerate((0.2, 0.3, 0.7))]
    assert success(cases).value == pytest.approx(0.4)
    assert auroc(cases).value == pytest.approx(
        np.mean([metrics.auroc(c.clean, c.lowest) for c in cases])
    )


def test_seeds_that_differ_make_the_interval_wide_however_many_images_there_are():
    differing = [case(seed, share, images=20_000) for seed, share in enumerate((0.2, 0.3, 0.7))]
    agreeing = [case(seed, 0.4, images=20_000) for seed in range(3)]
    wide, narrow = success(differing), success(agreeing)
    assert wide.high - wide.low > 0.6  # t with two degrees: 4.3 x .15
    assert narrow.high - narrow.low < 0.05


def test_seeds_that_agree_on_shared_images_are_no_surer_than_the_images():
    """The same images evade under every seed, so five seeds say hardly more than one."""
    same = success([case(seed, 0.4) for seed in range(5)])
    other = success([case(seed, 0.4, apart=True) for seed in range(5)])
    one = success([case(0, 0.4)])
    assert same.high - same.low > 0.9 * (one.high - one.low)
    assert other.high - other.low < 0.7 * (one.high - one.low)


def test_all_seeds_at_one_leave_a_lower_limit_below_one():
    found = success([case(seed, 1.0) for seed in range(5)])
    assert found.value == found.high == 1.0
    assert 0.9 < found.low < 1.0


def test_without_a_threshold_there_is_no_rate():
    short = Case(np.arange(3), np.ones(3), np.ones(3), np.arange(5) / 5)
    assert success([short]).value is None
    assert auroc([short]).value == 0.5


def test_an_average_of_stored_numbers_is_at_least_as_wide_as_each_of_them():
    values = [Value(value=v, low=v - 0.1, high=v + 0.1) for v in (0.4, 0.5, 0.6)]
    found = averaged(values)
    assert found.value == pytest.approx(0.5)
    half = math.hypot(0.1, 4.3027 * 0.1 / math.sqrt(3))
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
    assert averaged(values[:1]) == values[0].model_copy(update={"flag": ""})


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-3.0, 9.0)])
def test_an_average_stays_within_the_unit_interval_only_where_all_do(ends):
    values = [Value(value=v, low=max(v - 0.1, ends[0]), high=min(v + 0.1, ends[1])) for v in (0.0, 1.0)]
    found = averaged(values)
    assert (found.low >= 0 and found.high <= 1) == (ends[0] == 0.0)


def test_an_average_that_lacks_a_seed_is_none():
    found = averaged([Value(value=0.5), Value(value=None, flag="no success")])
    assert (found.value, found.flag) == (None, "no success")


def test_rows_are_compared_by_the_share_of_budgets_at_which_an_image_evades():
    small, large = case(0, 0.25, images=4), case(0, 0.75, images=4)
    fewer = Case(np.array([0, 2]), np.array([0.1, np.inf]), np.zeros(2), CALIBRATION)
    found = grids({"kd": [{0: small}, {0: large}], "lid": [{0: fewer}, {0: fewer}]})
    assert found["kd"].tolist() == [[1.0, 0.5, 0.5, 0.0]]
    np.testing.assert_array_equal(found["lid"], [[1.0, np.nan, 0.0, np.nan]])


def test_a_seed_that_lacks_a_budget_is_left_out():
    found = grids({"kd": [{0: case(0, 0.5, 4), 1: case(1, 0.5, 4)}, {0: case(0, 0.5, 4)}]})
    assert np.isnan(found["kd"][1]).all()
    assert not np.isnan(found["kd"][0]).any()


def test_equal_rows_share_a_rank_and_distant_ones_do_not():
    shares = {"low": 0.1, "also low": 0.11, "high": 0.9}
    rows = {
        name: [{seed: case(seed, share, apart=True) for seed in range(5)}]
        for name, share in shares.items()
    }
    ranks = {one.name: one for one in ranking(grids(rows))}
    assert (ranks["low"].rank_low, ranks["low"].rank_high) == (1, 2)
    assert set(ranks["low"].letters) & set(ranks["also low"].letters)
    assert (ranks["high"].rank_low, ranks["high"].rank_high) == (3, 3)


def near_threshold(seed, aims):
    """Every image evades, half of them by less than the threshold may be off."""
    lowest = np.where(np.arange(IMAGES) % 2 == 0, 0.9499, 0.1)
    clean = np.random.default_rng(seed).random(IMAGES)
    return Case(np.arange(IMAGES), lowest, clean, CALIBRATION, aims)


@pytest.mark.parametrize("seeds", [1, 5])
def test_an_attack_that_aims_at_the_threshold_does_not_fail_because_that_may_be_another(seeds):
    free, aimed = (success([near_threshold(s, aims) for s in range(seeds)]) for aims in (False, True))
    assert free.value == aimed.value == 1.0
    assert free.low < 0.7
    assert aimed.low > 0.95


def test_what_thresholds_add_to_a_row_is_one_error_for_all_its_budgets():
    free = near_threshold(0, aims=False)
    rows = {"free": [{0: free}, {0: free}], "aimed": [{0: near_threshold(0, aims=True)}] * 2}
    found = moved(rows)
    assert found["aimed"] == 0.0
    assert found["free"] == pytest.approx(free.drift)
    assert free.drift > 0.01


def test_a_mixed_row_moves_by_the_part_that_does_not_follow():
    both = [{0: near_threshold(0, aims=False)}, {0: near_threshold(0, aims=True)}]
    assert moved({"x": both})["x"] == pytest.approx(near_threshold(0, aims=False).drift / 4)


def test_equal_rows_whose_thresholds_differ_by_chance_are_not_told_apart():
    """Two equal detectors, S* close to the threshold, each with calibration scores of its own."""
    drawn, wrong = np.random.default_rng(0), {"with": 0, "without": 0}
    for _ in range(60):
        rows = {}
        for name in ("one", "other"):
            lowest, clean = drawn.normal(1.6, 0.5, 500), drawn.normal(size=500)
            rows[name] = [{0: Case(np.arange(500), lowest, clean, drawn.normal(size=300))}]
        for key, thresholds in (("with", moved(rows)), ("without", None)):
            ranks = ranking(grids(rows), thresholds=thresholds)
            wrong[key] += ranks[0].rank_high < ranks[1].rank_low
    assert wrong["with"] <= 6
    assert wrong["without"] >= 20
