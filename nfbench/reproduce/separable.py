"""Random separable data, and its hard-margin SVM."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from nfbench.core.errors import UsageError
from nfbench.reproduce.linear import LinearDetector, Margins, Plane, Vector, labelled


def widest(x: Vector, y: Vector) -> Plane:
    """The hard-margin SVM: the separating plane that is farthest from both classes.

    ‖w‖ is least among those with y f(x) >= 1. Constraints enter one by one as the most violated pair
    of examples, and each least-distance problem is solved exactly by non-negative least squares
    (Lawson & Hanson 1974, Solving Least Squares Problems, chapter 23).

    Args:
        x: examples, (N, n).
        y: labels -1 and 1, (N,).

    Raises:
        UsageError: no plane separates the classes by more than a millionth of their spread.
    """
    x, y = labelled(x, y)
    positive, negative = x[y > 0], x[y < 0]
    scale = float(np.linalg.norm(x - x.mean(0), axis=1).max()) or 1.0
    w, pairs = (positive.mean(0) - negative.mean(0)) / scale, list[tuple[int, int]]()
    while True:
        pair = int((positive @ w).argmin()), int((negative @ w).argmax())
        gap = (positive[pair[0]] - negative[pair[1]]) @ w / scale
        if pairs and (gap > 1 - 1e-12 or pair in pairs):
            break
        pairs.append(pair)
        w = _shortest(np.stack([positive[i] - negative[j] for i, j in pairs]) / scale)
    centre = (positive[pair[0]] + negative[pair[1]]) @ w / 2
    return Plane(2 * w / scale, float(-2 * centre / scale))


def _shortest(rows: Vector) -> Vector:
    """The shortest w (n,) with <row, w> >= 1 for each of the rows (P, n)."""
    from scipy.optimize import nnls

    matrix = np.vstack([rows.T, np.ones(len(rows))])
    target = np.zeros(len(matrix))
    target[-1] = 1
    weights, distance = nnls(matrix, target, maxiter=100 * len(rows) + 100)
    if distance < 1e-6:
        raise UsageError("no plane separates the two classes: Theorem 1 needs separable data")
    rest = matrix @ weights - target
    return cast("Vector", -rest[:-1] / rest[-1])


class Case(NamedTuple):
    """A data set, its SVM, and fresh examples of the same law."""

    rng: np.random.Generator
    x: Vector
    y: Vector
    fresh: Vector
    fresh_y: Vector
    detector: LinearDetector

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, points: int) -> Case:
        """Two clouds on either side of a random plane, of random widths and gap, not at the origin."""
        normal, centre = _unit(rng.normal(size=(1, n)))[0], 3 * rng.normal(size=n)
        gap, widths = rng.uniform(0.2, 1), rng.uniform(0.5, 2, 2)
        apart = rng.normal(size=n)
        y = np.tile(np.repeat([-1, 1], points), 2)
        distance = y * (gap + rng.gamma(2, np.where(y < 0, widths[0], widths[1]) / 2))
        along = rng.normal(size=(len(y), n)) * rng.uniform(0.5, 2, n) + y[:, None] * apart / 2
        along -= (along @ normal)[:, None] * normal
        x = centre + along + distance[:, None] * normal
        known, fresh = x[: 2 * points], x[2 * points :]
        plane = widest(known, y[: 2 * points])
        detector = LinearDetector(plane, Margins.of(plane, known, y[: 2 * points]))
        right = detector.predict(fresh) == y[2 * points :]
        return cls(rng, known, y[: 2 * points], fresh[right], y[2 * points :][right], detector)

    @property
    def spread(self) -> float:
        """The greatest distance of a real example to the mean of all."""
        return float(np.linalg.norm(self.x - self.x.mean(0), axis=1).max())

    def along(self, lengths: Vector) -> Vector:
        """Random moves along the plane of these lengths in spreads, (N,) -> (N, n)."""
        normal = self.detector.plane.normal
        found = self.rng.normal(size=(len(lengths), len(normal)))
        for _ in range(2):  # once leaves rounding errors that far moves would magnify
            found -= (found @ normal)[:, None] * normal
            found = _unit(found)
        return cast("Vector", found * (lengths * self.spread)[:, None])

    def at(self, x: Vector, distance: Vector) -> Vector:
        """The points x moved at right angles to the plane, to these signed distances."""
        plane = self.detector.plane
        return cast("Vector", x + (distance - plane.distance(x))[:, None] * plane.normal)


def drawn_in_the_plane() -> dict[str, NDArray[Any]]:
    """Separable data in two dimensions, its SVM and margins: what figures 2 and 8 show."""
    rng, each = np.random.default_rng(3), 18
    distance = np.concatenate([-rng.uniform(0.9, 2.4, each), rng.uniform(0.9, 2.1, each)])
    along = np.tile(np.linspace(-3.1, 1.9, each), 2) + rng.uniform(-0.2, 0.2, 2 * each)
    normal = np.array([math.cos(0.2), math.sin(0.2)])
    x = distance[:, None] * normal + along[:, None] * np.array([-normal[1], normal[0]])
    y = np.sign(distance).astype(int)
    plane = widest(x, y)
    margins = np.array(Margins.of(plane, x, y))
    return {"x": x, "y": y, "w": plane.w, "b": np.array(plane.b), "margins": margins}


def _unit(rows: Vector) -> Vector:
    return cast("Vector", rows / np.linalg.norm(rows, axis=1, keepdims=True))
