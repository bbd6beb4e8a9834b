"""The plot of a sweep, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

from nfbench.report.figures import COLOURS, DASHES, MARKERS, METADATA, styled, written_to
from nfbench.sweeping.plotting import SR5, Kind, Layout, Mark, layout
from nfbench.sweeping.rows import Swept
from nfbench.sweeping.unrolling import text_of

LOG_FROM = 20
"""Largest over smallest value from which an axis is logarithmic."""
_BANDED = 4
"""Lines of a panel beyond which intervals are bars, not bands."""
_ALONE, _AMONG = (3.3, 2.1), (2.2, 1.7)
"""Width and height of a panel with its labels, inches: of one alone, of one among several."""
_LINE = 0.15
"""Height of a line of the title or the legend, inches."""
_GREY = "#555555"
_GAP = 0.07
"""Shares of the axis that two labels of it need between them."""


def draw(swept: Swept, out: Path) -> list[Path]:
    """Write `sweep-<metric>.svg` and `.png` for the AUROC and SR@5 %, where there are numbers.

    Raises:
        UsageError: if matplotlib is not installed, or `out` can't be written.
    """
    written: list[Path] = []
    with styled(), written_to(out):
        for name, figure in figures(swept):
            for kind in ("svg", "png"):
                target = out / f"sweep-{name}.{kind}"
                how: dict[str, Any] = {"dpi": 200, "bbox_inches": "tight", "metadata": METADATA[kind]}
                figure.savefig(target, format=kind, **how)
                written.append(target)
    return written


def figures(swept: Swept) -> Iterator[tuple[str, Any]]:
    """Each metric that there are numbers of, and its matplotlib figure."""
    for name, title in ((swept.statistic, f"AUROC ({swept.statistic})"), (SR5, "SR@5 %")):
        found = layout(swept, name)
        if found is not None:
            yield name, _figure(found, title, swept.dataset)


def _figure(how: Layout, title: str, dataset: str) -> Any:
    from matplotlib.figure import Figure

    panels = how.each_panel()
    columns = _across(how, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = _ALONE[0] if len(panels) == 1 else _AMONG[0] * columns + 0.4
    about = fill(", ".join(_about(how, dataset)), round(17 * width))
    legend = _legend(how, width)
    height = _ALONE[1] if len(panels) == 1 else _AMONG[1] * rows
    height += _LINE * (math.ceil(len(legend["labels"]) / legend["ncols"]) + about.count("\n") + 3)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, how, panel)
    for i, axes in enumerate(grid.flat):
        axes.set_visible(i < len(panels))
        lowest = i + columns >= len(panels)
        axes.tick_params(labelbottom=lowest)
        axes.set_xlabel(how.x.label if lowest else "")
    for row in grid:
        row[0].set_ylabel(title)
    figure.suptitle(about, fontsize=8, x=0.02, ha="left")
    if legend["labels"]:
        figure.legend(loc="outside lower center", fontsize=7, handlelength=2.8, **legend)
    return figure


def _across(how: Layout, panels: int) -> int:
    """Panels side by side: a row for each value of one kind if there are two, else nearly a square."""
    last = len(how.panels[-1][1]) if how.panels else 1
    if len(how.panels) > 1 and last <= 4:
        return last
    return {1: 1, 2: 2, 4: 2}.get(panels, 3)


def _about(how: Layout, dataset: str) -> list[str]:
    """What is the same for all numbers."""
    names = ("attack", "threat model", "defense")
    plain = [how.fixed.get("attack", ""), how.shared, how.fixed.get("threat model", "")]
    others = [f"{name} = {value}" for name, value in how.fixed.items() if name not in names]
    defense = f"{how.fixed['defense']} on " if "defense" in how.fixed else ""
    return [f"{defense}{dataset}", *filter(None, plain), *others]


def _panel(axes: Any, how: Layout, panel: Mapping[str, str]) -> None:
    lines = [(style, marks) for style, at in _styles(how) if (marks := how.of({**panel, **at}))]
    for i, (style, marks) in enumerate(lines):
        shift = 0.0 if how.numeric else (i - (len(lines) - 1) / 2) * 0.5 / len(lines)
        xs = [mark.x if how.numeric else how.xs.index(mark.x) + shift for mark in marks]
        axes.plot(xs, [mark.value.value for mark in marks], **style)
        _spans(
            axes, xs, marks, style["color"], band=how.numeric and len(xs) > 1 and len(lines) <= _BANDED
        )
        _signs(axes, xs, marks, style)
    titles = [value if name == "defense" else f"{name} = {value}" for name, value in panel.items()]
    axes.set_title(", ".join(titles), fontsize=8)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    _ticks(axes, how)


def _spans(axes: Any, xs: Sequence[float], marks: Sequence[Mark], color: str, *, band: bool) -> None:
    """The intervals, where they are known."""
    known = [(x, m.value.low, m.value.high) for x, m in zip(xs, marks, strict=True) if _known(m)]
    if not known:
        return
    at, lows, highs = zip(*known, strict=True)
    if band:
        axes.fill_between(at, lows, highs, color=color, alpha=0.16, linewidth=0)
    else:
        axes.vlines(at, lows, highs, color=color, linewidth=0.8)


def _known(mark: Mark) -> bool:
    return mark.value.low is not None and mark.value.high is not None


def _signs(axes: Any, xs: Sequence[float], marks: Sequence[Mark], style: Mapping[str, Any]) -> None:
    """Hollow markers for flagged numbers, a tip below for upper bounds."""
    from matplotlib.transforms import ScaledTranslation

    below = axes.transData + ScaledTranslation(0, -5 / 72, axes.figure.dpi_scale_trans)
    for x, mark in zip(xs, marks, strict=True):
        if mark.flagged:
            axes.plot(x, mark.value.value, **{**style, "markerfacecolor": "white"})
        if mark.bound:
            tip = {"marker": "v", "markersize": 2.5, "linestyle": "", "color": style["color"]}
            axes.plot(x, mark.value.value, transform=below, **tip)


def _styles(how: Layout) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """How each line looks, and what numbers it is of."""
    first, second = (kind or ("", ("",)) for kind in (how.colour, how.dash))
    for (i, one), (j, two) in product(enumerate(first[1]), enumerate(second[1])):
        at = {name: value for name, value in ((first[0], one), (second[0], two)) if name}
        yield _style(how, i, j if how.dash else i), at


def _style(how: Layout, colour: int, dash: int) -> dict[str, Any]:
    """Categories have no order, so no line connects them."""
    return {
        "color": COLOURS[colour % len(COLOURS)],
        "linestyle": DASHES[dash % len(DASHES)] if how.numeric else "",
        "marker": MARKERS[(dash if how.dash and not how.numeric else colour) % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def _ticks(axes: Any, how: Layout) -> None:
    """At the values, as far as their labels do not touch."""
    from matplotlib.ticker import NullLocator

    if not how.numeric:
        names = [text_of(value) for value in how.xs]
        turned = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > 24 else {}
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    log = min(how.xs) > 0 and max(how.xs) >= LOG_FROM * min(how.xs)
    if log:
        axes.set_xscale("log")
    shown = _apart([math.log(x) if log else x for x in how.xs], [text_of(x) for x in how.xs])
    axes.set_xticks([how.xs[i] for i in shown], [text_of(how.xs[i]) for i in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(places: Sequence[float], names: Sequence[str]) -> list[int]:
    """Which labels are shown: the last, and from there on down those that have room."""
    width = (places[-1] - places[0]) or 1.0
    shown = [len(places) - 1]
    for i in range(len(places) - 2, -1, -1):
        room = _GAP * (len(names[i]) + len(names[shown[-1]])) / 4 + 0.02
        if (places[shown[-1]] - places[i]) / width >= room:
            shown.append(i)
    return shown[::-1]


def _legend(how: Layout, width: float) -> dict[str, Any]:
    """What lines and signs mean: colours, then dashes if these are for something else."""
    from matplotlib.lines import Line2D

    found: list[tuple[Any, str]] = []
    for i, name in enumerate(_values(how.colour)):
        style = _style(how, i, 0 if how.dash else i)
        if how.dash and not how.numeric:
            style["marker"] = "s"
        found.append((Line2D([], [], **style), _worded(how.colour, name)))
    for i, name in enumerate(_values(how.dash)):
        style = _style(how, 0, i) | {"color": _GREY} | ({"marker": ""} if how.numeric else {})
        found.append((Line2D([], [], **style), _worded(how.dash, name)))
    sign: dict[str, Any] = {"color": _GREY, "linestyle": "", "markersize": 4}
    if any(mark.flagged for mark in how.marks):
        found.append((Line2D([], [], marker="o", mfc="white", **sign), "hollow: a weak attack"))
    if any(mark.bound for mark in how.marks):
        found.append((Line2D([], [], marker="v", **sign | {"markersize": 2.5}), "an upper bound"))
    labels = [label for _, label in found]
    room = width / (0.05 * max(map(len, labels), default=1) + 0.5)
    return {
        "handles": [handle for handle, _ in found],
        "labels": labels,
        "ncols": max(1, min(len(labels), int(room))),
    }


def _values(kind: Kind | None) -> Sequence[str]:
    return () if kind is None else kind[1]


def _worded(kind: Kind | None, value: str) -> str:
    plain = kind is None or kind[0] in ("attack", "threat model", "defense")
    return value if plain else f"{kind[0]} = {value}" if kind else value
