"""The value of secrecy: how a defense holds up as attackers come to know more of it."""

from __future__ import annotations

from tabulate import tabulate

from nfbench.records import CellRecord
from nfbench.report.board import balls_of, grouped, worst
from nfbench.report.cells import budget
from nfbench.report.escaping import text
from nfbench.report.run import Run

LADDER = ("blackbox", "partial-whitebox", "limited-knowledge", "adaptive-whitebox")
"""Threat models by what the attacker knows, least first."""
QUERIES = ("score-queries", "decision-queries")
"""Those who know nothing and may ask; beside the ladder, not on it."""


def section(run: Run) -> list[str]:
    """Lines of a leaderboard page; none unless two rungs of the ladder can be compared."""
    body: list[str] = []
    within = grouped(run.cells, budget)
    for ball in balls_of(run.cells):
        body += _table(run, within[ball], ball)
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
    for row, own in grouped(cells, lambda c: c.row).items():
        under = grouped(own, lambda c: c.threat_model.name)
        rows.append([text(row), *(worst(run, under.get(name, [])).text for name in columns)])
    shown = tabulate(rows, ["defense", *columns], tablefmt="github", disable_numparse=True)
    return [f"### {ball}", "", shown, ""]
