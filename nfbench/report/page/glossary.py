"""What the numbers of a page mean, in a sentence each."""

from __future__ import annotations

from nfbench.records import MARK
from nfbench.report.evidence import LEVELS
from nfbench.report.leaderboard import FLAGGED, STATISTICS
from nfbench.report.page.markup import Html, el
from nfbench.report.page.words import TERMS, THREATS
from nfbench.report.run import Run


def glossary(run: Run, statistic: str) -> Html:
    """Terms, the threat models of the run, and the signs."""
    terms = {**TERMS, "AUROC": f"{statistic}: {STATISTICS[statistic]}. Never compare two of its kinds."}
    for name in dict.fromkeys(c.threat_model.name for c in run.cells):
        if name in THREATS:
            terms[name] = f"The attacker {THREATS[name]}."
    if any(c.flags for c in run.cells):
        terms[MARK] = f"{FLAGGED[0].upper()}{FLAGGED[1:]}."
    for row, caveat in dict.fromkeys((c.row, c.caveat) for c in run.cells if c.caveat):
        terms[row] = f"{caveat}."
    terms |= {name: f"{text[0].upper()}{text[1:]}." for name, text in LEVELS.items()}
    return el("dl", *(part for item in terms.items() for part in _term(*item)), class_="glossary")


def _term(name: str, text: str) -> tuple[Html, Html]:
    return el("dt", name), el("dd", text)
