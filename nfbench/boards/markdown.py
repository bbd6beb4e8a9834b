"""A board as a Markdown page, for people who read it on a code host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nfbench.boards.standing import Judged
from nfbench.report import leaderboard
from nfbench.report.escaping import code, escaped, names_of, text
from nfbench.report.evidence import Evidence, broken, trusted

MARKED = (
    "shown and not ranked, since the attack is weaker than it should be, or the cell is limited or older"
)
"""What the mark beside a number means on a board."""


def markdown(judged: Judged, evidence: Evidence) -> str:
    """The whole page."""
    info = escaped(judged.shown).info
    lines = [f"# {info['title']}", "", " ".join(info.get("summary", ())), ""]
    lines += _standing(judged) + trusted(evidence)
    lines += leaderboard.body(judged.shown, judged.board.statistic, MARKED)
    lines += broken(evidence) + _provenance(judged)
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
    origins = dict.fromkeys(text(one) for cell in judged.stored.cells for one in cell.origins)
    lines += [f"- artifacts made by: {', '.join(origins)}"] * bool(origins)
    name = judged.board.name
    lines += [
        f"- files: [{name}.toml]({name}.toml), [{name}.csv]({name}.csv) with every metric,",
        f"  [{name}.json]({name}.json), [{name}.html]({name}.html);",
        f"  `nfbench leaderboard check {name}` says whether they agree with the results.",
    ]
    return [*lines, ""]
