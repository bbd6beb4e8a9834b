"""Figure 3 of the NeuralFP paper and figures 2 and 3 of the EPFL reproduction: two Gaussian balls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.panels import BLUE, RED, WIDTH, head, stacked, told

Array = NDArray[Any]

_CLASSES = ((BLUE, "o", "class at (−3, −3)"), (RED, "s", "class at (3, 3)"))
_FILL = ("#cbe3f2", "#f8dac6")
_ARROW = "#d60000"
_SHOWN = 80
"""Points of each ball that are drawn."""
_LEVELS = 8
"""Of the contours of the loss, at most."""
_ACCEPTED = "accepts 95 % of the balls"
_CHANCES = (0.0, 0.02, 0.2, 0.5, 0.8, 0.98, 1.0)
_SHADES = ("#56a3d3", "#8fc3e4", "#d3e8f4", "#fbe3d2", "#f2ac7b", "#df7b35")


def three_panels(sources: Sources) -> Drawing:
    """Figure 3: decisions without and with fingerprints, their directions, and the loss, low = dark."""
    from matplotlib.figure import Figure

    view = _View(sources)
    figure = Figure(figsize=(WIDTH, 5.0), layout="compressed")
    axes: dict[str, Any] = figure.subplot_mosaic(
        [["without", "with"], ["loss", "loss"]], gridspec_kw={"height_ratios": (1, 1.7)}
    )
    for name, decision, title in (
        ("without", "decision_plain", "(a) no fingerprints"),
        ("with", "decision", "(b) with fingerprints"),
    ):
        view.frame(axes[name])
        view.sides(axes[name], decision)
        view.points(axes[name], size=2)
        head(axes[name], title)
    axes["with"].set_yticklabels([])
    view.arrows(axes["with"])
    view.loss(figure, axes["loss"], "viridis")
    head(axes["loss"], "(c) fingerprint loss, dark = real")
    _legend(figure, axes["loss"], arrows=True, accepted=True)
    return Drawing(figure, view.data("decision_plain", "decision", "loss"))


def regions(sources: Sources) -> Drawing:
    """EPFL's figure 2: decision regions with fingerprints, by the probability of the second class."""
    view = _View(sources)
    figure, (axes,) = stacked((3.0,))
    view.frame(axes)
    with np.errstate(over="ignore"):
        chance = 1 / (1 + np.exp(-view.arrays["decision"].astype(float)))
    shown = axes.contourf(view.axis, view.axis, chance, _CHANCES, colors=_SHADES)
    axes.contour(view.axis, view.axis, chance, (0.5,), colors="black", linewidths=1.2)
    view.points(axes, size=6, edgecolor="white", linewidth=0.3)
    _bar(figure, axes, shown, _CHANCES, "probability of the class at (3, 3)")
    head(axes, "decision regions with fingerprints")
    _legend(figure, axes)
    return Drawing(figure, view.data("decision"))


def loss(sources: Sources) -> Drawing:
    """EPFL's figure 3: the fingerprint loss, where dark is fake."""
    view = _View(sources)
    figure, (axes,) = stacked((3.0,))
    view.loss(figure, axes, "viridis_r")
    auroc = view.made.values[f"auroc_{view.size:g}"]
    head(axes, "fingerprint loss, dark = fake", f"AUROC over seeds {told(auroc)}")
    _legend(figure, axes, accepted=True)
    return Drawing(figure, view.data("loss"))


class _View:
    """What the study found with the first seed and the last size."""

    def __init__(self, sources: Sources) -> None:
        self.made = sources.study("gaussian-balls")
        self.arrays = self.made.arrays
        self.axis: Array = self.arrays["axis"]
        self.size = float(self.arrays["sizes"][-1])

    def frame(self, axes: Any) -> None:
        reach = float(self.axis[-1])
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set_xticks((-6, 0, 6))
        axes.set_yticks((-6, 0, 6))
        axes.tick_params(labelsize=7)
        axes.spines[:].set_visible(True)

    def sides(self, axes: Any, name: str) -> None:
        """Which class is decided for where, and the boundary."""
        decision = self.arrays[name]
        axes.contourf(self.axis, self.axis, decision, (-np.inf, 0, np.inf), colors=_FILL)
        axes.contour(self.axis, self.axis, decision, (0,), colors="black", linewidths=1.2)

    def points(self, axes: Any, size: float, **look: Any) -> None:
        for label, (color, marker, name) in enumerate(_CLASSES):
            own = self.arrays["points"][self.arrays["labels"] == label][:_SHOWN]
            axes.scatter(
                *own.T, s=size, marker=marker, color=color, label=name, **{"linewidth": 0, **look}
            )

    def arrows(self, axes: Any) -> None:
        """The directions, each with its length, from the middle."""
        for to in self.arrays["directions"]:
            arrow = {"arrowstyle": "-|>", "color": _ARROW, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", to, (0, 0), zorder=5, arrowprops=arrow | {"mutation_scale": 6})

    def loss(self, figure: Any, axes: Any, colours: str) -> None:
        """Contours of min_j D_j, and what the threshold accepts."""
        from matplotlib.ticker import MaxNLocator

        self.frame(axes)
        found = self.arrays["loss"]
        levels = np.round(MaxNLocator(_LEVELS).tick_values(0, float(found.max())), 6)
        shown = axes.contourf(self.axis, self.axis, found, levels, cmap=colours)
        self.points(axes, size=6, edgecolor="white", linewidth=0.3)
        tau = float(self.arrays["threshold"])
        axes.contour(
            self.axis, self.axis, found, (tau,), colors="black", linewidths=1.2, linestyles="dashed"
        )
        _bar(figure, axes, shown, levels, "min$_j$ D$_j$")

    def data(self, *names: str) -> dict[str, Any]:
        shown = ("points", "labels", "directions", "sizes", "threshold", "axis", *names)
        return {name: self.arrays[name] for name in shown}


def _bar(figure: Any, axes: Any, shown: Any, ticks: Sequence[float] | Array, label: str) -> None:
    bar = figure.colorbar(shown, ax=axes, shrink=0.85, spacing="uniform", ticks=ticks)
    bar.set_ticklabels([f"{tick:g}" for tick in ticks], fontsize=7)
    bar.set_label(label, fontsize=7.5, parse_math=True)


def _legend(figure: Any, axes: Any, *, arrows: bool = False, accepted: bool = False) -> None:
    """What the marks are, under the panels."""
    handles, names = axes.get_legend_handles_labels()
    if arrows:
        handles += axes.plot([], [], color=_ARROW, linewidth=1.0, marker=">", markersize=3)
        names.append("direction Δx")
    if accepted:
        handles += axes.plot([], [], color="black", linewidth=1.2, linestyle="--")
        names.append(_ACCEPTED)
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=2,
        fontsize=7,
        columnspacing=1.2,
        markerscale=1.5,
    )
