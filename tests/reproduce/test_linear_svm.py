"""The study of Theorem 1 on random data, its SVM and its example."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import lsq_linear
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from nfbench.core.errors import UsageError
from nfbench.reproduce.linear import LinearDetector, Margins
from nfbench.reproduce.separable import Case, widest
from nfbench.reproduce.studies.linear_svm import _far_from_all, linear_svm, share
from nfbench.reproduce.study import Bench, study_named
from nfbench.stats.intervals import wilson

ROOT = Path(__file__).parents[2]
SIZES = {"seeds": 6, "points": 40, "probes": 300, "dimensions": 6}
CERTAIN = {
    "agreement", "outside_rejected", "inside_accepted", "violate_one", "real_accepted", "optimal",
    "parallel_unchanged", "parallel_accepted", "crossing_accepted", "nearest_detects_far",
}  # fmt: skip
"""Shares that the paper has as always."""


def bench(tick=lambda share: None):
    return Bench(None, None, tick)


@pytest.fixture(scope="module")
def made():
    return linear_svm(bench(), **SIZES)


def cases():
    """The study's data sets, each with its generator where the study goes on with it."""
    for seed in range(SIZES["seeds"]):
        rng = np.random.default_rng(seed)
        yield Case.draw(rng, int(rng.integers(2, SIZES["dimensions"] + 1)), SIZES["points"])


def test_the_theorem_its_converse_and_its_limitation_hold_on_every_probe(made):
    assert {name for name, value in made.values.items() if value.value == 1} == CERTAIN
    assert all(made.values[name].low > 0.99 for name in CERTAIN - {"real_accepted"})
    probes = SIZES["seeds"] * SIZES["probes"]
    agreement = made.values["agreement"]
    assert (agreement.low, agreement.high) == pytest.approx(wilson(probes, probes))


def test_other_shares_and_the_price_are_those_of_an_independent_count(made):
    at_ends, rejected, prices = [], [], []
    for case in cases():
        svm = SVC(kernel="linear", C=1e9, tol=1e-10).fit(case.x, case.y)
        length = np.linalg.norm(svm.coef_)
        known = svm.decision_function(case.x) / length
        fresh = svm.decision_function(case.fresh) / length
        assert (np.sign(fresh) == case.fresh_y).all()
        sides = [np.abs(known[case.y == side]) for side in (-1, 1)]
        ends = np.array([end for side in sides for end in (side.min(), side.max())])
        near = np.abs(np.abs(known)[:, None] - ends)[np.arange(len(known))[:, None], _own(case.y)]
        at_ends.append((near.min(1) < 1e-5).mean())
        own = ends[_own(case.fresh_y)]
        rejected.append(((np.abs(fresh) < own[:, 0]) | (np.abs(fresh) > own[:, 1])).mean())
        prices.append(np.mean([(d + sides[1 - i].min()) / d for i in (0, 1) for d in sides[i]]))
    assert made.values["real_at_ends"].value == pytest.approx(np.mean(at_ends), abs=1e-9)
    assert made.values["fresh_rejected"].value == pytest.approx(np.mean(rejected), abs=2e-3)
    price = made.values["price"]
    assert price.value == pytest.approx(np.mean(prices), rel=1e-4)
    span = stats.t.interval(0.95, len(prices) - 1, price.value, stats.sem(prices))
    assert (price.low, price.high) == pytest.approx(span, rel=1e-4)
    assert price.value <= 2


def _own(y):
    """Which of the four ends are those of each example's class."""
    return np.where(y[:, None] < 0, [0, 1], [2, 3])


def test_the_price_is_what_a_search_along_the_normal_finds():
    case = next(cases())
    detector, real = case.detector, case.x[0]
    steps = np.linspace(0, 20, 200_001)[:, None] * detector.plane.normal
    fooled = detector.predict(real + steps) == 1
    price = np.flatnonzero(fooled & detector.accepts(real + steps))[0] / np.flatnonzero(fooled)[0]
    to_plane = -detector.plane.distance(real[None])[0]
    assert price == pytest.approx(1 + detector.margins.positive_min / to_plane, rel=1e-3)


def test_a_detector_that_accepts_everything_fails_every_value_it_should(monkeypatch):
    monkeypatch.setattr(LinearDetector, "accepts", lambda self, x: np.ones(len(x), dtype=bool))
    found = linear_svm(bench(), **SIZES).values
    assert found["outside_rejected"].value == 0
    assert found["agreement"].value < 0.7
    assert found["inside_accepted"].value == 1
    assert found["fresh_rejected"].value == 0


def test_a_detector_that_looks_at_a_coordinate_is_caught_by_moves_along_the_plane(monkeypatch):
    monkeypatch.setattr(LinearDetector, "accepts", lambda self, x: x[:, 0] > 0)
    found = linear_svm(bench(), **SIZES).values
    assert found["parallel_unchanged"].value < 0.95
    assert found["crossing_accepted"].value < 0.95


def test_wrong_margins_are_no_optimum(monkeypatch):
    """Bands 1.5 times as wide hold points that tighter fingerprints would reject."""
    of = Margins.of
    wide = lambda *given: Margins(*(np.array(of(*given)) * [0.5, 1.5, 0.5, 1.5]).tolist())  # noqa: E731
    monkeypatch.setattr(Margins, "of", wide)
    assert linear_svm(bench(), **SIZES).values["optimal"].value < 0.99


def test_the_nearest_example_notices_only_points_that_went_far(made):
    detected = made.arrays["moves_detected"]
    assert made.arrays["moves"][0] == 0
    assert detected[0] == pytest.approx(made.values["nearest_detects_straight"].value)
    assert detected[0] < 0.3
    assert (detected[made.arrays["moves"] >= 5] == 1).all()
    assert (np.diff(detected) >= 0).all()


def test_the_check_of_the_nearest_example_rejects_5_percent_of_fresh_ones():
    for case in cases():
        probes = np.concatenate([case.x + 0.5, case.fresh + 1])
        labels = np.concatenate([case.y, case.fresh_y])
        found = _far_from_all(case, probes, labels)
        for side in (-1, 1):
            real = NearestNeighbors(n_neighbors=1).fit(case.x[case.y == side])
            usual = np.sort(real.kneighbors(case.fresh[case.fresh_y == side])[0][:, 0])
            limit = usual[math.ceil(0.95 * (len(usual) + 1)) - 1]
            own = labels == side
            assert (found[own] == (real.kneighbors(probes[own])[0][:, 0] > limit)).all()


def test_the_same_parameters_give_the_same_and_progress_is_told(made):
    shares = []
    again = study_named("linear-svm")(bench(shares.append), **SIZES)
    assert again.values == made.values
    assert all((again.arrays[name] == array).all() for name, array in made.arrays.items())
    assert shares == pytest.approx(np.arange(1, 7) / 6)


def test_one_data_set_has_no_interval_over_seeds():
    found = linear_svm(bench(), **SIZES | {"seeds": 1}).values
    assert found["price"].low is None
    n = 2 * SIZES["points"]
    ends = found["real_at_ends"]
    assert (ends.low, ends.high) == pytest.approx(wilson(round(ends.value * n), n))


@pytest.mark.parametrize("name", SIZES)
def test_a_study_that_is_too_small_is_refused(name):
    with pytest.raises(UsageError, match=f"needs {name} >= [0-9]+, got 0"):
        linear_svm(bench(), **SIZES | {name: 0})


def test_shares_of_seeds_that_differ_are_less_certain_than_wilson_says():
    rng = np.random.default_rng(0)
    rates = [0.3, 0.7, 0.4, 0.6, 0.5]
    found = share([rng.random(2000) < rate for rate in rates])
    half = stats.t.ppf(0.975, 4) * np.std(rates, ddof=1) / np.sqrt(5)
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)
    equal = share([np.arange(100) < 25] * 4)
    assert (equal.low, equal.high) == pytest.approx(wilson(100, 400))
    alike = share([np.arange(100) < 25, np.arange(100) < 26, np.arange(100) < 25] * 3)
    assert alike.high - alike.low >= np.diff(wilson(228, 900))[0] * 0.999
    assert share([np.zeros(0, dtype=bool)]).flag == "nothing to count"
    assert share([np.zeros(0, dtype=bool)]).value is None


def test_fresh_examples_are_those_that_the_svm_classifies_rightly():
    """A misclassified one is an error of the classifier and no false alarm."""
    found = [Case.draw(np.random.default_rng(seed), 20, 40) for seed in range(10)]
    assert min(len(case.fresh) for case in found) < 80
    for case in found:
        assert (np.sign(case.detector.plane.output(case.fresh)) == case.fresh_y).all()
        assert len(case.x) == 80


@pytest.mark.parametrize("seed", range(8))
def test_the_widest_plane_is_the_one_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    case = Case.draw(rng, 2 + 2 * seed, 30)
    plane = case.detector.plane
    other = SVC(kernel="linear", C=1e9, tol=1e-9).fit(case.x, case.y)
    theirs = np.append(other.coef_[0], other.intercept_)
    ours = np.append(plane.w, plane.b)
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(1, 12), st.integers(1, 12))
def test_the_widest_plane_joins_the_nearest_points_of_the_two_hulls(seed, n, negatives, positives):
    """Its optimality conditions: margins of 1, and w a mix of support vectors with equal sums."""
    rng = np.random.default_rng(seed)
    y = np.repeat([-1, 1], [negatives, positives])
    x = rng.normal(size=(len(y), n)) + rng.normal(size=n) * 5
    x[:, 0] += y * (np.abs(x[:, 0]).max() + rng.uniform(0.01, 3))
    plane = widest(x, y)
    outputs = plane.output(x) * y
    assert outputs.min() == pytest.approx(1, abs=1e-7)
    supports = outputs < 1 + 1e-7
    rows = y[supports, None] * np.column_stack([x[supports] - x.mean(0), np.ones(supports.sum())])
    mix = lsq_linear(rows.T, np.append(plane.w, 0), bounds=(0, np.inf), method="bvls", tol=1e-15).x
    assert np.linalg.norm(rows.T @ mix - np.append(plane.w, 0)) <= 1e-6 * np.linalg.norm(plane.w)


def test_classes_that_no_plane_separates_are_refused():
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(UsageError, match="no plane separates"):
        widest(x, np.array([-1, -1, 1, 1]))
    with pytest.raises(UsageError, match="no plane separates"):
        widest(np.zeros((4, 2)), np.array([-1, -1, 1, 1]))


def test_the_example_prints_the_bands_and_an_adversarial_point_that_is_accepted(capsys):
    runpy.run_path(str(ROOT / "examples" / "linear_fingerprints.py"))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("accepted as class -: signed distances to the plane in [-")
    verdicts = [line.split(", ")[:2] for line in said[2:]]
    assert [(line[0][-7:], line[1]) for line in verdicts] == [
        ("class -", "accepted"),
        ("class +", "rejected"),
        ("class +", "accepted"),
        ("class +", "accepted"),
    ]
