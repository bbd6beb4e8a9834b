"""A board as a Markdown page, for people who read it on a code host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nfbench.boards.evidence import Evidence
from nfbench.boards.standing import Judged
from nfbench.report import leaderboard
from nfbench.report.escaping import code, escaped, names_of, text

LEVELS = {
    "self-reported": "nobody but their maker has checked the numbers",
    "re-scored": "the stored adversarial images were scored again, and all numbers computed from that",
    "re-run": "a random share of the cells was repeated from nothing as well",
}
"""What each level of trust means."""


MARKED = (
    "shown and not ranked, since the attack is weaker than it should be, or the cell is limited or older"
)
"""What the mark beside a number means on a board."""


def markdown(judged: Judged, evidence: Evidence) -> str:
    """The whole page."""
    info = escaped(judged.shown).info
    lines = [f"# {info['title']}", "", " ".join(info.get("summary", ())), ""]
    lines += _standing(judged) + _trust(evidence)
    lines += leaderboard.body(judged.shown, judged.board.statistic, MARKED)
    lines += _breaks(evidence) + _provenance(judged)
    return "\n".join(lines).rstrip() + "\n"


def _standing(judged: Judged) -> list[str]:
    """How many cells are ranked, and why the others are not."""
    counts = Counter(judged.standing(cell) for cell in judged.stored.cells)
    ranked, total = counts.pop("ranked", 0), counts.total()
    told = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    lines = [f"{ranked} of {total + ranked} cells are ranked" + (f"; {told}." if told else ".")]
    if counts["limited"]:
        lines += ["*Limited*: fewer images than the board asks for, or a row that lacks a part of it."]
    if counts["older"]:
        lines += ["*Older*: made with other data than the board's, or under an older schema."]
    if total:
        lines += ["They are shown and never ranked, nor is a worst case that rests on them."]
    return [*lines, ""]


def _trust(evidence: Evidence) -> list[str]:
    lines = [f"Trust: **{evidence.level}**, {LEVELS[evidence.level]}. {evidence.checked}".rstrip()]
    return [*lines, *(text(note) for note in evidence.notes), ""]


def _breaks(evidence: Evidence) -> list[str]:
    """The history of rows that strangers have lowered."""
    if not evidence.breaks:
        return []
    told = [f"- {text(one.note)}" for one in evidence.breaks]
    return ["## Broken since", "", *told, ""]


def _provenance(judged: Judged) -> list[str]:
    """Where the numbers come from; the same for the same files, so without a date."""
    info = judged.stored.info
    environment: Mapping[str, Any] = info.get("environment", {})
    versions = {"nfbench": environment.get("nfbench"), "Python": environment.get("python")}
    versions |= dict(sorted(environment.get("packages", {}).items()))
    revision = str(environment.get("git_commit") or "")
    changed = ", with changes that were not committed" * bool(environment.get("git_dirty"))
    lines = ["## Provenance", ""]
    if info.get("command"):
        lines += ["```sh", *code(str(info["command"])).splitlines(), "```", ""]
    lines += [f"- data: SHA-256 `{code(judged.terms.data_sha256)}`"] * bool(judged.terms.data_sha256)
    lines += [f"- plan: `{code(str(info['plan']))}`"] if "plan" in info else []
    shown = ", ".join(f"{text(name)} {text(str(v))}" for name, v in versions.items() if v)
    lines += [f"- versions: {shown}"] * bool(shown)
    lines += [f"- device: {names_of(environment, 'device')}"] * bool(environment.get("device"))
    lines += [f"- revision: `{code(revision)}`{changed}"] * bool(revision)
    name = judged.board.name
    lines += [
        f"- files: [{name}.toml]({name}.toml), [{name}.csv]({name}.csv) with every metric,",
        f"  [{name}.json]({name}.json), [{name}.html]({name}.html);",
        f"  `nfbench leaderboard check {name}` says whether they agree with the results.",
    ]
    return [*lines, ""]
