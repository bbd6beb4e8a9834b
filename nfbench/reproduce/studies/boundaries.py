"""How far the decisions of a classifier in the plane are from those of a straight line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DIRECTIONS = 180
"""Of lines that are tried, one a degree; offsets are tried all."""


class Lines:
    """All straight lines that divide given points of the plane, (P, 2)."""

    def __init__(self, points: Array) -> None:
        angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        along = np.stack([np.cos(angles), np.sin(angles)]).T @ points.T  # (directions, P)
        self._order = np.argsort(along, axis=1, kind="stable")
        gaps = np.diff(np.take_along_axis(along, self._order, axis=1), axis=1)
        open_ends = np.ones((DIRECTIONS, 1), dtype=bool)
        self._divides = np.hstack([open_ends, gaps > 1e-9, open_ends])  # no line parts points it meets

    def missed(self, classes: Array) -> float:
        """Share of the points on the wrong side of the line that suits two classes best, in [0, 1/2].

        0 where the decision boundary is straight or there is none; whatever its tilt.

        Args:
            classes: 0 or 1 for each point, (P,).
        """
        ones = np.asarray(classes, dtype=np.int64)[self._order]
        before = np.hstack([np.zeros((DIRECTIONS, 1), dtype=np.int64), ones.cumsum(axis=1)])
        total, count = int(ones[0].sum()), ones.shape[1]
        wrong = 2 * before + count - np.arange(count + 1) - total  # ones before it, zeros behind it
        best = np.minimum(wrong, count - wrong)
        return float(best[self._divides].min() / count)


def regions(classes: Array) -> int:
    """Connected regions of equal class on a grid, (G, G); what meets at a corner only is apart."""
    from scipy.ndimage import label

    return sum(int(label(classes == kind)[1]) for kind in np.unique(classes))
