"""Figure 1 of the EPFL reproduction: both losses while a network is trained with either sign."""

from __future__ import annotations

from typing import Any

import numpy as np

from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.panels import BLUE, GREEN, GREY, below, head, stacked
from nfbench.reproduce.study import Made

_SIGNS = ("given", "negated")
_LINES = {"data": (BLUE, "-", "data loss"), "fingerprint": (GREEN, "--", "fingerprint loss")}
_DRAWN = 300
"""Steps of a line that are drawn, at most."""


def losses(sources: Sources) -> Drawing:
    """Data and fingerprint loss with the responses as given, and with their negative, of every seed."""
    made = sources.study("sign-stability")
    figure, panels = stacked((1.9, 1.9))
    steps = made.arrays["data_given"].shape[1]
    shown = np.unique(np.linspace(0, steps - 1, min(steps, _DRAWN)).round().astype(int))
    data: dict[str, Any] = {"step": shown + 1, "guess": made.arrays["guess"]}
    kept = "with batch normalisation" if made.arrays["batch_norm"] else "without batch normalisation"
    highest = max(float(made.arrays[f"{name}_{sign}"].max()) for name in _LINES for sign in _SIGNS)
    for i, (axes, sign) in enumerate(zip(panels, _SIGNS, strict=True)):
        data[sign] = _panel(axes, made, sign, shown)
        axes.set(ylim=(0, 1.04 * highest), xlim=(0, steps), ylabel="loss")
        on, off = made.arrays["targets"][i]
        ends = made.values[f"accuracy_{sign}"].value
        title = f"({'ab'[i]}) own class {_signed(on)}, others {_signed(off)}; accuracy {ends:.2f}"
        head(axes, *([] if i else [kept]), title)
    panels[-1].set_xlabel("training step")
    below(figure, panels)
    return Drawing(figure, data)


def _panel(axes: Any, made: Made, sign: str, shown: Any) -> dict[str, Any]:
    """Thin lines for the seeds, a thick one for their mean; and these as columns."""
    data: dict[str, Any] = {"targets": made.arrays["targets"][_SIGNS.index(sign)]}
    for name, (color, dashes, label) in _LINES.items():
        found = made.arrays[f"{name}_{sign}"][:, shown]
        for one in found:
            axes.plot(shown + 1, one, color=color, linewidth=0.5, alpha=0.6)
        axes.plot(shown + 1, found.mean(0), color=color, linestyle=dashes, linewidth=1.6, label=label)
        data[name] = found
    guess = float(made.arrays["guess"])
    axes.axhline(guess, color=GREY, linewidth=0.8, dashes=(2, 2), label="data loss of a guess")
    return data


def _signed(number: float) -> str:
    return f"{number:+g}".replace("-", "−")
