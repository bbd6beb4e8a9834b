"""Theorem 1 of the NeuralFP paper (section 2.2, appendix A): fingerprints of a linear classifier.

Classes are -1 and +1. Points are rows, (N, n); everything is computed in float64. Distances are
signed, d(x) = (<w, x> + b) / ‖w‖ in units of x, whatever the length of w: the paper's
δ = |<x, ŵ>| and d = <x, w> + b are this where b = 0 and ‖w‖ = 1.

`LinearDetector` evaluates signs at x and x + Δx as the paper does; `Band` is what it accepts, in
closed form. They agree for every x whose distance is not within rounding of an end of a band.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from nfbench.core.errors import UsageError

Vector = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Plane:
    """A linear classifier f(x) = <w, x> + b; its class is the sign of f.

    Raises:
        UsageError: `w` is not a finite vector (n,) other than 0, or `b` not finite.
    """

    w: Vector
    b: float = 0.0

    def __post_init__(self) -> None:
        w = np.array(self.w, dtype=np.float64)
        if w.ndim != 1 or not w.any() or not np.isfinite(w).all() or not np.isfinite(self.b):
            raise UsageError(
                "a plane needs a finite normal w of shape (n,) that is not 0, and a finite b;"
                f" got w of shape {w.shape} and b = {self.b}"
            )
        object.__setattr__(self, "w", w)
        object.__setattr__(self, "b", float(self.b))

    @cached_property
    def normal(self) -> Vector:
        """The unit normal w / ‖w‖, (n,), which points to class +1."""
        return cast("Vector", self.w / np.linalg.norm(self.w))

    def output(self, x: Vector) -> Vector:
        """f(x), (N, n) -> (N,)."""
        return np.asarray(x, dtype=np.float64) @ self.w + self.b

    def distance(self, x: Vector) -> Vector:
        """Signed distance of each point to the plane, (N, n) -> (N,)."""
        return cast("Vector", self.output(x) / np.linalg.norm(self.w))


class Margins(NamedTuple):
    """Distances of each class of separable data to the plane, all above 0 (the paper's δ)."""

    negative_min: float
    negative_max: float
    positive_min: float
    positive_max: float

    @classmethod
    def of(cls, plane: Plane, x: Vector, y: Vector) -> Margins:
        """The least and greatest distances of the examples x (N, n) with labels y (N,) in {-1, 1}.

        Raises:
            UsageError: shapes or labels are wrong, or the plane does not separate the classes.
        """
        x, y = labelled(x, y)
        if x.shape[1] != len(plane.w):
            raise UsageError(f"examples have {x.shape[1]} coordinates, the plane has {len(plane.w)}")
        signed = plane.distance(x) * y
        wrong = int((signed <= 0).sum())
        if wrong:
            raise UsageError(
                f"{wrong} of {len(x)} examples lie on the plane or on its wrong side:"
                " Theorem 1 needs a plane that separates them"
            )
        negative, positive = signed[y < 0], signed[y > 0]
        ends = (negative.min(), negative.max(), positive.min(), positive.max())
        return cls(*(float(end) for end in ends))


class Fingerprint(NamedTuple):
    """A shift Δx (n,), and Δy, the change of sign f that it makes at real examples of a class."""

    dx: Vector
    dy: int
    label: int


class Band(NamedTuple):
    """Signed distances that are accepted: an interval with or without its ends."""

    low: float
    high: float
    closed_low: bool
    closed_high: bool

    def holds(self, distance: Vector) -> Vector:
        """Whether each distance lies in the band, (N,) -> bool (N,)."""
        above = distance >= self.low if self.closed_low else distance > self.low
        below = distance <= self.high if self.closed_high else distance < self.high
        return cast("Vector", above & below)

    def __str__(self) -> str:
        left, right = "(["[self.closed_low], ")]"[self.closed_high]
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True, eq=False)
class LinearDetector:
    """The four fingerprints (6) to (9), and the detector that holds an input against them.

    An input is held against both fingerprints of its predicted class, and accepted if both
    responses are as they are at real examples. To hold it against both classes, as `min over
    classes` does in networks, changes nothing: no input of one class can give the +2 or -2 of the
    other.

    `on_plane` is sign(0), which the paper leaves open. Of its F in {-2, 0, 2} it must be -1 or 1;
    then examples at one end of each band are accepted, those at the other rejected. Its proof
    excepts examples at both ends, which 0 would give; a point on the plane itself is then of no
    class, and rejected. Such a point is rejected under each of them.

    Raises:
        UsageError: `on_plane` is none of -1, 0 and 1.
    """

    plane: Plane
    margins: Margins
    on_plane: int = 1

    def __post_init__(self) -> None:
        if self.on_plane not in (-1, 0, 1):
            raise UsageError(f"on_plane is sign(0): it must be -1, 0 or 1, not {self.on_plane}")

    @cached_property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """Δx1 to Δx4: two of class -1, (6) and (7), and two of class +1, (8) and (9)."""
        at, normal = self.margins, self.plane.normal
        return (
            Fingerprint(at.negative_min * normal, 0, -1),
            Fingerprint(at.negative_max * normal, 2, -1),
            Fingerprint(-at.positive_max * normal, -2, 1),
            Fingerprint(-at.positive_min * normal, 0, 1),
        )

    def predict(self, x: Vector) -> Vector:
        """The class sign f(x), (N, n) -> (N,)."""
        output = self.plane.output(x)
        return np.where(output == 0, self.on_plane, np.sign(output)).astype(int)

    def responses(self, x: Vector) -> Vector:
        """F(x, Δx) = sign f(x + Δx) - sign f(x) of each fingerprint, (N, n) -> (N, 4)."""
        before = self.predict(x)
        return np.stack([self.predict(x + print_.dx) - before for print_ in self.fingerprints], axis=1)

    def violations(self, x: Vector) -> Vector:
        """Which fingerprints of its predicted class each input violates, (N, n) -> bool (N, 4)."""
        labels = np.array([print_.label for print_ in self.fingerprints])
        expected = np.array([print_.dy for print_ in self.fingerprints])
        own = self.predict(x)[:, None] == labels
        return cast("Vector", own & (self.responses(x) != expected))

    def accepts(self, x: Vector) -> Vector:
        """Whether each input is taken for real, (N, n) -> bool (N,)."""
        return cast("Vector", (self.predict(x) != 0) & ~self.violations(x).any(axis=1))

    @property
    def bands(self) -> tuple[Band, Band]:
        """What is accepted of class -1 and of class +1, exactly: (10) and its converse.

        Ends belong to the bands as `on_plane` says. Where all examples of a class are equally far
        from the plane, its band is empty.
        """
        at, ends = self.margins, (self.on_plane == 1, self.on_plane == -1)
        return Band(-at.negative_max, -at.negative_min, *ends), Band(
            at.positive_min, at.positive_max, *ends
        )

    def allows(self, distance: Vector) -> Vector:
        """`accepts` in closed form, of signed distances: (N,) -> bool (N,)."""
        distance = np.asarray(distance, dtype=np.float64)
        negative, positive = self.bands
        return cast("Vector", negative.holds(distance) | positive.holds(distance))


def labelled(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Examples (N, n) as float64 and their labels (N,) as integers.

    Raises:
        UsageError: shapes differ from these, labels are not -1 and 1, or a class has no example.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isfinite(x).all():
        raise UsageError(f"need finite examples (N, n) and labels (N,), got {x.shape} and {y.shape}")
    if set(np.unique(y)) != {-1, 1}:
        raise UsageError("labels must be -1 and 1, and each class needs an example")
    return x, y.astype(int)
