"""Studies of the papers: the two Gaussian balls, and what is concluded from seeds."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from studying import DIGITS, Sources, fingerprint_loss_by_hand, made, neuralfp

from nfbench.core.classifier import Classifier
from nfbench.core.errors import UsageError
from nfbench.report.values import deviation
from nfbench.reproduce.figures.base import draw
from nfbench.reproduce.studies import gaussian_balls as two_balls
from nfbench.reproduce.studies import seeds as over
from nfbench.reproduce.studies.boundaries import Lines, regions

BALLS = {"seeds": 2, "steps": 300, "points": 640, "sizes": [0.1, 6], "fingerprints": 3, "grid": 31}
TINY = {"seeds": 1, "steps": 10, "points": 128, "sizes": [6], "fingerprints": 2, "grid": 5}


@pytest.fixture(scope="module")
def balls():
    torch.set_num_threads(1)
    return made("gaussian-balls", **BALLS)


def test_both_balls_are_told_apart_with_and_without_fingerprints(balls):
    assert balls.values["accuracy_plain"].value > 0.998
    assert balls.values["accuracy_6"].value > 0.95


def test_fingerprints_as_large_as_the_distance_are_learnt_and_small_ones_are_not(balls):
    small, large = (balls.arrays["loss_left"][:, i] for i in (0, 1))
    assert (small > 0.9).all()
    assert (large < 0.6).all()  # one dx that is drawn near 0 can't be learnt, and is a third of the loss
    assert large.min() < 0.35
    assert balls.values["loss_left_6"].value == pytest.approx(large.mean())
    low, high = stats.t.interval(0.95, 1, large.mean(), stats.sem(large))
    assert (balls.values["loss_left_6"].low, balls.values["loss_left_6"].high) == pytest.approx(
        (low, high)
    )


def test_fingerprints_bend_a_boundary_that_is_almost_straight_without(balls):
    assert balls.values["nonlinear_plain"].value < 0.06
    assert balls.values["nonlinear_6"].value > 0.1
    more = balls.values["nonlinear_6"].value - balls.values["nonlinear_plain"].value
    assert balls.values["nonlinear_more"].value == pytest.approx(more)


def test_the_loss_is_low_on_the_balls_and_no_detector_beats_their_own_density(balls):
    ideal = balls.values["auroc_ideal"].value
    assert ideal == pytest.approx(1 - 4 * math.pi / 16**2, abs=0.006)  # the area that a point outranks
    assert balls.values["auroc_6"].value < ideal
    assert balls.values["auroc_6"].value > balls.values["auroc_0.1"].value
    assert balls.values["accepted_far_6"].value < balls.values["accepted_far_0.1"].value


def test_what_is_drawn_is_the_seed_whose_loss_is_the_median(balls):
    drawn = int(balls.arrays["drawn"])
    assert balls.arrays["loss_left"][drawn, -1] == balls.arrays["loss_left"][:, -1].min()  # of two
    shapes = {name: array.shape for name, array in balls.arrays.items()}
    for name in ("decision_plain", "decision", "loss"):
        assert shapes[name] == (31, 31)
    assert (shapes["points"], shapes["directions"]) == ((640, 2), (3, 2))
    assert np.abs(balls.arrays["directions"]).max() <= 6
    at = balls.arrays["decision_plain"]
    third = np.abs(balls.arrays["axis"] - 3.2).argmin()
    assert at[third, third] > 0 > at[-third - 1, -third - 1]


def test_the_share_of_the_loss_that_is_left_is_that_of_a_computation_by_hand():
    torch.manual_seed(1)
    classifier = Classifier(two_balls.network(), 2).eval()
    defense = neuralfp(**two_balls.TARGETS, fingerprints=3, eps=4, shift=0)
    data = two_balls.balls(20, 7)
    dx, dy = (t.double().numpy() for t in defense.secrets((1, 1, 2), 2))
    weights = [p.detach().double().numpy() for p in classifier.parameters()]

    def forward(x):
        for w, b in zip(weights[::2], weights[1::2], strict=True):
            x = x @ w.T + b
            x = np.maximum(x, 0) if len(b) == 200 else x
        return x

    x = data.x.double().numpy().reshape(-1, 2)
    logits = np.stack(
        [forward(x + shift) for shift in np.concatenate([np.zeros((1, 2)), dx.reshape(-1, 2)])]
    )
    still = 3 * (0.75**2 + 0.25**2) / 2
    expected = fingerprint_loss_by_hand(logits, dy, data.y.tolist()) / still
    with torch.no_grad():
        assert two_balls.loss_left(defense, classifier, data) == pytest.approx(expected, rel=1e-5)


def test_the_balls_are_where_they_should_be():
    data = two_balls.balls(4000, 3)
    for label, centre in ((0, -3), (1, 3)):
        own = data.x[data.y == label].view(-1, 2).numpy()
        np.testing.assert_allclose(own.mean(0), centre, atol=0.1)
        np.testing.assert_allclose(np.cov(own.T), np.eye(2), atol=0.1)


def test_the_best_line_is_that_of_all_lines_through_two_points():
    rng = np.random.default_rng(0)
    for _ in range(5):
        points, classes = rng.normal(size=(12, 2)), rng.integers(2, size=12)
        least = 12
        for i, j in itertools.combinations(range(12), 2):
            normal = np.array([points[j, 1] - points[i, 1], points[i, 0] - points[j, 0]])
            side = (points - points[i]) @ normal
            side[[i, j]] = 0
            for first, second in itertools.product((-1, 1), repeat=2):
                side[i], side[j] = first, second  # a line that is moved a little has them on either side
                wrong = int(((side > 0) != classes).sum())
                least = min(least, wrong, 12 - wrong)
        assert least / 12 <= Lines(points).missed(classes) <= (least + 1) / 12


def test_a_straight_boundary_misses_nothing_whatever_its_tilt_and_a_ball_inside_does():
    axis = np.linspace(-1, 1, 41)
    x, y = (v.ravel() for v in np.meshgrid(axis, axis))
    lines = Lines(np.stack([x, y], axis=1))
    for angle in np.radians([0, 30, 90, 137]):
        assert lines.missed(np.cos(angle) * x + np.sin(angle) * y > 0.21) < 0.004
    inside = x**2 + y**2 < 0.3
    assert lines.missed(inside) == pytest.approx(inside.mean())
    assert lines.missed(np.ones_like(x)) == 0
    four = lines.missed((x > 0) == (y > 0))  # best is x + y > 2/3: (2/9 + 1/9 + 1) / 4
    assert four == pytest.approx(1 / 3, abs=0.02)


def test_regions_that_meet_at_a_corner_are_apart():
    assert regions(np.eye(3, dtype=bool)) == 5
    assert regions(np.zeros((3, 3), dtype=bool)) == 1


def test_the_same_parameters_make_the_same_numbers_and_ticks_rise_to_one():
    ticks = []
    one, other = made("gaussian-balls", ticks, **TINY), made("gaussian-balls", **TINY)
    assert one.values == other.values
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    assert ticks == sorted(ticks)
    assert ticks[-1] == pytest.approx(1)
    assert one.values["loss_left_6"].flag == over.ALONE
    assert one.values["loss_left_6"].low is None


@pytest.mark.parametrize("figure", ["figure3", "epfl-figure2", "epfl-figure3"])
def test_figures_of_the_balls_are_small_and_say_what_they_show(balls, figure, tmp_path):
    svg, _, record = draw(figure, Sources(gaussian_balls=balls), tmp_path, {})
    assert svg.stat().st_size < 300_000
    data = json.loads(record.read_text("utf-8"))["data"]
    shown = {"figure3": ("decision_plain", "decision", "loss"), "epfl-figure2": ("decision",)}
    for name in shown.get(figure, ("loss",)):
        np.testing.assert_allclose(data[name], balls.arrays[name], rtol=1e-5)
    assert np.shape(data["directions"]) == (3, 2)


def test_numbers_over_seeds_have_the_intervals_of_scipy():
    values = [0.2, 0.5, 0.35, 0.4]
    found = over.mean(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert over.mean([0.0, 0.4], bounded=True).low == 0
    middle = deviation(np.asarray(values), "one seed")
    found = np.std(values, ddof=1)
    limits = [found * math.sqrt(3 / stats.chi2(3).ppf(q)) for q in (0.975, 0.025)]
    assert [middle.value, middle.low, middle.high] == pytest.approx([found, *limits])
    assert deviation(np.ones(1), "one seed").flag == "one seed"


def test_a_share_that_all_seeds_agree_on_has_a_width():
    found = over.share(np.ones((3, 50), dtype=bool))
    assert (found.value, found.high) == (1, pytest.approx(1))
    assert 0.9 < found.low < 0.99


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("gaussian-balls", {"sizes": []}, r"gaussian-balls\.sizes"),
        ("gaussian-balls", {"size": [6]}, r"no hyperparameter 'size'; did you mean 'sizes'"),
        ("gaussian-balls", {"sizes": [0]}, r"gaussian-balls\.sizes\.0 = 0: .*greater than 0"),
        ("sign-stability", {"dataset": "digit"}, r"no dataset is called 'digit'; did you mean 'digits'"),
        ("sign-stability", {"loss": "max"}, r"sign-stability\.loss = 'max'"),
        ("time-in-n", DIGITS | {"numbers": [1, 1, 2]}, r"time-in-n\.numbers = \[1, 1, 2\]: each once"),
        ("time-in-n", {"numbers": [1, 2]}, r"time-in-n\.numbers"),
        ("time-in-n", {"repeats": 1}, r"time-in-n\.repeats = 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(name, wrong, said):
    with pytest.raises(UsageError, match=said) as refused:
        made(name, **wrong)
    assert "\n" not in str(refused.value)
