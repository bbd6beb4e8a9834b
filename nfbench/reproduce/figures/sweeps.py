"""Figures of what a sweep varies: Figures 5, 6, 7 and 9; EPFL's of N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfbench.core.errors import UsageError
from nfbench.report.figures import style
from nfbench.report.metrics import Vector
from nfbench.report.run import Run
from nfbench.reproduce.figures import lines, panels, roc
from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.lines import Line, varied
from nfbench.reproduce.figures.panels import LABELS, STATIC, Runs

_SIZE, _NUMBER = "neuralfp.eps", "neuralfp.fingerprints"
_DISTORTED = {
    "partial-whitebox": ("static attacks, detector unknown", ("fgsm", "bim-a", "bim-b", "pgd")),
    "paper-adaptive": ("adaptive attacks as the paper has them", ("fgsm", "bim-b", "pgd", "spsa")),
    "adaptive-whitebox": ("further than the paper", ("detector-breaker",)),
}
"""What Figure 5 shows, a panel a threat model; the paper does not name its attack."""


def distortion(sources: Sources) -> Drawing:
    """Figure 5: AUROC against the L-inf bound; the paper has 0.99 or more.

    A panel a threat model, since each has its own statistic; that of the attacker who knows the detector
    only if he was run.
    """
    runs = sources.runs("cifar10-distortion")
    found = {
        threat: lines.of_runs(runs, attacks, threat, lambda _, c: c.eps if c.norm == "linf" else None)
        for threat, (_, attacks) in _DISTORTED.items()
    }
    if not any(found.values()):
        raise panels.nothing("figure5")
    if not found["adaptive-whitebox"]:
        del found["adaptive-whitebox"]
    figure, axes = panels.stacked([_height(own) for own in found.values()])
    panels.heads(axes, panels.data_of(runs, "cifar10"), [_DISTORTED[threat][0] for threat in found])
    shown = {
        threat: _panel(panel, own, "L∞ bound ε", claim=0.99)
        for panel, (threat, own) in zip(axes, found.items(), strict=True)
    }
    panels.below(figure, axes, 2)
    return Drawing(figure, shown)


def _height(found: Any) -> float:
    """Inches of a panel; few, if it was not run."""
    return 1.75 if found else 0.6


def _panel(axes: Any, own: Sequence[Line], along: str, **how: Any) -> dict[str, Any]:
    """Lines of one statistic, or that they were not run; what is shown."""
    if not own:
        panels.not_run(axes)
        return {}
    shown = lines.draw(axes, own, **how)
    axes.set(xlabel=along, ylabel=LABELS[own[0].statistic])
    return shown


def draws(sources: Sources) -> Drawing:
    """Figure 6: AUROC over draws of the fingerprints' directions and of N, mean and deviation.

    Each point of the sweep is a draw, and a classifier of its own; seeds of one draw are averaged.
    """
    runs = sources.runs("cifar10-draws")
    rows = [row for point, run in runs for row in _draw_of(point, run)]
    values = {attack: _known(rows, attack) for attack in STATIC}
    values = {attack: own for attack, own in values.items() if len(own)}
    if not values:
        raise panels.nothing("figure6")
    figure, (axes,) = panels.stacked([2.7])
    summary = [_spread(axes, i, attack, own) for i, (attack, own) in enumerate(values.items())]
    labels = [f"{panels.called(r['attack'])}\n{r['mean']:.3f}\n± {r['deviation']:.3f}" for r in summary]
    axes.set_xticks(range(len(values)), labels)
    panels.claimed(axes, 0.98, "means 0.98 or more")
    lowest = min(0.98, *(float(own.min()) for own in values.values()))
    axes.set(ylabel=LABELS["auroc_returned"], ylim=panels.room(lowest))
    line = f"{len(runs)} draws of Δx and N: mean ± standard deviation"
    panels.head(axes, panels.data_of(runs, "cifar10"), line)
    panels.below(figure, [axes])
    return Drawing(figure, {"draws": panels.columns(rows), "summary": panels.columns(summary)})


def _draw_of(point: Mapping[str, Any], run: Run) -> list[dict[str, Any]]:
    """A row an attack."""
    found = lines.of_runs([(point, run)], STATIC, "partial-whitebox", lambda *_: 0.0)
    drawn = {"secret": point.get("neuralfp.secret"), "fingerprints": point.get(_NUMBER)}
    return [{**drawn, "attack": one.attack, **panels.column(one.points[0].value)} for one in found]


def _known(rows: Sequence[Mapping[str, Any]], attack: str) -> Vector:
    return np.array([r["value"] for r in rows if r["attack"] == attack and r["value"] is not None])


def _spread(axes: Any, place: int, attack: str, own: Vector) -> dict[str, Any]:
    """Every draw as a dot, their mean and standard deviation beside them."""
    mean, deviation = float(own.mean()), float(own.std(ddof=1)) if len(own) > 1 else np.nan
    look = panels.look(attack) | {"linestyle": "none"}
    aside = np.random.default_rng(0).uniform(-0.3, -0.05, len(own))
    axes.scatter(place + aside, own, s=7, color=look["color"], alpha=0.5, linewidths=0)
    axes.errorbar(place + 0.18, mean, deviation, capsize=2.5, elinewidth=1.2, **look)
    return {"attack": attack, "mean": mean, "deviation": deviation, "draws": len(own)}


def cifar10(sources: Sources) -> Drawing:
    """Figure 7: AUROC against size and number of the fingerprints, and ROC; the paper has 0.95 to 1."""
    return _hyperparameters(sources, "cifar10", "figure7", 0.95)


def mnist(sources: Sources) -> Drawing:
    """Figure 9: the same on MNIST, where the paper has 0.90 to 1 for most settings."""
    return _hyperparameters(sources, "mnist", "figure9", 0.90)


def _hyperparameters(sources: Sources, data: str, figure_id: str, claim: float) -> Drawing:
    size, number, static = (sources.runs(f"{data}-{name}") for name in ("size", "number", "static"))
    sizes, numbers = (
        lines.of_runs(runs, STATIC, "partial-whitebox", varied(name))
        for runs, name in ((size, _SIZE), (number, _NUMBER))
    )
    curves = panels.attacked(static, STATIC, roc.NEEDED)
    if not (sizes or numbers or curves):
        raise panels.nothing(figure_id)
    figure, axes = panels.stacked([_height(one) for one in (sizes, numbers, curves)])
    titles = [f"size ε of the fingerprints{_fixed(size, 'fingerprints', 'N')}"]
    titles.append(f"number N of fingerprints{_fixed(number, 'eps', 'ε')}")
    titles.append(f"ROC{_fixed(static, 'fingerprints', 'N')}{_fixed(static, 'eps', 'ε')}")
    panels.heads(axes, panels.data_of([*size, *number, *static], data), titles)
    shown = {"size": _panel(axes[0], sizes, "ε", log=True, claim=claim)}
    shown["number"] = _panel(axes[1], numbers, "N", claim=claim)
    if curves:
        shown["roc"] = roc.draw(axes[2], curves, {name: panels.called(name) for name in curves})
    else:
        panels.not_run(axes[2])
    panels.below(figure, axes)
    return Drawing(figure, shown)


def _fixed(runs: Runs, name: str, sign: str) -> str:
    """A hyperparameter that all detectors share, for a title."""
    every = {c.defense.params.get(name) for _, run in runs for c in panels.chosen(run)}
    return f", {sign} = {every.pop():g}" if len(every) == 1 and None not in every else ""


def epfl_number(sources: Sources) -> Drawing:
    """EPFL, section IV: accuracy, time and AUROC against the number of fingerprints.

    Times are relative to those of the fewest fingerprints, so that training and scoring share an axis.
    """
    runs = sources.runs("epfl-number")
    threat = "partial-whitebox"
    accuracy = lines.of_runs(runs, ["fgsm"], threat, varied(_NUMBER), "clean_accuracy")
    robust = lines.of_runs(runs, ["fgsm", "bim-b"], threat, varied(_NUMBER))
    accuracy = [line._replace(attack="") for line in accuracy]  # it is the same under any
    seconds = _seconds(sources)
    if not (robust or seconds):
        raise panels.nothing("epfl-number")
    figure, axes = panels.stacked([_height(one) for one in (accuracy, seconds, robust)])
    panels.heads(axes, panels.data_of(runs, "mnist"), ("accuracy", "time", "robustness"))
    shown = {"accuracy": _panel(axes[0], accuracy, "N"), "seconds": seconds}
    if seconds:
        _timed(axes[1], seconds)
    else:
        panels.not_run(axes[1])
    shown["auroc"] = _panel(axes[2], robust, "N")
    panels.below(figure, axes[2:])
    return Drawing(figure, shown)


def _seconds(sources: Sources) -> dict[str, Vector]:
    """`number`, and under each name the seconds at each of them; empty if the study was not run."""
    try:
        arrays = sources.study("time-in-n").arrays
    except UsageError:
        return {}
    return {name: arrays[name] for name in ("number", *_TIMES)}


_TIMES = {"train_seconds": "training", "score_seconds": "scoring"}


def _timed(axes: Any, seconds: Mapping[str, Vector]) -> None:
    number = seconds["number"]
    for i, (name, label) in enumerate(_TIMES.items()):
        took = seconds[name] / seconds[name][0]
        straight = np.corrcoef(number, took)[0, 1] ** 2
        look = style(5 + i) | {"markersize": 3.5}
        axes.plot(number, took, label=f"{label}, R² of a line {straight:.3f}", **look)
    axes.legend(fontsize=7, loc="upper left")
    axes.set(xlabel="N", ylabel=f"times that of N = {number[0]:g}", ylim=(0, None))
    axes.set_xticks(number, [f"{n:g}" for n in number])
