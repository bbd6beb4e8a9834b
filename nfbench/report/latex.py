"""Leaderboards as LaTeX tables with booktabs, one a threat model; every name is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nfbench.records import MARK
from nfbench.report.board import Entry, Table, best_per_column, number
from nfbench.report.leaderboard import FLAGGED, require_statistic
from nfbench.report.page.columns import parts_of
from nfbench.report.page.numbers import Number, auroc_of, sr5_of
from nfbench.report.run import Run
from nfbench.report.settled import settled

WIDE = 8
"""Columns of a table; one with more is split, budget by budget."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "ε": r"$\varepsilon$",
    "\u2060": "{}",  # between hyphens, which would be drawn as one dash
    "–": "--",
    "†": r"\dag{}",
    MARK: r"$^\star$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*\"'"},
}
"""Brackets, stars and quotes stand in braces, so that none is read as an option or a shorthand."""


def latex(run: Run, statistic: str = "auroc_worst") -> str:
    """A table for each threat model: SR@5 % and AUROC, with intervals where they are known.

    Raises:
        UsageError: for a statistic that there is not.
    """
    require_statistic(statistic)
    head = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    return head + "\n".join(
        _table(table, columns, statistic)
        for table in settled(run, statistic)
        for columns in _readable(table)
    )


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands; control characters are dropped."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
    return "".join(_SPECIAL.get(sign, sign) for sign in re.sub("-(?=-)", "-\u2060", plain))


def _readable(table: Table) -> list[list[int]]:
    """Positions of the columns that stand together."""
    everything = list(range(len(table.columns)))
    if len(everything) <= WIDE:
        return [everything]
    balls = [parts_of(column)[1] for column in table.columns]
    return [[i for i in everything if balls[i] == ball] for ball in dict.fromkeys(balls)]


def _table(table: Table, columns: Sequence[int], statistic: str) -> str:
    best = best_per_column(table)
    lines = []
    for defense, entries in table.rows.items():
        shown = [_entry(entries[i], best=defense in best[i]) for i in columns]
        facts = [escaped(fact) for fact in table.facts[defense]]
        lines.append(" & ".join([escaped(defense), *facts, *shown]) + r" \\")
    head = ["defense", "clean acc.", "false alarms", *(table.columns[i] for i in columns)]
    caption = (
        f"{escaped(table.threat_model)}: SR@5\\,\\% and, in brackets, \\texttt{{{escaped(statistic)}}}. "
        f"{escaped(MARK)}: {FLAGGED}."
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{caption}}}",
            r"\resizebox{\linewidth}{!}{%",
            f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(escaped, head)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _entry(entry: Entry, *, best: bool) -> str:
    if entry.note:
        return escaped(entry.note)
    rate = _number(sr5_of(entry))
    rate = f"\\textbf{{{rate}}}" if best else rate
    auroc = auroc_of(entry)
    below = "" if auroc.value is None else f" ({_number(auroc)})"
    return rate + below + escaped(MARK) * entry.flagged


def _number(found: Number) -> str:
    """The value, behind the sign of a bound, and its interval in small."""
    if found.low is None and found.high is None:
        return escaped(found.text)
    limits = f"{number(found.low)}, {number(found.high)}"
    return f"{escaped(found.text)} {{\\scriptsize{{}}{{[}}{escaped(limits)}{{]}}}}"
