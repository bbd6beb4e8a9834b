"""How far results can be trusted: what others have checked of them, and what they have broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nfbench.report.escaping import text

if TYPE_CHECKING:
    from nfbench.trust.breaks import Break

SELF_REPORTED = "self-reported"
"""Level of results that nobody else has checked."""
LEVELS = {
    SELF_REPORTED: "nobody but their maker has checked the numbers",
    "re-scored": "the stored adversarial images were scored again, and all numbers computed from that",
    "re-run": "a random share of the cells was repeated from nothing as well",
}
"""What each level of trust means."""


@dataclass(frozen=True)
class Evidence:
    """What is known of results besides themselves."""

    level: str = SELF_REPORTED
    checked: str = ""
    """What the level rests on, a sentence."""
    notes: Sequence[str] = ()
    """Of the verification, a line each."""
    breaks: Sequence[Break] = ()
    """Submissions that lowered a worst case, oldest first."""
    results_sha256: str = ""
    """Of the lines of the results, uncompressed."""

    @property
    def silent(self) -> bool:
        """Whether nobody but their maker has said anything of the results."""
        return self.level == SELF_REPORTED and not self.notes and not self.breaks

    @property
    def told(self) -> str:
        """The level and what it means, a sentence."""
        return f"{self.level}: {LEVELS[self.level]}" if self.level in LEVELS else self.level


NOTHING = Evidence()
"""Of results as their maker left them."""


def trusted(evidence: Evidence) -> list[str]:
    """Lines of a Markdown page: the level, what it rests on, and the notes."""
    level = evidence.level
    lines = [f"Trust: **{text(level)}**, {LEVELS.get(level, 'unknown')}. {evidence.checked}".rstrip()]
    return [*lines, *(text(note) for note in evidence.notes), ""]


def broken(evidence: Evidence) -> list[str]:
    """Lines of a Markdown page: the history of rows that strangers have lowered."""
    if not evidence.breaks:
        return []
    told = [f"- {text(one.note)}" for one in evidence.breaks]
    return ["## Broken since", "", *told, ""]
