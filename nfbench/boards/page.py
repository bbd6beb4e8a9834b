"""A board as one HTML page."""

from __future__ import annotations

from nfbench.boards.evidence import Evidence
from nfbench.boards.standing import Judged


def page(judged: Judged, evidence: Evidence) -> str:
    """The whole file."""
    from nfbench.report.page import render

    return render(judged.shown, statistic=judged.board.statistic, trust=evidence.level)
