"""The figures of a page: ROC, SR@5 against the radius, the ladder, histograms of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nfbench.report.board import number
from nfbench.report.page import curves, plot
from nfbench.report.page.markup import Html, el, escaped
from nfbench.report.page.numbers import Number, sr5_of
from nfbench.report.page.places import Faced, Place
from nfbench.report.page.plot import Axis, Plot, panel

Numbers = Mapping[str, int]
"""Which colour, dashes and marker a defense has, the same all over the page."""

LOWEST_RATE = 0.001
_LINEAR = np.linspace(0, 1, 61)
_LOG = np.logspace(np.log10(LOWEST_RATE), 0, 61)


def roc(where: Sequence[Place], numbers: Numbers) -> list[Html]:
    """For each place the detectors' ROC against the worst case, on a linear and a log axis."""
    return [_roc(place, numbers) for place in where if place.faced]


def _roc(place: Place, numbers: Numbers) -> Html:
    log_rates = plot.logarithmic_rates("false alarms, log scale", LOWEST_RATE)
    linear = Plot(plot.rates("false alarms"), plot.rates("detected"), width=264, height=216)
    log = Plot(log_rates, plot.rates("detected"), width=264, height=216)
    charts = []
    for frame, at in ((linear, _LINEAR), (log, _LOG)):
        lines = []
        for name, seeds in place.faced.items():
            points = _steps(at.tolist(), curves.detection_rates(seeds, at).tolist())
            told = el("title", name)
            lines.append(plot.series(name, numbers[name], frame.line(points, class_="line"), told))
        chance = frame.line([(v, v) for v in at.tolist()], class_="chance")
        drawn = frame.draw(
            f"ROC under {place.threat}, {place.ball}",
            f"Detected share of attacked images against {frame.x.label}. {_told(place)}",
            chance, *lines,
        )  # fmt: skip
        charts.append(drawn)
    caption = el("span", el("b", place.threat), f" {place.ball}")
    attributes = {"data_threat": place.threat, "data_budget": place.ball}
    return panel(caption, el("div", *charts, class_="pair"), **attributes)


def _steps(at: Sequence[float], heights: Sequence[float]) -> list[plot.Point]:
    """A curve that is level between its points, as an ROC is."""
    found = [(at[0], heights[0])]
    for x, before, after in zip(at[1:], heights, heights[1:], strict=False):
        found += [(x, before), (x, after)]
    return found


def _told(place: Place) -> str:
    rates = [
        f"{name} {number(sr5_of(entry).value)}" for name, entry in place.worst.items() if not entry.note
    ]
    return f"SR@5 % of the worst case: {', '.join(rates)}."


def against_radius(where: Sequence[Place], numbers: Numbers) -> list[Html]:
    """For each threat model and norm with several radii, SR@5 of the worst case against the radius."""
    found = []
    for (threat, norm), rungs in curves.radii(where).items():
        radii = [p.eps or 0.0 for p in rungs]
        ticks = [(eps, f"{eps:.3g}") for eps in radii]
        frame = Plot(Axis(f"radius ε ({norm})", 0, max(radii) * 1.04, ticks), plot.rates("SR@5 %"))
        lines = _worst_lines(frame, rungs, radii, numbers)
        said = f"SR@5 % against the radius under {threat}, {norm}"
        chart = frame.draw(said, " ".join(map(_told, rungs)), *lines)
        found.append(panel(el("b", threat), chart, data_threat=threat))
    return found


def ladder(where: Sequence[Place], numbers: Numbers) -> list[Html]:
    """For each budget SR@5 of the worst case, from the attacker who knows least to who knows all."""
    found = []
    for ball, rungs in curves.ladders(where).items():
        ticks = [(i, short(p.threat)) for i, p in enumerate(rungs)]
        axis = Axis("what the attacker knows", -0.3, len(rungs) - 0.7, ticks)
        frame = Plot(axis, plot.rates("SR@5 %"))
        lines = _worst_lines(frame, rungs, list(range(len(rungs))), numbers)
        told = " ".join(f"{p.threat}: {_told(p)}" for p in rungs)
        chart = frame.draw(f"The knowledge ladder, {ball}", told, *lines)
        found.append(panel(el("b", ball), chart, data_budget=ball))
    return found


def short(threat: str) -> str:
    """A rung of the ladder, for an axis."""
    return threat.replace("-whitebox", "").replace("-knowledge", "")


def _worst_lines(
    frame: Plot, rungs: Sequence[Place], at: Sequence[float], numbers: Numbers
) -> list[Html]:
    places = dict(zip(at, rungs, strict=True))

    def told(name: str, point: curves.Point) -> str:
        place, rate = places[point.x], Number(point.y, point.low, point.high)
        flagged = ", flagged" if point.flagged else ""
        return f"{name}, {place.threat}, {place.ball}: SR@5 % {number(point.y)} {rate.interval}{flagged}"

    return plot.lines(frame, curves.worst_lines(rungs, at), numbers, told)


def histograms(where: Sequence[Place]) -> list[Html]:
    """For each place and defense the scores of clean, noisy and attacked images, and the threshold."""
    return [_histogram(p, name, seeds[0]) for p in where for name, seeds in p.faced.items()]


def _histogram(place: Place, name: str, faced: Faced) -> Html:
    edges, shares = curves.score_shares(faced)
    top = max([0.05, *(max(heights) for heights in shares.values())])
    ticks = [(edge, f"{edge:.3g}") for edge in (edges[0], edges[-1])]
    y = Axis("share", 0, top, [(0, "0"), (top, f"{top:.2f}")])
    frame = Plot(Axis("detector score", edges[0], edges[-1], ticks), y, height=168)
    drawn = [_outline(frame, edges, heights, kind) for kind, heights in shares.items()]
    if np.isfinite(faced.threshold):
        cut = [(faced.threshold, 0.0), (faced.threshold, top)]
        told = el("title", f"threshold at 5 % false alarms: {faced.threshold:.6g}")
        drawn.append(el("g", frame.line(cut, class_="threshold"), told))
    never = 1 - float(np.isfinite(faced.evasion).mean())
    chart = frame.draw(
        f"Scores of {name} under {place.threat}, {place.ball}",
        f"Clean, noisy and adversarial images; {never:.1%} of the latter were never misclassified.",
        *drawn,
    )
    caption = el("span", el("b", name), el("small", f" never misclassified: {never:.1%}"))
    attributes = {"data_defense": name, "data_threat": place.threat, "data_budget": place.ball}
    return panel(caption, chart, **attributes)


def _outline(frame: Plot, edges: Sequence[float], heights: Sequence[float], kind: str) -> Html:
    points = [(edges[0], 0.0)]
    for left, right, height in zip(edges, edges[1:], heights, strict=False):
        points += [(left, height), (right, height)]
    points.append((edges[-1], 0.0))
    draw = frame.area if kind == "adversarial" else frame.line
    return draw(points, class_=f"bars {kind}")


def kinds_of_scores() -> Html:
    """Legend of the histograms."""
    names = {
        "clean": "clean images", "noisy": "clean images with noise as large as the attack's",
        "adversarial": "attacked images, S*", "threshold": "threshold at 5 % false alarms",
    }  # fmt: skip
    keys = []
    for kind, text in names.items():
        shape = "M1 12V3H12V7H22V10H33V12" if kind != "threshold" else "M17 1V14"
        css = f"bars {kind}" if kind != "threshold" else kind
        sample = el("path", d=shape, class_=css)
        drawn = el("svg", sample, viewBox="0 0 34 14", width=34, height=14, aria_hidden="true")
        keys.append(el("li", drawn, escaped(text)))
    return el("ul", *keys, class_="legend")
