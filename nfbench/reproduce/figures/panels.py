"""What the figures of runs share: which cells they show, by which statistic, and how panels look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from nfbench.core.errors import UsageError
from nfbench.records import CellRecord, Value
from nfbench.report.figures import COLOURS, style
from nfbench.report.pooling import averaged
from nfbench.report.run import Run, Vectors

Runs: TypeAlias = Sequence[tuple[Mapping[str, Any], Run]]
Attacked: TypeAlias = Mapping[str, Sequence[tuple[CellRecord, Vectors]]]

STATIC = {"fgsm": "FGSM", "jsma": "JSMA", "bim-a": "BIM-a", "bim-b": "BIM-b", "cw": "CW-L₂"}
"""The five attacks of the paper that don't know of the detector, by its names for them."""
_NAMES = STATIC | {
    "detector-breaker": "detector-breaker",
    "pgd": "PGD",
    "spsa": "SPSA",
    "cw-fp": "CW-L₂ + fp.",
    "cw-fp-one": "CW-L₂, γ₂ = 1",
}
_DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_STATISTIC = {
    "blackbox": "auroc_returned",
    "partial-whitebox": "auroc_returned",
    "paper-adaptive": "auroc_successes",
}
LABELS = {
    "auroc_returned": "AUROC (all returned)",
    "auroc_successes": "AUROC (successes)",
    "auroc_worst": "AUROC (worst point)",
    "clean_accuracy": "clean accuracy",
}
"""Of axes; an AUROC is named with the adversarial images it is over."""
WIDTH = 3.15
"""Inches: 8 cm, at which the type is 7 to 8 points."""
BLUE, RED, GREEN = COLOURS[:3]
GREY = "#777777"
_BOTTOMS = (0.98, 0.96, 0.95, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2)


def statistic(cell: CellRecord) -> str:
    """The AUROC that a threat model's attacks are judged by.

    As the paper counts, static attacks are judged on every image they returned and adaptive ones on
    those that were misclassified; who knows the detector, by S*, failures infinite.
    """
    return _STATISTIC.get(cell.threat_model.name, "auroc_worst")


def chosen(
    run: Run, attacks: Iterable[str] = (), threat_models: Sequence[str] = ("partial-whitebox",)
) -> list[CellRecord]:
    """The finished cells of NeuralFP under these attacks, all if none are named; of every seed."""
    return [
        cell
        for cell in run.cells
        if cell.finished
        and cell.defense.name == "neuralfp"
        and cell.threat_model.name in threat_models
        and (not attacks or cell.attack.name in attacks)
    ]


def attacked(
    runs: Runs,
    attacks: Iterable[str],
    vectors: Sequence[str],
    threat_models: Sequence[str] = ("partial-whitebox",),
) -> Attacked:
    """By attack, in the order given, the cells that have these vectors, the lowest seed first."""
    found: dict[str, list[tuple[CellRecord, Vectors]]] = {name: [] for name in attacks}
    for _, run in runs:
        for cell in chosen(run, found, threat_models):
            own = run.samples[cell.cell]
            if all(name in own for name in vectors):
                found[cell.attack.name].append((cell, own))
    return {name: sorted(own, key=lambda one: one[0].seed) for name, own in found.items() if own}


def pooled(cells: Sequence[CellRecord], name: str) -> Value:
    """A metric of cells that differ in their seeds, with its interval."""
    missing = Value(value=None, flag=f"no {name}")
    return averaged([cell.metrics.get(name, missing) for cell in cells])


def column(value: Value) -> dict[str, Any]:
    """A number with its 95 % interval, null where there is none."""
    return {"value": value.value, "low": value.low, "high": value.high, "flag": value.flag}


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows with the same entries, as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def told(value: Value, digits: int = 3) -> str:
    """A number and its 95 % interval, or that there is none."""
    if value.value is None:
        return "undefined"
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def called(attack: str) -> str:
    """An attack by the name that the papers have for it."""
    return _NAMES.get(attack, attack)


def look(attack: str) -> dict[str, Any]:
    """Colour, dashes and marker of an attack, the same in every figure; black if it is none we know."""
    known = list(_NAMES)
    return style(known.index(attack if attack in known else "detector-breaker")) | {"markersize": 3.5}


def data_of(runs: Runs, meant: str) -> str:
    """The data that runs are of, beside those of the paper if others stand in."""
    found = {str(cell.dataset.get("name", meant)) for _, run in runs for cell in run.cells}
    names = sorted(found - {meant})
    own = _DATA.get(meant, meant)
    return f"{', '.join(names)} in place of {own}" if names else own


def stacked(heights: Sequence[float]) -> tuple[Any, list[Any]]:
    """A figure of one column of panels of these heights, in inches, and their axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in grid[:, 0]:
        axes.tick_params(labelsize=7)
    return figure, list(grid[:, 0])


def head(axes: Any, *lines: str) -> None:
    """What a panel shows, above it."""
    axes.set_title("\n".join(lines), fontsize=7.5, loc="left")


def heads(panels: Sequence[Any], on: str, titles: Iterable[str]) -> None:
    """What each panel shows, by letters; above the first the data they are all of."""
    for i, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        head(axes, *([] if i else [on]), f"({'abc'[i]}) {title}")


def claimed(axes: Any, value: float, words: str) -> None:
    """A line at what the paper says."""
    axes.axhline(value, color=GREY, linewidth=0.8, dashes=(2, 2), label=f"paper: {words}")


def not_run(axes: Any) -> None:
    """Say that there is nothing to show in a panel."""
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, "not run", ha="center", va="center", color=GREY, transform=axes.transAxes)


def below(figure: Any, panels: Sequence[Any], across: int = 3) -> None:
    """One legend for all panels, under them, with every name once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        figure.legend(
            found.values(), found, loc="outside lower center", ncols=across, fontsize=7,
            columnspacing=1.2, handlelength=2.6,
        )  # fmt: skip


def room(lowest: float) -> tuple[float, float]:
    """Limits of an axis of rates that has `lowest` on it and as little as possible below."""
    bottom = next((b for b in _BOTTOMS if b <= lowest), 0.0)
    return bottom - 0.03 * (1 - bottom), 1 + 0.04 * (1 - bottom)


def nothing(figure_id: str) -> UsageError:
    """What to raise where there is not a single number to draw."""
    return UsageError(f"nothing to draw in {figure_id}: run nfbench reproduce {figure_id}")
