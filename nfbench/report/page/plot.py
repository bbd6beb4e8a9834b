"""Small charts as inline SVG: axes, lines, whiskers, markers; colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nfbench.report.page import curves
from nfbench.report.page.markup import Html, el, join

Point = tuple[float, float]

MARKERS = (
    "M0-3.6A3.6 3.6 0 1 1 0 3.6A3.6 3.6 0 1 1 0-3.6Z",  # circle
    "M-3.3-3.3H3.3V3.3H-3.3Z",  # square
    "M0-4.3L4.2 3.2H-4.2Z",  # triangle
    "M0-4.6L4.6 0L0 4.6L-4.6 0Z",  # diamond
    "M0 4.3L4.2-3.2H-4.2Z",  # triangle, point down
    "M-1.3-4.2H1.3V-1.3H4.2V1.3H1.3V4.2H-1.3V1.3H-4.2V-1.3H-1.3Z",  # plus
    "M0-4.6L1.2-1.5L4.4-1.4L1.9.6L2.7 3.7L0 1.9L-2.7 3.7L-1.9.6L-4.4-1.4L-1.2-1.5Z",  # star
)
COLOURS, DASHES = 8, 5
APART = 4
"""Units between the markers of defenses at one place, so that their whiskers do not cover each other."""


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, and where to write them."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """From 0 at the low end to 1 at the high end."""
        if self.logarithmic:
            value = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            value = (value - self.low) / (self.high - self.low)
        return min(max(value, 0.0), 1.0)


@dataclass(frozen=True)
class Plot:
    """A chart's frame, in units that are pixels at its natural size."""

    x: Axis
    y: Axis
    width: int = 320
    height: int = 232
    left: int = 42
    bottom: int = 38
    right: int = 12
    top: int = 8

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Where a value lies, rounded to whole units."""
        across = self.left + self.x.place(x) * (self.width - self.left - self.right)
        down = self.height - self.bottom - self.y.place(y) * (self.height - self.top - self.bottom)
        return round(round(across, 6)), round(round(down, 6))  # halves too, on every processor

    def line(self, points: Sequence[Point], **attributes: object) -> Html:
        """Points joined by a line."""
        return el("path", d=_path([self.at(*p) for p in points]), **attributes)

    def area(self, points: Sequence[Point], **attributes: object) -> Html:
        """The space between a line and the low end of the y axis."""
        ends = [(points[-1][0], self.y.low), (points[0][0], self.y.low)]
        return el("path", d=_path([self.at(*p) for p in (*points, *ends)]) + "z", **attributes)

    def marker(self, point: curves.Point, shape: int, told: str) -> Html:
        """A point and its interval, with what a pointer over it says."""
        a, b = self.at(point.x, point.y)
        whisker = None
        if point.low is not None and point.high is not None:
            (_, bottom), (_, top) = self.at(point.x, point.low), self.at(point.x, point.high)
            path = f"M{a} {bottom}V{top}M{a - 3} {bottom}h6M{a - 3} {top}h6"
            whisker = el("path", d=path, class_="whisker")
        css = "hollow" if point.flagged else None
        mark = el("use", href=f"#m{shape % len(MARKERS)}", x=a, y=b, class_=css)
        return el("g", el("title", told), whisker, mark)

    def draw(self, title: str, description: str, *content: Html) -> Html:
        """The whole chart."""
        box = f"0 0 {self.width} {self.height}"
        said = el("title", title), el("desc", description)
        return el(
            "svg", *said, self._grid(), *content, viewBox=box, role="img", class_="chart",
            width=self.width, height=self.height,
        )  # fmt: skip

    def _grid(self) -> Html:
        end, base = self.width - self.right, self.height - self.bottom
        parts = []
        for value, text in self.y.ticks:
            _, y = self.at(self.x.low, value)
            parts.append(el("path", d=f"M{self.left} {y}H{end}"))
            parts.append(el("text", text, x=self.left - 6, y=y + 4, class_="end"))
        for value, text in self.x.ticks:
            x, _ = self.at(value, self.y.low)
            parts.append(el("path", d=f"M{x} {base}v4"))
            parts.append(el("text", text, x=x, y=base + 16, class_="mid"))
        middle = (self.left + end) // 2
        parts.append(el("text", self.x.label, x=middle, y=self.height - 4, class_="mid name"))
        up = (self.top + base) // 2
        turned = f"translate(11 {up}) rotate(-90)"
        parts.append(el("text", self.y.label, transform=turned, class_="mid name"))
        parts.append(el("path", d=f"M{self.left} {self.top}V{base}H{end}", class_="axis"))
        return el("g", *parts, class_="grid", aria_hidden="true")


def _path(points: Sequence[tuple[int, int]]) -> str:
    """A path in relative steps; points on the way of a straight step are left out."""
    kept = [points[0]]
    for point, after in pairwise([*points[1:], None]):
        if point and (after is None or not _between(kept[-1], point, after)):
            kept.append(point)
    steps = [f"l{b[0] - a[0]} {b[1] - a[1]}" for a, b in pairwise(kept)]
    return f"M{kept[0][0]} {kept[0][1]}" + "".join(steps).replace(" -", "-")


def _between(before: tuple[int, int], point: tuple[int, int], after: tuple[int, int]) -> bool:
    return before == point or any(
        before[i] == point[i] == after[i]
        and sorted((before[1 - i], point[1 - i], after[1 - i]))[1] == point[1 - i]
        for i in (0, 1)
    )


def rates(label: str) -> Axis:
    """From 0 to 1."""
    return Axis(label, 0, 1, [(v / 10, f"{v / 10:g}") for v in range(0, 11, 2)])


def logarithmic_rates(label: str, low: float) -> Axis:
    """From `low` to 1 in powers of ten."""
    powers = [10.0**p for p in range(round(math.log10(low)), 1)]
    return Axis(label, low, 1, [(p, f"{p:g}") for p in powers], logarithmic=True)


def style(number: int) -> str:
    """Classes of the series of that number: colour and dashes together are one of forty."""
    return f"c{number % COLOURS} d{number % DASHES}"


def series(name: str, number: int, *content: Html) -> Html:
    """What belongs to one defense, so that it is filtered as one."""
    return el("g", *content, class_=f"series {style(number)}", data_defense=name)


def legend(numbers: Mapping[str, int]) -> Html:
    """Names with their line and marker."""
    return el("ul", *(_key(name, i) for name, i in numbers.items()), class_="legend")


def _key(name: str, number: int) -> Html:
    sample = el("path", d="M1 7H33"), el("use", href=f"#m{number % len(MARKERS)}", x=17, y=7)
    drawn = el(
        "svg",
        *sample,
        viewBox="0 0 34 14",
        width=34,
        height=14,
        class_=style(number),
        aria_hidden="true",
    )
    return el("li", drawn, name, data_defense=name)


def marker_shapes() -> Html:
    """The markers, once a page; `<use>` refers to them."""
    shapes = (el("path", id=f"m{i}", d=d) for i, d in enumerate(MARKERS))
    return el("svg", el("defs", *shapes), width=0, height=0, class_="shapes", aria_hidden="true")


def lines(
    plot: Plot, found: Mapping[str, Sequence[curves.Point]],
    numbers: Mapping[str, int], told: Callable[[str, curves.Point], str],
) -> list[Html]:  # fmt: skip
    """A line with markers and whiskers for each name; markers of flagged points are hollow."""
    drawn = []
    for place, (name, points) in enumerate(found.items()):
        line = plot.line([(p.x, p.y) for p in points], class_="line")
        marks = [plot.marker(p, numbers[name], told(name, p)) for p in points]
        aside = round(APART * (place - (len(found) - 1) / 2))
        moved = el("g", line, *marks, transform=f"translate({aside})")
        drawn.append(series(name, numbers[name], moved))
    return drawn


def panel(caption: object, *content: object, **attributes: object) -> Html:
    """A figure with its caption, to be filtered by its attributes."""
    return el("figure", el("figcaption", caption), *content, class_="panel", **attributes)


def grid(panels: Sequence[Html]) -> Html:
    """Figures beside each other."""
    return el("div", join(panels), class_="panels")
