"""Figures 2 and 8 of the NeuralFP paper: what the fingerprints of a linear SVM accept and reject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nfbench.report.figures import COLOURS
from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.panels import GREY, stacked
from nfbench.reproduce.linear import LinearDetector, Margins, Plane

_INK = {-1: COLOURS[1], 1: COLOURS[0]}
_MARKER = {-1: "o", 1: "s"}
_SIGN = {-1: "−", 1: "+"}
_FILLING: Mapping[int, Mapping[str, Any]] = {
    -1: {"facecolor": "#f8dac6", "linewidth": 0},
    1: {"facecolor": "#cbe3f2", "linewidth": 0},
    0: {"facecolor": "#f1f1f1", "edgecolor": "#c4c4c4", "hatch": "/////", "linewidth": 0},
}
_ENDS = (r"$-\delta^-_{\max}$", r"$-\delta^-_{\min}$", r"$\delta^+_{\min}$", r"$\delta^+_{\max}$")
_DISTANCE = "signed distance to the plane, d(x)"
_NAMES = ("Δx₁", "Δx₂", "Δx₃", "Δx₄")
_CHANGE = {-2: "−2", 0: "0", 2: "+2"}
_LINE: Mapping[bool, Mapping[str, Any]] = {
    False: {"color": "black", "linewidth": 1.5},
    True: {"color": GREY, "linewidth": 0.8},
}
_ARROW = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
_SIZE = 3.6
"""Half the side of the drawn square."""
_FAR = 50.0

Place: TypeAlias = tuple[float, float]
"""Signed distance to the plane, and where along it."""


def geometry(sources: Sources) -> Drawing:
    """Figure 2: the two fingerprints of class -, at real examples and at inputs that they reject."""
    view = _View(sources.study("linear-svm").arrays)
    figure, (axes,) = stacked((3.65,))
    view.ground(axes, (0, 1))
    axes.set_title(_DISTANCE, fontsize=8)
    axes.text(0.62 * _SIZE, 0.84 * _SIZE, "not asked", color=GREY, fontsize=7.5, ha="center")
    near, deep = view.ends[1] / 2, view.ends[0] - 0.45
    shown = [
        view.arrow(axes, 0, view.example(-1, (-1.2, 1.7))),
        view.arrow(axes, 1, view.example(-1, (-1.1, -0.9))),
        view.arrow(axes, 0, view.spot((near, 0.7))),
        view.arrow(axes, 1, view.spot((deep, 2.6))),
    ]
    _legend(figure, axes, (-1, 0))
    return Drawing(figure, view.data() | {"arrows": shown})


def proof(sources: Sources) -> Drawing:
    """Figure 8: all four fingerprints, what each rejects, and an adversarial point that none does."""
    view = _View(sources.study("linear-svm").arrays)
    figure, (axes, strip) = stacked((3.1, 2.2))
    view.ground(axes, (0, 1, 2, 3))
    shown = [
        view.arrow(axes, 0, view.example(-1, (-1.4, 0.0))),
        view.arrow(axes, 1, view.example(-1, (-1.1, -0.9))),
        view.arrow(axes, 2, view.example(1, (1.4, 0.6))),
        view.arrow(axes, 3, view.example(1, (1.8, 2.1))),
    ]
    start, end = view.example(-1, (-1.2, 1.7)), view.spot((sum(view.ends[2:]) / 2, 2.95))
    view.unnoticed(axes, start, end)
    found = {"unnoticed": {"start": start.tolist(), "end": end.tolist()}}
    _strip(strip, view)
    _legend(figure, axes, (-1, 1, 0))
    return Drawing(figure, view.data() | {"arrows": shown} | found)


class _View:
    """The data set of the study, drawn by signed distance to the plane and place along it."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.x, self.y = arrays["x"], arrays["y"]
        self.plane = Plane(arrays["w"], float(arrays["b"]))
        at = Margins(*(float(end) for end in arrays["margins"]))
        self.detector = LinearDetector(self.plane, at)
        self.ends = (-at.negative_max, -at.negative_min, at.positive_min, at.positive_max)
        self.normal = self.plane.normal
        self.along = np.array([-self.normal[1], self.normal[0]])
        self.tilt = float(np.degrees(np.arctan2(self.normal[1], self.normal[0])))

    def spot(self, place: Place) -> NDArray[Any]:
        origin = -float(self.plane.distance(np.zeros((1, 2)))[0]) * self.normal
        return np.asarray(origin + place[0] * self.normal + place[1] * self.along)

    def example(self, label: int, near: Place) -> NDArray[Any]:
        """The real example of a class that is nearest to a place."""
        own = self.x[self.y == label]
        return np.asarray(own[np.linalg.norm(own - self.spot(near), axis=1).argmin()])

    def spans(self, numbers: Sequence[int]) -> list[tuple[float, float, int | None]]:
        """Ranges of distance, and what fingerprints make of them.

        The class as which they accept an input, 0 if one of them rejects it, None if none of them is
        of its predicted class.
        """
        edges = [-_FAR, *self.ends[:2], 0.0, *self.ends[2:], _FAR]
        labels = {self.detector.fingerprints[i].label for i in numbers}
        found: list[tuple[float, float, int | None]] = []
        for low, high in pairwise(edges):
            middle = self.spot(((low + high) / 2, 0.0))[None]
            label = int(self.detector.predict(middle)[0])
            rejected = bool(self.detector.violations(middle)[0, list(numbers)].any())
            found.append((low, high, None if label not in labels else 0 if rejected else label))
        return found

    def ground(self, axes: Any, numbers: Sequence[int]) -> None:
        """What these fingerprints accept and reject, the plane, the ends of the bands and the data."""
        axes.spines[:].set_visible(True)
        for low, high, label in self.spans(numbers):
            if label is not None:
                corners = [
                    self.spot(at) for at in ((low, -_FAR), (high, -_FAR), (high, _FAR), (low, _FAR))
                ]
                axes.fill(*np.array(corners).T, zorder=0, **_FILLING[label])
        ticks = {0.0: "0"} | dict(zip(self.ends[: len(numbers)], _ENDS, strict=False))
        for distance in ticks:
            line = np.stack([self.spot((distance, -_FAR)), self.spot((distance, _FAR))], axis=1)
            axes.plot(*line, zorder=1, **_LINE[bool(distance)])
        axes.set_xticks([self._at_top(distance) for distance in ticks], list(ticks.values()))
        axes.set(xlim=(-_SIZE, _SIZE), ylim=(-_SIZE, _SIZE), aspect="equal", yticks=[])
        for x, text in ((-0.95, "f(x) < 0"), (0.95, "f(x) > 0")):
            axes.text(
                x * _SIZE, -0.95 * _SIZE, text, fontsize=7.5, ha="left" if x < 0 else "right", zorder=6,
                path_effects=_halo(),
            )  # fmt: skip
        axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
        _typeset(axes)
        for label in (-1, 1):
            axes.scatter(
                *self.x[self.y == label].T, s=13, marker=_MARKER[label], color=_INK[label],
                linewidth=0, zorder=3, label=f"real, class {_SIGN[label]}",
            )  # fmt: skip

    def _at_top(self, distance: float) -> float:
        """Where the points at a distance meet the upper edge."""
        start = self.spot((distance, 0.0))
        return float(start[0] + (_SIZE - start[1]) / self.along[1] * self.along[0])

    def arrow(self, axes: Any, number: int, start: NDArray[Any]) -> dict[str, Any]:
        """A fingerprint at an input, the change of sign that it makes there, and whether it should."""
        fingerprint = self.detector.fingerprints[number]
        end = start + fingerprint.dx
        response = int(self.detector.responses(start[None])[0, number])
        matches = response == fingerprint.dy
        axes.annotate("", end, start, zorder=5, arrowprops=_ARROW)
        if not matches:
            label = None if "fake" in axes.get_legend_handles_labels()[1] else "fake"
            axes.plot(*start, "X", color="black", markersize=6, markeredgewidth=0, zorder=5, label=label)
        text = f"{_NAMES[number]}: {_CHANGE[response]} {'✓' if matches else '✗'}"
        axes.text(
            *((start + end) / 2 + 0.06 * self.along), text, fontsize=7.5, zorder=6, ha="center",
            va="bottom", rotation=self.tilt, rotation_mode="anchor", path_effects=_halo(),
        )  # fmt: skip
        return {
            "fingerprint": number + 1,
            "start": start.tolist(),
            "end": end.tolist(),
            "response": response,
            "expected": fingerprint.dy,
        }

    def unnoticed(self, axes: Any, start: NDArray[Any], end: NDArray[Any]) -> None:
        """A move to an input that is misclassified and accepted."""
        axes.annotate(
            "", end, start, zorder=4, arrowprops=_ARROW | {"linestyle": (0, (3, 2)), "shrinkB": 3}
        )
        axes.plot(
            *end, marker="*", color="black", markersize=8, markeredgewidth=0, linewidth=0, zorder=5,
            label="misclassified, accepted",
        )  # fmt: skip

    def data(self) -> dict[str, Any]:
        return {
            "x": self.x.tolist(),
            "class": self.y.tolist(),
            "w": self.plane.w.tolist(),
            "b": self.plane.b,
            "ends": list(self.ends),
        }


def _strip(axes: Any, view: _View) -> None:
    """A row for each fingerprint, and one for all: which distances it rejects."""
    reach = 1.35 * max(abs(end) for end in view.ends)
    rows: list[Sequence[int]] = [(0,), (1,), (2,), (3,), (0, 1, 2, 3)]
    for i, numbers in enumerate(rows):
        for low, high, label in view.spans(numbers):
            if label is not None:
                sides = [max(low, -reach), min(high, reach)]
                axes.fill([*sides, *sides[::-1]], [i - 0.36] * 2 + [i + 0.36] * 2, **_FILLING[label])
    for ends, row in ((view.ends[2:], 0.5), (view.ends[:2], 2.5)):
        axes.text(sum(ends) / 2, row, "not asked", color=GREY, fontsize=6.5, ha="center", va="center")
    for end in (*view.ends, 0.0):
        axes.axvline(end, zorder=1, **_LINE[bool(end)])
    axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.5, -0.5), xlabel=_DISTANCE)
    shifts = [
        f"{name}: {_CHANGE[one.dy]}"
        for name, one in zip(_NAMES, view.detector.fingerprints, strict=True)
    ]
    axes.set_yticks(range(len(rows)), [*shifts, "all four"])
    axes.set_xticks([*view.ends, 0], [*_ENDS, "0"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _typeset(axes)


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="white")]


def _typeset(axes: Any) -> None:
    for tick in axes.get_xticklabels():
        tick.set_parse_math(True)


def _legend(figure: Any, axes: Any, fillings: Sequence[int]) -> None:
    from matplotlib.patches import Patch

    handles, names = axes.get_legend_handles_labels()
    for label in fillings:
        handles.append(Patch(**_FILLING[label]))
        names.append(f"accepted as class {_SIGN[label]}" if label else "rejected")
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=7)
