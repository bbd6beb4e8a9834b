"""The value of secrecy: how a defense holds up as attackers come to know more of it."""

from __future__ import annotations

from tabulate import tabulate

from nfbench.records import CellRecord
from nfbench.report.board import balls_of, worst
from nfbench.report.cells import budget
from nfbench.report.run import Run

LADDER = ("blackbox", "partial-whitebox", "limited-knowledge", "adaptive-whitebox")
"""Threat models by what the attacker knows, least first."""
QUERIES = ("score-queries", "decision-queries")
"""Those who know nothing and may ask; beside the ladder, not on it."""


def section(run: Run) -> list[str]:
    """Lines of a leaderboard page; none unless two rungs of the ladder can be compared."""
    body: list[str] = []
    for ball in balls_of(run.cells):
        body += _table(run, [c for c in run.cells if budget(c) == ball], ball)
    if not body:
        return []
    lines = [
        "## Value of secrecy",
        "",
        "`auroc_worst` / SR@5 % of the worst case over attacks, from the attacker who knows least to",
        "the one who knows all; the same statistic under each. Where he cannot ask the victim's",
        "detector, under `blackbox`, `partial-whitebox` and `limited-knowledge`, it is the strongest",
        "single attack, since nobody could choose image by image.",
        "",
    ]
    return lines + body


def _table(run: Run, cells: list[CellRecord], ball: str) -> list[str]:
    """At one budget."""
    there = {c.threat_model.name for c in cells if c.finished}
    rungs = [name for name in LADDER if name in there]
    if len(rungs) < 2:
        return []
    columns = rungs + [name for name in QUERIES if name in there]
    rows = []
    for row in dict.fromkeys(c.row for c in cells):
        own = [[c for c in cells if (c.row, c.threat_model.name) == (row, name)] for name in columns]
        rows.append([row, *(worst(run, some).text for some in own)])
    shown = tabulate(rows, ["defense", *columns], tablefmt="github", disable_numparse=True)
    return [f"### {ball}", "", shown, ""]
