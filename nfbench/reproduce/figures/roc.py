"""ROC curves of the images that attacks returned, as a panel of a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nfbench.records import Value
from nfbench.report.page.curves import detection_rates
from nfbench.report.page.places import Faced
from nfbench.report.run import Vectors
from nfbench.reproduce.figures import panels
from nfbench.reproduce.figures.panels import Attacked

NEEDED = ("index", "clean_score", "adversarial_score")
"""Vectors that a curve is made of."""
_UPTO, _STEPS = 0.4, 401
_NONE = np.empty(0)


def areas(found: Attacked) -> dict[str, Value]:
    """`auroc_returned` of each attack, with its 95 % interval, seeds together."""
    return {
        attack: panels.pooled([cell for cell, _ in cells], "auroc_returned")
        for attack, cells in found.items()
    }


def draw(axes: Any, found: Attacked, names: Mapping[str, str]) -> dict[str, Any]:
    """Draw each attack's curve, the mean over seeds, up to 40 % of false alarms as the paper does.

    Args:
        axes: the panel.
        found: by attack, the cells and vectors of one detector a seed.
        names: what the legend calls the attacks.

    Returns:
        Shares of clean images, and of each attack's images detected there, 401 of each; the areas.
    """
    at = np.linspace(0, _UPTO, _STEPS)
    shown: dict[str, Any] = {"false_alarms": at}
    for attack, cells in found.items():
        shown[attack] = detection_rates([_faced(own) for _, own in cells], at)
        look = panels.look(attack) | {"marker": None}
        axes.plot(at, shown[attack], drawstyle="steps-post", label=names[attack], **look)
    lowest = min(float(shown[name][_STEPS // 50]) for name in found)
    axes.set(xlabel="false alarms (share of clean images)", ylabel="detected (all returned)")
    axes.set(xlim=(0, _UPTO), ylim=panels.room(lowest))
    values = [{"attack": name, **panels.column(area)} for name, area in areas(found).items()]
    return {"curves": shown, "auroc_returned": panels.columns(values)}


def _faced(own: Vectors) -> Faced:
    """What `detection_rates` looks at: returned images are positives, misclassified or not."""
    return Faced(own["clean_score"], _NONE, own["adversarial_score"], np.nan, own["index"], _NONE, ())
