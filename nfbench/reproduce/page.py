"""`leaderboards/claims.md`: every claim of the papers, its verdict, and the command that made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tabulate import tabulate

from nfbench.records import Value
from nfbench.reproduce.concluding import Row
from nfbench.reproduce.judging import WORDS
from nfbench.reproduce.paper import Claim

HEAD = ("claim", "ours", "paper", "Δ", "95 % of Δ", "verdict")
_SIGNS = {"confirmed": "✓", "contradicted": "✗", "inconclusive": "?", "not tested": "–"}

_HOW = """Rendered by `nfbench claims` from the runs in [claims/](claims); nobody writes a number or a
verdict in by hand. The command under a claim makes its run again; `DIR` is where the data
lie, as for `nfbench run`.

- **ours**, **paper** in percent, or as they stand where they are no rates; **Δ** is ours less the
  paper's; its interval holds the error of both, the paper's from the images that it says it used.
- A number is *confirmed* if the whole interval of Δ lies within the margin, *contradicted* if it
  lies outside, else *inconclusive*. A sentence with a bound (≥, ≤) is *confirmed* if every interval
  of ours keeps it, *contradicted* if one lies beyond it. With one seed the interval is over images,
  of that one classifier; with several over seeds too.
- A row that has a number of a table has that cell's norm, bound, statistic and attacker. A row that
  tests a sentence by an attack, a bound or a statistic of ours says so; our bounds stand in the
  papers' column. That a defense fails against a stronger attack says nothing of the rows of a
  weaker one, nor of attackers who know less. Success of our own attack can refute; its failure is
  *not refuted*, at most.
- *Not tested* where the data, the time or the paper's own text do not allow it, and where the
  classifier is far from the paper's accuracy: a worse network says nothing of a better one."""


def number(value: float | None, claim: Claim) -> str:
    """As the papers print it: rates and AUROC in percent."""
    if value is None:
        return "–"
    return f"{value:.3g}" if claim.kind == "mean" else f"{100 * value:.2f}"


def interval(value: Value | None, claim: Claim) -> str:
    """The ends of an interval, or a dash."""
    if value is None or value.low is None or value.high is None:
        return "–"
    return f"[{number(value.low, claim)}, {number(value.high, claim)}]"


def reported(claim: Claim) -> str:
    """The paper's number, or the bound of its sentence."""
    sign = {"equals": "", "at-least": "≥ ", "at-most": "≤ ", "spread-at-most": "≤ "}[claim.test]
    return sign + number(claim.value, claim)


def cells(row: Row) -> list[str]:
    """A row of a table, under `HEAD` but for the claim itself."""
    verdict, claim = row.verdict, row.claim
    return [
        number(verdict.ours.value if verdict.ours else None, claim),
        reported(claim),
        number(verdict.difference.value if verdict.difference else None, claim),
        interval(verdict.difference, claim),
        f"{verdict.word}: {verdict.why}" if verdict.why else verdict.word,
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The whole page."""
    lines = ["# What the papers claim, and what came of it", ""]
    lines += _introduction(rows)
    for _, of_paper in groupby(rows, key=lambda row: row.paper.id):
        lines += _paper(list(of_paper))
    return "\n".join(lines).rstrip() + "\n"


def _introduction(rows: Sequence[Row]) -> list[str]:
    counts = Counter(row.verdict.word for row in rows)
    summary = ", ".join(f"{counts[word]} {word}" for word in WORDS)
    return [f"{len(rows)} claims: {summary}.", "", _HOW, ""]


def _paper(rows: Sequence[Row]) -> list[str]:
    paper = rows[0].paper
    lines = [f"## [{paper.title}]({paper.url})", ""]
    lines += [f"Margin {number_of(paper.margin)} points: {paper.margin_because}.", ""]
    order = list(dict.fromkeys(_place(row.claim) for row in rows))
    for place in order:
        here = [row for row in rows if _place(row.claim) == place]
        lines += [f"### {place}", "", *_table(here), *_below(here), ""]
    return lines


def number_of(rate: float) -> str:
    """A rate in points."""
    return f"{100 * rate:g}"


def _place(claim: Claim) -> str:
    return claim.where.partition(",")[0]


def _table(rows: Sequence[Row]) -> list[str]:
    body = []
    for row in rows:
        ours, theirs, gap, span, verdict = cells(row)
        said = f"{row.claim.says}<br>`{row.command or row.claim.id}`"
        marked = f"{_SIGNS[row.verdict.word]} {verdict}{_of(row)}"
        body.append([said, row.scale or "–", ours, theirs, gap, span, marked])
    head = ["claim", "scale", "ours", "paper", "Δ", "95 % of Δ", "verdict"]
    return [tabulate(body, head, tablefmt="github", disable_numparse=True), ""]


def _of(row: Row) -> str:
    """What our number is of."""
    statistic, label = row.claim.statistic or row.claim.measure, row.verdict.label
    if row.verdict.ours is None or not label:
        return ""
    return f"<br>`{statistic}`" + (f" of {label}" if label != statistic else "")


def _below(rows: Sequence[Row]) -> list[str]:
    """What sizes a table's rows have, and what must be known of them."""
    sizes = dict.fromkeys(line for row in rows for line in _sizes(row))
    lines = [f"- {line}" for line in sizes]
    for note in dict.fromkeys(row.claim.note for row in rows if row.claim.note):
        ids = [row.claim.id for row in rows if row.claim.note == note]
        several = "" if len(ids) == len(rows) else f" (`{ids[0]}`{', …' * (len(ids) > 1)})"
        lines.append(f"- {note[0].upper()}{note[1:]}.{several}")
    return lines


def _sizes(row: Row) -> list[str]:
    lines = []
    for name, values in row.sizes.items():
        said = ", ".join(f"{key} {_text(value)}" for key, value in values.items())
        lines.append(f"`{name}`, {row.scale}: {said} (source {row.origin})")
    return lines


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
