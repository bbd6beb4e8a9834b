"""Static figures for papers: SVG and PDF with matplotlib, the same bytes for the same run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nfbench.core.errors import UsageError
from nfbench.records import MARK
from nfbench.report.board import UNDEFENDED, Table, number
from nfbench.report.page import curves
from nfbench.report.page.charts import LOWEST_RATE, short
from nfbench.report.page.columns import parts_of
from nfbench.report.page.numbers import sr5_of
from nfbench.report.page.places import Place, places
from nfbench.report.run import Run
from nfbench.report.settled import settled

Kind = Literal["svg", "pdf"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers can tell apart, without yellow, too faint on paper."""
DASHES = ("-", "--", ":", "-.", (0, (8, 2)))
MARKERS = "os^Dv*"
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "nfbench",
    "text.parse_math": False,
}
METADATA: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
"""By format: neither dates nor versions are written, so that the same figure is the same bytes."""


@contextmanager
def styled() -> Iterator[None]:
    """Figures that are made and saved within it look alike, whatever the user's own settings.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise UsageError("figures need matplotlib: pip install 'nfbench[figures]'") from None
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


@contextmanager
def written_to(out: Path) -> Iterator[None]:
    """Where figures are saved: `out` is made.

    Raises:
        UsageError: if that, or something written within it, is impossible.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UsageError(f"can't write figures to {out}: {error.strerror or error}") from None


def write(run: Run, out: Path, kind: Kind) -> list[Path]:
    """Write every figure that the run has numbers for; returns the files.

    Fonts are embedded, and no date is.

    Raises:
        UsageError: if matplotlib is not installed, or `out` can't be written.
    """
    written: list[Path] = []
    with styled(), written_to(out):
        for name, figure in _figures(run):
            target = _free(out, _slug(name), kind, written)
            figure.savefig(target, format=kind, bbox_inches="tight", metadata=METADATA[kind])
            written.append(target)
    return written


def _figures(run: Run) -> Iterator[tuple[str, Any]]:
    found = settled(run, "auroc_worst")
    where = places(run, found)
    rows = dict.fromkeys(row for table in found for row in table.rows if row != UNDEFENDED)
    styles = {row: style(i) for i, row in enumerate(rows)}
    for place in where:
        if place.faced:
            yield f"roc {place.threat} {place.ball}", _roc(place, styles)
            yield f"scores {place.threat} {place.ball}", _scores(place)
    for (threat, norm), rungs in curves.radii(where).items():
        at = [p.eps or 0.0 for p in rungs]
        ticks = [f"{eps:.3g}" for eps in at]
        yield f"radius {threat} {norm}", _lines(rungs, at, ticks, f"radius ε ({norm})", styles)
    for ball, rungs in curves.ladders(where).items():
        names = [short(p.threat) for p in rungs]
        at = list(range(len(rungs)))
        yield f"ladder {ball}", _lines(rungs, at, names, "what the attacker knows", styles)
    for table in found:
        for ball in dict.fromkeys(parts_of(column)[1] for column in table.columns):
            yield f"heat {table.threat_model} {ball}", _heat(table, ball)


def _slug(name: str) -> str:
    """A file name that is one whatever plugins are called."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().replace("≤", "")).strip("-.")


def _free(out: Path, slug: str, kind: str, written: Sequence[Path]) -> Path:
    """A file of its own for each figure, though names that differ may have equal slugs."""
    numbered = (f"{slug}{'' if i == 1 else f'-{i}'}.{kind}" for i in count(1))
    return next(out / name for name in numbered if out / name not in written)


def style(i: int) -> dict[str, Any]:
    """Of the i-th line: colour, dashes and marker, so that it is known without colours too."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def _figure(columns: int = 1, width: float = 3.3, height: float = 2.5) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height))
    return figure, figure.subplots(1, columns, squeeze=False, gridspec_kw={"wspace": 0.4})[0]


def _legend(axes: Any, names: Sequence[str]) -> None:
    """Outside of the frame; a name of any kind is shown, one that begins with `_` too."""
    shown = [f" {name}" if name.startswith("_") else name for name in names]
    axes.legend(axes.get_lines()[: len(names)], shown, loc="upper left", bbox_to_anchor=(1, 1))


def _roc(place: Place, styles: Mapping[str, Mapping[str, Any]]) -> Any:
    figure, (linear, log) = _figure(2, width=2.9)
    for axes, at in ((linear, np.linspace(0, 1, 201)), (log, np.geomspace(LOWEST_RATE, 1, 201))):
        for name, seeds in place.faced.items():
            rates = curves.detection_rates(seeds, at)
            axes.plot(at, rates, drawstyle="steps-post", **{**styles[name], "marker": None})
        axes.plot(at, at, color="#999999", linewidth=0.6)
        axes.set(xlabel="false alarms", ylabel="detected", ylim=(-0.02, 1.02))
    log.set_xscale("log")
    powers = [10.0**p for p in range(round(np.log10(LOWEST_RATE)), 1)]
    log.set_xticks(powers, [f"{p:g}" for p in powers])
    _legend(log, list(place.faced))
    return figure


def _lines(
    rungs: Sequence[Place], at: Sequence[float], ticks: Sequence[str], label: str,
    styles: Mapping[str, Mapping[str, Any]],
) -> Any:  # fmt: skip
    """Markers of flagged points are hollow."""
    figure, (axes,) = _figure()
    found = curves.worst_lines(rungs, at)
    for name, points in found.items():
        axes.plot([p.x for p in points], [p.y for p in points], **styles[name])
    for name, points in found.items():
        color, marker = styles[name]["color"], styles[name]["marker"]
        for p in points:
            if p.low is not None and p.high is not None:
                axes.vlines(p.x, p.low, p.high, color=color, linewidth=0.8)
            if p.flagged:
                axes.plot(p.x, p.y, color=color, marker=marker, markersize=4, markerfacecolor="white")
    axes.set(xlabel=label, ylabel="SR@5 %", ylim=(-0.02, 1.02))
    axes.set_xticks(list(at), list(ticks))
    _legend(axes, list(found))
    return figure


def _scores(place: Place) -> Any:
    figure, panels = _figure(len(place.faced), width=2.2, height=1.9)
    for axes, (name, seeds) in zip(panels, place.faced.items(), strict=True):
        edges, shares = curves.score_shares(seeds[0])
        for i, (kind, heights) in enumerate(shares.items()):
            axes.stairs(heights, edges, label=kind, color=COLOURS[i], linestyle=DASHES[i])
        if np.isfinite(seeds[0].threshold):
            axes.axvline(seeds[0].threshold, color="black", linewidth=0.8, label="threshold")
        axes.set(title=name, xlabel="detector score", ylabel="share")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _heat(table: Table, ball: str) -> Any:
    columns = [
        (i, parts_of(c)[0] or "worst") for i, c in enumerate(table.columns) if parts_of(c)[1] == ball
    ]
    rates = [[_rate(entries[i]) for i, _ in columns] for entries in table.rows.values()]
    width, height = 1.2 + 0.55 * len(columns), 0.8 + 0.24 * len(rates)
    figure, (axes,) = _figure(width=width, height=height)
    axes.pcolormesh(np.array(rates), cmap="Blues", vmin=0, vmax=1, edgecolor="white", linewidth=1)
    for y, (row, entries) in enumerate(zip(rates, table.rows.values(), strict=True)):
        for x, rate in enumerate(row):
            shade = "white" if rate > 0.55 else "black"
            mark = f" {MARK}" * entries[columns[x][0]].flagged
            text = number(None if np.isnan(rate) else rate) + mark
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=shade, fontsize=7)
    names = [name for _, name in columns]
    axes.set_xticks(np.arange(len(columns)) + 0.5, names, rotation=30, ha="right")
    axes.set_yticks(np.arange(len(rates)) + 0.5, list(table.rows))
    axes.invert_yaxis()
    axes.set_title(f"SR@5 %, {table.threat_model}, {ball}", fontsize=8)
    axes.tick_params(length=0)
    return figure


def _rate(entry: Any) -> float:
    value = None if entry.note else sr5_of(entry).value
    return np.nan if value is None else value
