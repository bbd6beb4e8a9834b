"""What won: which objective, and which stage of an attack, found the best points."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from nfbench.report.cells import budget
from nfbench.report.run import Run

SHOWN = 3
"""Winners that are named."""


def section(run: Run) -> list[str]:
    """Lines of a leaderboard page; none if nobody who knows of a detector has found anything."""
    won: dict[tuple[str, ...], Counter[str]] = {}
    for cell in run.cells:
        if cell.adaptive and cell.winners:
            place = (cell.row, cell.attack.name, cell.threat_model.name, budget(cell))
            won.setdefault(place, Counter()).update(cell.winners)
    if not won:
        return []
    lines = [
        "## What won",
        "",
        "Share of the images misclassified at all whose best point was found by an objective, or by a",
        f"stage of an attack that has several; the first {SHOWN}, all seeds together.",
        "",
    ]
    body = [[*place, _shares(counts)] for place, counts in won.items()]
    head = ["defense", "attack", "threat model", "budget", "won"]
    return [*lines, tabulate(body, head, tablefmt="github", disable_numparse=True), ""]


def _shares(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n / counts.total():.0%}" for name, n in counts.most_common(SHOWN))
