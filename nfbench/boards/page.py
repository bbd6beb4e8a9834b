"""A board as one HTML page."""

from __future__ import annotations

from nfbench.boards.standing import Judged
from nfbench.report.evidence import Evidence


def page(judged: Judged, evidence: Evidence) -> str:
    """The whole file."""
    from nfbench.report.page import render

    return render(judged.shown, statistic=judged.board.statistic, evidence=evidence)
