"""Theorem 1 on random separable data: what fingerprints of a linear SVM accept, and what they miss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from nfbench.core.errors import UsageError
from nfbench.core.threshold import threshold
from nfbench.records import Value
from nfbench.reproduce.linear import LinearDetector, Vector
from nfbench.reproduce.separable import Case, drawn_in_the_plane
from nfbench.reproduce.study import Bench, Made
from nfbench.stats.intervals import (
    binomial_variance,
    effective,
    normal_quantile,
    student_quantile,
    wilson,
)

FALSE_ALARMS = 0.05
"""Share of fresh real examples that the check of the nearest example may reject."""
MOVES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 1000.0)
"""Moves along the plane that crossing points make, in spreads of the data."""
FAR = 5.0
"""A large one."""
LEAST = {"seeds": 1, "points": 40, "probes": 20, "dimensions": 2}
_NEAREST_END = 1e-9
"""Least distance of a probe to an end of a band, in the greatest margin; rounding is below 1e-12."""


def linear_svm(bench: Bench, *, seeds: int, points: int, probes: int, dimensions: int) -> Made:
    """Theorem 1, its converse, its stated limitation, and the remedy that the paper names.

    Each seed draws separable data of its own and takes the hard-margin SVM. Values are shares over
    all seeds, with Wilson's interval, widened where seeds differ:

    - agreement: probes on which the detector and the closed form agree.
    - outside_rejected: probes in the open regions of (10) that are rejected.
    - inside_accepted: probes in the open bands between them that are accepted.
    - violate_one: rejected probes that violate exactly one of the two fingerprints of their class.
    - real_accepted: real examples that are accepted; those at the ends of the bands are excepted.
    - real_at_ends: real examples excepted so: support vectors and the farthest of each class.
    - fresh_rejected: false alarms among rightly classified examples that the margins do not know.
    - optimal: other fingerprints that keep all real examples and reject nothing inside the bands.
    - parallel_unchanged: probes whose verdict a move along the plane does not change.
    - parallel_accepted: accepted real examples that stay so after a move along the plane.
    - crossing_accepted: real examples pushed into the band of the other class, and then moved along
      the plane, that are misclassified and accepted.
    - nearest_detects_straight, nearest_detects_far: such points that lie farther from every real
      example of their new class than 95 % of fresh ones do, without a move along the plane, and
      after one of at least 5 spreads of the data.

    and `price`, how many times as far from a real example the nearest point is that is misclassified
    and accepted, as the nearest that is misclassified: the mean, with Student's interval over seeds.

    Args:
        bench: `tick` is called after each seed.
        seeds: data sets, at least 1.
        points: real examples of each class, at least 40.
        probes: random inputs of each data set, at least 20.
        dimensions: data sets have 2 to so many, drawn at random.

    Returns:
        These values; the arrays of a data set in the plane, `x` (N, 2), `y` (N,), `w` (2,), `b` ()
        and `margins` (4,); `moves` in spreads (the greatest distance of an example to their mean),
        and `moves_detected`, the share of crossing points that the check of the nearest example
        detects after each.

    Raises:
        UsageError: a size is too small.
    """
    for name, size in {
        "seeds": seeds,
        "points": points,
        "probes": probes,
        "dimensions": dimensions,
    }.items():
        if size < LEAST[name]:
            raise UsageError(f"the study linear-svm needs {name} >= {LEAST[name]}, got {size}")
    found: list[dict[str, Vector]] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        case = Case.draw(rng, int(rng.integers(2, dimensions + 1)), points)
        near = _probes(case, probes)
        found.append(
            _theorem(case, near) | _optimal(case, probes) | _along(case, near) | _crossing(case)
        )
        bench.tick((seed + 1) / seeds)
    kinds = {name: [one[name] for one in found] for name in found[0]}
    prices = [float(price.mean()) for price in kinds.pop("price")]
    moves = [kinds.pop(f"moves {move}") for move in MOVES]
    values = {name: share(passed) for name, passed in kinds.items()} | {"price": _mean(prices)}
    detected = np.array([np.concatenate(move).mean() for move in moves])
    return Made(values, drawn_in_the_plane() | {"moves": np.array(MOVES), "moves_detected": detected})


def share(passed: Sequence[Vector]) -> Value:
    """Share of the trials that passed, of one vector of booleans a seed; null without any trial."""
    trials = [one for one in passed if len(one)]
    if not trials:
        return Value(value=None, flag="nothing to count")
    successes, n = sum(int(one.sum()) for one in trials), sum(len(one) for one in trials)
    half = _half([float(one.mean()) for one in trials])
    if not half:
        return Value(value=successes / n, **wilson(successes, n)._asdict())
    variance = max((half / normal_quantile(0.95)) ** 2, binomial_variance(successes / n, n))
    return Value(value=successes / n, **effective(successes / n, variance, n)._asdict())


def _mean(values: Sequence[float]) -> Value:
    mean, half = float(np.mean(values)), _half(values)
    return Value(value=mean, low=mean - half, high=mean + half) if half else Value(value=mean)


def _half(values: Sequence[float]) -> float:
    """How far Student's 95 % interval of a mean over seeds reaches; 0 of one seed."""
    n = len(values)
    if n < 2:
        return 0.0
    return student_quantile(0.95, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)


def _probes(case: Case, count: int) -> Vector:
    """Points at random distances, half of them very near the ends of the bands or the plane."""
    negative, positive = case.detector.bands
    ends = np.array([negative.low, negative.high, 0, positive.low, positive.high])
    anywhere = case.rng.uniform(1.5 * negative.low, 1.5 * positive.high, count - count // 2)
    offset = 10.0 ** case.rng.uniform(math.log10(_NEAREST_END), -2, count // 2)
    offset *= case.rng.choice([-1, 1], count // 2) * max(case.detector.margins)
    distance = np.concatenate([anywhere, case.rng.choice(ends, count // 2) + offset])
    start = case.x[case.rng.integers(len(case.x), size=count)]
    return case.at(start + case.along(case.rng.uniform(0, 2, count)), distance)


def _theorem(case: Case, probes: Vector) -> dict[str, Vector]:
    detector, at = case.detector, case.detector.margins
    accepted, distance = detector.accepts(probes), detector.plane.distance(probes)
    outside = (distance > at.positive_max) | ((distance > 0) & (distance < at.positive_min))
    outside |= (distance < -at.negative_max) | ((-at.negative_min < distance) & (distance < 0))
    real = _inside(detector, case.x, rounding=1e-9)
    return {
        "agreement": accepted == detector.allows(distance),
        "outside_rejected": ~accepted[outside],
        "inside_accepted": accepted[_inside(detector, probes)],
        "violate_one": detector.violations(probes[~accepted]).sum(1) == 1,
        "real_accepted": detector.accepts(case.x[real]),
        "real_at_ends": ~real,
        "fresh_rejected": ~detector.accepts(case.fresh),
    }


def _inside(detector: LinearDetector, x: Vector, rounding: float = 0.0) -> Vector:
    """Whether points lie in the open bands, and farther from the ends than distances are rounded."""
    at, distance = detector.margins, detector.plane.distance(x)
    inside = (at.positive_min < distance) & (distance < at.positive_max)
    inside |= (-at.negative_max < distance) & (distance < -at.negative_min)
    to_ends = np.abs(np.abs(distance)[:, None] - at).min(1)
    return cast("Vector", inside & (to_ends > rounding * max(at)))


def _optimal(case: Case, count: int) -> dict[str, Vector]:
    """Fingerprints of any direction and length that change the sign of all real examples alike."""
    plane, at = case.detector.plane, case.detector.margins
    passed = []
    for label, nearest, farthest in ((-1, *at[:2]), (1, *at[2:])):
        towards = case.rng.uniform(-farthest, 2 * farthest, (count, 1)) * -label * plane.normal
        shifts = plane.output(towards + case.along(case.rng.uniform(0, 1, count))) - plane.b
        real = np.sign(plane.output(case.x[case.y == label])[:, None] + shifts)
        alike = (real == real[0]).all(0)
        inside = label * case.rng.uniform(nearest, farthest, count)
        moved = np.linalg.norm(plane.w) * inside[:, None] + shifts[alike]
        passed.append((np.sign(moved) == real[0, alike]).all(0))
    return {"optimal": np.concatenate(passed)}


def _along(case: Case, probes: Vector) -> dict[str, Vector]:
    """Moves of a hundredth to a thousand spreads."""
    detector = case.detector
    lengths = 10.0 ** case.rng.uniform(-2, 3, len(probes))
    # A far move is rounded by more than the nearest probes are from an end.
    to_ends = np.abs(np.abs(detector.plane.distance(probes))[:, None] - [0, *detector.margins]).min(1)
    probes, lengths = (one[to_ends > 1e-13 * (1 + lengths) * case.spread] for one in (probes, lengths))
    moved = probes + case.along(lengths)
    real = case.x[_inside(detector, case.x, rounding=1e-9)]
    real = real + case.along(10.0 ** case.rng.uniform(-2, 3, len(real)))
    unchanged = detector.accepts(moved) == detector.accepts(probes)
    return {"parallel_unchanged": unchanged, "parallel_accepted": detector.accepts(real)}


def _crossing(case: Case) -> dict[str, Vector]:
    """Real examples moved into the band of the other class, and on along the plane."""
    detector, at, new = case.detector, case.detector.margins, -case.y
    lows = np.where(new > 0, at.positive_min, at.negative_min)
    highs = np.where(new > 0, at.positive_max, at.negative_max)
    straight = case.at(case.x, new * (lows + case.rng.uniform(0.01, 0.99, len(new)) * (highs - lows)))
    moved = {move: straight + case.along(np.full(len(new), move)) for move in MOVES}
    noticed = {move: _far_from_all(case, x, new) for move, x in moved.items()}
    fooled = [(detector.predict(x) == new) & detector.accepts(x) for x in moved.values()]
    to_plane = np.abs(detector.plane.distance(case.x))
    return {f"moves {move}": one for move, one in noticed.items()} | {
        "crossing_accepted": np.concatenate(fooled),
        "nearest_detects_straight": noticed[0],
        "nearest_detects_far": np.concatenate([noticed[move] for move in MOVES if move >= FAR]),
        "price": (to_plane + lows) / to_plane,
    }


def _far_from_all(case: Case, x: Vector, labels: Vector) -> Vector:
    """Whether points are farther from the real examples of their class than 95 % of fresh ones."""
    from scipy.spatial.distance import cdist

    found = np.zeros(len(x), dtype=bool)
    for label in (-1, 1):
        real, fresh = case.x[case.y == label], case.fresh[case.fresh_y == label]
        limit = threshold(cdist(fresh, real).min(1), FALSE_ALARMS)
        found[labels == label] = cdist(x[labels == label], real).min(1) > limit
    return found
