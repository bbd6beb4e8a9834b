"""Theorem 1 of the NeuralFP paper: the fingerprints of a linear classifier and what they accept."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nfbench.core.errors import UsageError
from nfbench.reproduce.linear import LinearDetector, Margins, Plane

CLEAR = 1e-9
"""Probes nearer than this to the end of a band, in units of the data, are left out."""


@st.composite
def separable(draw):
    """Data on either side of a random plane that is not their widest, in 2 to 20 dimensions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, counts = draw(st.integers(2, 20)), [draw(st.integers(1, 12)) for _ in range(2)]
    y = np.repeat([-1, 1], counts)
    w = rng.normal(size=n)
    x = rng.normal(size=(len(y), n)) * 2
    distance = y * (draw(st.floats(0.05, 3)) + rng.exponential(draw(st.floats(0.1, 3)), len(y)))
    b = draw(st.floats(-5, 5))
    x += ((distance - (x @ w + b) / np.linalg.norm(w)) / np.linalg.norm(w))[:, None] * w
    return Plane(w, b), x, y, rng


def detector_of(plane, x, y, **options):
    return LinearDetector(plane, Margins.of(plane, x, y), **options)


def sign(value):
    """The two-valued sign of the paper's F in {-2, 0, 2}."""
    return 1 if value >= 0 else -1


def by_hand(w, b, x, y, probe):
    """Whether a probe is taken for real: the paper's definitions, one number after the other."""

    def f(point):
        return sum(wi * pi for wi, pi in zip(w, point, strict=True)) + b

    length = math.sqrt(sum(wi * wi for wi in w))
    unit = [wi / length for wi in w]
    distances = {-1: [], 1: []}
    for point, label in zip(x, y, strict=True):
        distances[label].append(abs(f(point)) / length)
    least = {label: min(own) for label, own in distances.items()}
    most = {label: max(own) for label, own in distances.items()}
    own = sign(f(probe))
    # Class - is moved forward, class + back: by its least distance unchanged, by its greatest changed.
    for shift, expected in ((-own * least[own], 0), (-own * most[own], -2 * own)):
        moved = [pi + shift * ui for pi, ui in zip(probe, unit, strict=True)]
        if sign(f(moved)) - own != expected:
            return False
    return True


def probes_of(plane, x, y, rng, count=60):
    """Random points at random distances, many close to the ends, none within rounding of them."""
    distance = plane.distance(x)
    ends = [
        distance[y < 0].min(),
        distance[y < 0].max(),
        0.0,
        distance[y > 0].min(),
        distance[y > 0].max(),
    ]
    wanted = np.concatenate(
        [
            rng.uniform(1.5 * ends[0], 1.5 * ends[-1], count),
            rng.choice(ends, count) + rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-7, -2, count),
        ]
    )
    start = rng.normal(size=(2 * count, x.shape[1])) * 5
    probes = start + (wanted - plane.distance(start))[:, None] * plane.normal
    clear = np.abs(plane.distance(probes)[:, None] - ends).min(1) > CLEAR
    return probes[clear]


@settings(deadline=None, max_examples=150)
@given(separable())
def test_an_input_is_rejected_exactly_where_theorem_1_says(data):
    plane, x, y, rng = data
    detector = detector_of(plane, x, y)
    own = plane.distance(x)
    low_n, high_n, low_p, high_p = own[y < 0].min(), own[y < 0].max(), own[y > 0].min(), own[y > 0].max()
    probes = probes_of(plane, x, y, rng)
    for probe, accepted in zip(probes, detector.accepts(probes), strict=True):
        d = (probe @ plane.w + plane.b) / np.linalg.norm(plane.w)
        in_10 = d > high_p or 0 < d < low_p or d < low_n or high_n < d < 0
        assert accepted == (not in_10)
    assert (detector.accepts(probes) == detector.allows(plane.distance(probes))).all()


@settings(deadline=None, max_examples=60)
@given(separable())
def test_signs_taken_one_by_one_in_plain_python_give_the_same_verdicts(data):
    plane, x, y, rng = data
    probes = probes_of(plane, x, y, rng, count=15)
    found = detector_of(plane, x, y).accepts(probes)
    lists = [list(map(float, point)) for point in x]
    expected = [
        by_hand(plane.w.tolist(), plane.b, lists, y.tolist(), probe.tolist()) for probe in probes
    ]
    assert found.tolist() == expected


@settings(deadline=None, max_examples=60)
@given(separable())
def test_a_rejected_input_violates_exactly_one_fingerprint_of_its_class(data):
    """The paper has it that such inputs satisfy one of the criteria; so does whatever is accepted."""
    plane, x, y, rng = data
    detector = detector_of(plane, x, y)
    probes = probes_of(plane, x, y, rng)
    accepted, violated = detector.accepts(probes), detector.violations(probes)
    assert (violated.sum(1) == ~accepted).all()
    labels = np.array([print_.label for print_ in detector.fingerprints])
    satisfied = (labels == detector.predict(probes)[:, None]) & ~violated
    assert (satisfied.sum(1) == 1 + accepted).all()


@settings(deadline=None, max_examples=60)
@given(separable())
def test_holding_an_input_against_both_classes_accepts_nothing_more(data):
    plane, x, y, rng = data
    detector = detector_of(plane, x, y)
    probes = probes_of(plane, x, y, rng)
    matches = detector.responses(probes) == [0, 2, -2, 0]
    assert (detector.accepts(probes) == (matches[:, :2].all(1) | matches[:, 2:].all(1))).all()


@settings(deadline=None, max_examples=60)
@given(separable(), st.floats(1e-3, 1e3))
def test_a_move_along_the_plane_never_changes_the_verdict(data, length):
    plane, x, y, rng = data
    detector = detector_of(plane, x, y)
    probes = probes_of(plane, x, y, rng)
    basis = np.linalg.svd(plane.w[None])[2][1:]
    moves = rng.normal(size=(len(probes), len(basis))) @ basis
    moved = probes + moves * length / np.linalg.norm(moves, axis=1, keepdims=True)
    assert (detector.accepts(moved) == detector.accepts(probes)).all()
    assert (detector.predict(moved) == detector.predict(probes)).all()


@settings(deadline=None, max_examples=60)
@given(separable(), st.floats(1e-6, 1e6), st.floats(-50, 50))
def test_neither_the_length_of_w_nor_where_the_origin_is_changes_a_verdict(data, factor, move):
    plane, x, y, rng = data
    probes = probes_of(plane, x, y, rng)
    expected = detector_of(plane, x, y).accepts(probes)
    scaled = Plane(factor * plane.w, factor * plane.b)
    assert (detector_of(scaled, x, y).accepts(probes) == expected).all()
    shift = move * rng.normal(size=x.shape[1])
    shifted = Plane(plane.w, plane.b - shift @ plane.w)
    assert (detector_of(shifted, x + shift, y).accepts(probes + shift) == expected).all()
    np.testing.assert_allclose(Margins.of(scaled, x, y), Margins.of(plane, x, y), rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(separable())
def test_a_plane_that_does_not_separate_is_refused(data):
    plane, x, y, rng = data
    i = int(rng.integers(len(y)))
    assume((y == y[i]).sum() > 1)
    flipped = np.where(np.arange(len(y)) == i, -y, y)
    with pytest.raises(UsageError, match=rf"1 of {len(y)} examples lie on the plane or on its wrong"):
        Margins.of(plane, x, flipped)
    with pytest.raises(UsageError, match=f"{len(y)} of {len(y)} examples"):
        Margins.of(Plane(-plane.w, -plane.b), x, y)


def test_an_example_on_the_plane_is_not_separated():
    with pytest.raises(UsageError, match="1 of 3 examples lie on the plane"):
        Margins.of(Plane(np.array([2.0]), -2.0), np.array([[0.0], [1.0], [3.0]]), np.array([-1, 1, 1]))


LINE = np.array([[-4.0, 1.0], [-2.0, -1.0], [-3.0, 5.0], [1.0, 0.0], [2.0, 2.0], [8.0, -3.0]])
SIDES = np.array([-1, -1, -1, 1, 1, 1])
ACROSS = Plane(np.array([4.0, 0.0]))
"""Numbers that floating point holds exactly: distances are the first coordinates."""


@pytest.mark.parametrize(
    ("on_plane", "ends", "texts"),
    [
        (1, [-4.0, 1.0], ("[-4, -2)", "[1, 8)")),
        (-1, [-2.0, 8.0], ("(-4, -2]", "(1, 8]")),
        (0, [], ("(-4, -2)", "(1, 8)")),
    ],
)
def test_which_ends_of_the_bands_are_accepted_is_what_sign_0_is(on_plane, ends, texts):
    detector = detector_of(ACROSS, LINE, SIDES, on_plane=on_plane)
    assert tuple(map(str, detector.bands)) == texts
    distances = np.array([-4.0, -2.0, 0.0, 1.0, 8.0])
    points = np.stack([distances, np.full(5, 7.0)], 1)
    assert distances[detector.accepts(points)].tolist() == ends
    assert distances[detector.allows(distances)].tolist() == ends
    between = np.array([[-3.0, 0.0], [2.0, 9.0], [-1.0, 0.0], [0.5, 0.0], [-4.5, 0.0], [8.5, 0.0]])
    assert detector.accepts(between).tolist() == [True, True, False, False, False, False]
    responses = set(detector.responses(np.vstack([points, between])).ravel().tolist())
    assert (responses <= {-2, 0, 2}) == (on_plane != 0)


def test_both_exceptions_of_the_proof_hold_only_if_sign_0_is_neither():
    """Appendix A excepts the x- at δmin from (13) and those at δmax from (15)."""
    nearest, farthest = LINE[1:2], LINE[:1]
    excepted = {}
    for on_plane in (-1, 0, 1):
        detector = detector_of(ACROSS, LINE, SIDES, on_plane=on_plane)
        excepted[on_plane] = [
            detector.responses(nearest)[0, 0] != 0,
            detector.responses(farthest)[0, 1] != 2,
        ]
    assert excepted == {-1: [False, True], 0: [True, True], 1: [True, False]}


def test_the_fingerprints_are_those_of_equations_6_to_9():
    plane = Plane(np.array([3.0, 4.0]), -5.0)
    x = np.array([[0.0, 0.0], [-1.0, -2.0], [2.0, 1.0], [3.0, 4.0]])
    exact = [(3 * Fraction(p) + 4 * Fraction(q) - 5) / 5 for p, q in x.tolist()]
    assert exact == [-1, Fraction(-16, 5), 1, 4]
    detector = detector_of(plane, x, np.array([-1, -1, 1, 1]))
    assert detector.margins == pytest.approx((1, 3.2, 1, 4))
    found = [(print_.dx.tolist(), print_.dy, print_.label) for print_ in detector.fingerprints]
    assert found == [
        (pytest.approx([0.6, 0.8]), 0, -1),
        (pytest.approx([1.92, 2.56]), 2, -1),
        (pytest.approx([-2.4, -3.2]), -2, 1),
        (pytest.approx([-0.6, -0.8]), 0, 1),
    ]


def test_a_class_at_one_distance_has_an_empty_band():
    """Its nearest is its farthest, and no distance is within."""
    x = np.array([[-3.0], [1.0], [2.0]])
    detector = detector_of(Plane(np.array([1.0])), x, np.array([-1, 1, 1]))
    probes = np.array([[-3.5], [-3.0], [-2.5], [1.5]])
    assert detector.accepts(probes).tolist() == [False, False, False, True]
    assert detector.allows(probes[:, 0]).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Plane(np.zeros(3)), "not 0"),
        (lambda: Plane(np.ones((2, 2))), r"\(2, 2\)"),
        (lambda: Plane(np.array([1.0, np.nan])), "finite"),
        (lambda: Plane(np.ones(2), math.inf), "b = inf"),
        (lambda: Margins.of(ACROSS, LINE[:, :1], SIDES), "1 coordinates, the plane has 2"),
        (lambda: Margins.of(ACROSS, LINE, SIDES[:3]), r"\(6, 2\) and \(3,\)"),
        (lambda: Margins.of(ACROSS, LINE, (SIDES + 1) // 2), "-1 and 1"),
        (lambda: Margins.of(ACROSS, LINE[:3], SIDES[:3]), "each class"),
        (lambda: Margins.of(ACROSS, LINE * np.nan, SIDES), "finite"),
        (lambda: LinearDetector(ACROSS, Margins(1, 2, 1, 2), on_plane=2), "not 2"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(UsageError, match=said) as raised:
        call()
    assert "\n" not in str(raised.value)
