"""How often each defense cries wolf: false alarms on harmless changes and on noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tabulate import tabulate

from nfbench.records import CellRecord
from nfbench.report.cells import BENIGN
from nfbench.report.run import Run

NAMES = {
    "noise": "noise 0.02",
    "brightness": "brightness × 0.9",
    "jpeg": "JPEG 90",
    "shift": "1-pixel shift",
    "8bit": "8-bit rounding",
}
"""Harmless changes, for people."""
ATTACK_SIZED = "fpr_on_attack_sized_noise_at_5"
"""The false alarms that depend on the attack: on noise as large as its perturbations."""


def section(run: Run) -> list[str]:
    """Lines of a leaderboard page; none if no cell is done."""
    done = [cell for cell in run.cells if cell.finished]
    rows = list(dict.fromkeys(cell.row for cell in done))
    body, costly = [], False
    for row in rows:
        own = [cell for cell in done if cell.row == row]
        found = [_rate(own, "fpr_realised_at_5")] + [
            _rate(own, f"fpr_on_{name}_at_5") for name in BENIGN
        ]
        costly |= any("*" in text for text in found)
        body.append([row, *found, _largest(own)])
    if not body:
        return []
    head = ["defense", "clean", *(NAMES[name] for name in BENIGN), "attack-sized noise"]
    lines = [
        "## False alarms",
        "",
        "Share rejected at the threshold that rejects 5 % of held-out clean images. Harmless changes",
        "of the test images and, under the attack where it is worst, noise as large as the attack's",
        "perturbations; of both, only images that are still classified correctly.",
    ]
    if costly:
        lines += ["`*`: costs more than a point of accuracy here, so it is not harmless."]
    return [*lines, "", tabulate(body, head, tablefmt="github", disable_numparse=True), ""]


def _rate(cells: Sequence[CellRecord], metric: str) -> str:
    values = [c.metrics[metric] for c in cells if metric in c.metrics]
    known = [v.value for v in values if v.value is not None]
    if not known:
        return "–"
    return f"{fmean(known):.3f}" + "*" * any(v.flag for v in values)


def _largest(cells: Sequence[CellRecord]) -> str:
    known = [
        (value, c.attack.name) for c in cells if (value := c.metrics[ATTACK_SIZED].value) is not None
    ]
    return "{:.3f} ({})".format(*max(known)) if known else "–"
