"""Further than the papers: one network under attackers who know more and try harder."""

from __future__ import annotations

from typing import Any

from nfbench.records import MARK, Value
from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.panels import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Runs,
    called,
    chosen,
    column,
    columns,
    data_of,
    head,
    nothing,
    pooled,
    stacked,
)

_KNOWS = {
    "partial-whitebox": ("does not know the detector", BLUE, "o"),
    "paper-adaptive": ("knows all, as the paper attacks", GREEN, "s"),
    "adaptive-whitebox": ("knows all, and tries harder", RED, "D"),
}
_ROW = 0.19
"""Inches for each attack."""


def evaded(sources: Sources) -> Drawing:
    """The share of images misclassified and accepted at 5 % false alarms, attack by attack."""
    names = ("mnist-static", "mnist-adaptive", "mnist-breaker")
    runs = [one for name in names for one in sources.runs(name)]
    rows = _rows(runs)
    if not rows:
        raise nothing("beyond")
    figure, (axes,) = stacked((_ROW * len(rows) + 1.0,))
    for place, row in enumerate(rows):
        _, colour, marker = _KNOWS[row["threat_model"]]
        low, high = row["low"], row["high"]
        if low is not None and high is not None:
            axes.plot((low, high), (place, place), color=colour, linewidth=1.2)
        label = _KNOWS[row["threat_model"]][0]
        first = row["threat_model"] not in [other["threat_model"] for other in rows[:place]]
        axes.plot(
            row["value"], place, marker, color=colour, markersize=4.5, linestyle="none",
            label=label if first else None,
        )  # fmt: skip
    axes.axvline(0.05, color=GREY, linewidth=0.8, dashes=(2, 2), label="false alarms allowed")
    axes.set_yticks(range(len(rows)), [f"{row['name']}{row['mark']}" for row in rows])
    axes.invert_yaxis()
    axes.set(xlim=(-0.03, 1.03), xlabel="misclassified and accepted (SR@5 %)")
    head(axes, f"NeuralFP on {data_of(runs, 'mnist')}, one network", _ball(rows))
    figure.legend(loc="outside lower center", fontsize=7, ncols=1)
    return Drawing(figure, columns(rows))


def _rows(runs: Runs) -> list[dict[str, Any]]:
    """One for each attacker and attack, who knows least first."""
    found: dict[tuple[str, str], list[Any]] = {}
    for threat in _KNOWS:
        for _, run in runs:
            for cell in chosen(run, (), (threat,)):
                found.setdefault((threat, cell.attack.name), []).append(cell)
    rows = []
    for (threat, attack), cells in found.items():
        value: Value = pooled(cells, "sr_at_5_fpr")
        if value.value is None:
            continue
        flagged = any(cell.flags for cell in cells)
        own = {"threat_model": threat, "attack": attack, "name": called(attack), "eps": cells[0].eps}
        rows.append({**own, **column(value), "norm": cells[0].norm, "mark": f" {MARK}" * flagged})
    return rows


def _ball(rows: list[dict[str, Any]]) -> str:
    bounds = sorted({row["eps"] for row in rows if row["norm"] == "linf" and row["eps"]})
    return f"L∞ ≤ {', '.join(f'{eps:g}' for eps in bounds)}; JSMA a tenth of the pixels, CW unbounded"
