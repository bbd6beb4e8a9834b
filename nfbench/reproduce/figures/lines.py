"""Lines of a statistic along what a sweep varies, as a panel of a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nfbench.records import CellRecord, Value
from nfbench.report.cells import BOUND
from nfbench.reproduce.figures import panels
from nfbench.reproduce.figures.panels import GREY, Runs

_APART = 0.012
"""Of the axis, between the points of two lines at one place, so that intervals are seen."""


class Point(NamedTuple):
    """A number somewhere on the axis."""

    x: float
    value: Value
    seeds: int
    weak: bool
    """Whether a cell is flagged: its attack is weaker than it should be."""


class Line(NamedTuple):
    """An attack under a threat model, by one statistic."""

    attack: str
    threat_model: str
    statistic: str
    points: Sequence[Point]

    @property
    def bound(self) -> bool:
        """Whether a longer attack could lower some of its numbers."""
        return any(point.value.flag.startswith(BOUND) for point in self.points)


Where = Callable[[Mapping[str, Any], CellRecord], float | None]
"""Where on the axis a cell of a point of the sweep is; None: nowhere."""


def of_runs(
    runs: Runs, attacks: Iterable[str], threat_model: str, where: Where, statistic: str = ""
) -> list[Line]:
    """The lines of some attacks, seeds together; those without cells are left out.

    Args:
        runs: points of the sweep and their runs.
        attacks: in the order of the lines.
        threat_model: whose cells.
        where: the place of a cell on the axis.
        statistic: a metric; that of the threat model if empty.
    """
    found: dict[str, dict[float, list[CellRecord]]] = {attack: {} for attack in attacks}
    for point, run in runs:
        for cell in panels.chosen(run, found, [threat_model]):
            x = where(point, cell)
            if x is not None:
                found[cell.attack.name].setdefault(x, []).append(cell)
    return [_line(attack, places, statistic) for attack, places in found.items() if places]


def _line(attack: str, places: Mapping[float, Sequence[CellRecord]], statistic: str) -> Line:
    first = next(iter(places.values()))[0]
    statistic = statistic or panels.statistic(first)
    points = [
        Point(x, panels.pooled(cells, statistic), len(cells), any(cell.flags for cell in cells))
        for x, cells in sorted(places.items())
    ]
    return Line(attack, first.threat_model.name, statistic, points)


def varied(name: str) -> Where:
    """The place that a point of a sweep says, by `plugin.hyperparameter`."""
    return lambda point, _: float(point[name]) if name in point else None


def draw(
    axes: Any, lines: Sequence[Line], *, log: bool = False, claim: float | None = None
) -> dict[str, Any]:
    """Draw lines with 95 % intervals; markers are hollow where the attack is flagged.

    Args:
        axes: the panel.
        lines: at least one, all of one statistic.
        log: whether the axis is logarithmic.
        claim: what the paper says that every number is at least.

    Returns:
        What it shows: `attack`, `threat_model`, `statistic`, `x`, `value`, `low`, `high`, `flag`,
        `seeds` and `weak`, a row a point.
    """
    at = sorted({point.x for line in lines for point in line.points})
    places = dict(zip(at, np.log10(at) if log else np.array(at), strict=True))
    span = (places[at[-1]] - places[at[0]]) or 1.0
    for i, line in enumerate(lines):
        shift = (i - (len(lines) - 1) / 2) * _APART * span
        _draw_line(axes, line, {x: place + shift for x, place in places.items()})
    _ticks(axes, places, 0.15 * span)
    axes.set_xlim(places[at[0]] - 0.06 * span, places[at[-1]] + 0.06 * span)
    if claim is not None:
        panels.claimed(axes, claim, f"{claim:g} or more")
    axes.text(0.02, 0.04, _gaps(lines), fontsize=6.5, color=GREY, transform=axes.transAxes)
    axes.set_ylim(panels.room(min([*_lows(lines), *([] if claim is None else [claim])], default=0.0)))
    return panels.columns([_row(line, point) for line in lines for point in line.points])


def _ticks(axes: Any, places: Mapping[float, float], near: float) -> None:
    """Every number along the axis; two that are near each other lean apart."""
    axes.set_xticks(list(places.values()), [f"{x:g}" for x in places])
    at, labels = list(places.values()), axes.get_xticklabels()
    for i in range(1, len(at)):
        if at[i] - at[i - 1] < near:
            labels[i - 1].set_horizontalalignment("right")
            labels[i].set_horizontalalignment("left")


def _draw_line(axes: Any, line: Line, places: Mapping[float, float]) -> None:
    look = panels.look(line.attack)
    known = [p for p in line.points if p.value.value is not None]
    name = panels.called(line.attack) + " (upper bounds)" * line.bound
    axes.plot([places[p.x] for p in known], [p.value.value for p in known], label=name, **look)
    for p in known:
        if p.value.low is not None and p.value.high is not None:
            axes.vlines(places[p.x], p.value.low, p.value.high, color=look["color"], linewidth=0.7)
    hollow = {**look, "linestyle": "none", "markerfacecolor": "white"}
    weak = [p for p in known if p.weak]
    if weak:
        values = [p.value.value for p in weak]
        axes.plot([places[p.x] for p in weak], values, label=f"{name}, weak here", **hollow)


def _gaps(lines: Sequence[Line]) -> str:
    """Which numbers are undefined, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for x, value, *_ in line.points:
            if value.value is None:
                found.setdefault((panels.called(line.attack), value.flag), []).append(f"{x:g}")
    return "\n".join(f"{name} at {', '.join(at)}: {why}" for (name, why), at in found.items())


def _lows(lines: Sequence[Line]) -> list[float]:
    """What must be on the axis."""
    values = [point.value for line in lines for point in line.points]
    lowest = [v.value if v.low is None else v.low for v in values]
    return [low for low in lowest if low is not None]


def _row(line: Line, point: Point) -> dict[str, Any]:
    told = {"attack": line.attack, "threat_model": line.threat_model, "statistic": line.statistic}
    return {**told, "x": point.x, **panels.column(point.value), "seeds": point.seeds, "weak": point.weak}
