"""The leaderboard page: every table of a run, and what the numbers in it mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tabulate import tabulate

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.records import MARK
from nfbench.report import alarms, secrecy, winners
from nfbench.report.board import UNDEFENDED, Table, balls_of, best_per_column, tables
from nfbench.report.cells import TURNABLE, budget
from nfbench.report.escaping import code, escaped
from nfbench.report.run import Run

STATISTICS = {
    "auroc_worst": "AUROC of each image's lowest score while misclassified; failures are infinite",
    "auroc_returned": "AUROC of the images the attack returned (the papers' static protocol)",
    "auroc_successes": "AUROC of the misclassified images only (the papers' adaptive protocol)",
    "auroc_noisy": "as `auroc_returned`, with equally noisy images among the negatives, as many",
    "papers": "the papers' protocol: auroc_returned, or auroc_successes for adaptive attacks",
}
WIDE = 4
"""Attacks and balls side by side in a table; one with more is split, ball by ball."""
NAMED = 4
"""Cells named where many share a reason."""
FLAGGED = "the attack is weaker than it should be, so the number is shown but not ranked"
"""What the mark beside a number means."""
STRONGEST = (
    "Worst cases here are the strongest single attack: who cannot ask the victim's detector cannot\n"
    "choose among results image by image."
)


def require_statistic(name: str) -> None:
    """Refuse a statistic that there is not.

    Raises:
        UsageError: naming the nearest one.
    """
    if name not in STATISTICS:
        hint = did_you_mean(name, STATISTICS) or f" (there are: {', '.join(STATISTICS)})"
        raise UsageError(f"unknown statistic {name!r}{hint}")


def markdown(run: Run, statistic: str = "auroc_worst") -> str:
    """The whole page: a table for each threat model, and what the numbers mean."""
    run = escaped(run)
    lines = [f"# {run.info['title']}", "", " ".join(run.info["summary"]), ""]
    return "\n".join(lines + body(run, statistic)).rstrip() + "\n"


def body(run: Run, statistic: str) -> list[str]:
    """Lines of a page below its title; of a run whose names are escaped."""
    lines = _legend(run, statistic)
    for name in dict.fromkeys(cell.threat_model.name for cell in run.cells):
        lines += _threat_model(run, name, statistic)
    lines += [part for note in footnotes(run) for part in (note, "")]
    lines += secrecy.section(run) + winners.section(run) + alarms.section(run)
    return lines + _flagged(run) + _reasons(run)


def _legend(run: Run, statistic: str) -> list[str]:
    """What the numbers mean."""
    lines = [f"Each cell: `{statistic}` / SR@5 %.", "", f"- `{statistic}`: {STATISTICS[statistic]}."]
    lines += ["- SR@5 %: share of the attacked images that are misclassified *and* accepted, at the"]
    lines += [
        "  threshold that rejects 5 % of held-out clean images. Low is good for the defense; the best"
    ]
    lines += [f"  of a column is bold. In the row {UNDEFENDED} it is the error of a classifier trained"]
    lines += ["  without the defense, under the same attack and bound."]
    if statistic in (*TURNABLE, "papers"):
        lines += ["- In brackets: the AUROC of a defender who knew which way round the score goes."]
    if any(cell.flags for cell in run.cells):
        lines += [f"- {MARK}: {FLAGGED}; why is told below."]
    return [*lines, ""]


def _threat_model(run: Run, name: str, statistic: str) -> list[str]:
    """The tables of a threat model: one, or one a ball where that would be too wide to read."""
    cells = [cell for cell in run.cells if cell.threat_model.name == name]
    balls = balls_of(cells)
    lines = [f"## {name}", ""]
    if len({(cell.attack.name, budget(cell)) for cell in cells}) <= WIDE or len(balls) == 1:
        return lines + _tables(replace(run, cells=cells), statistic)
    for ball in balls:
        own = replace(run, cells=[cell for cell in cells if budget(cell) == ball])
        lines += [f"### {name}, {ball}", "", *_tables(own, statistic)]
    return lines


def _tables(run: Run, statistic: str) -> list[str]:
    lines = []
    for table in tables(run, statistic):
        lines += [_markdown_table(table), ""]
        if not table.chosen and any(column.startswith("worst") for column in table.columns):
            lines += [STRONGEST, ""]
    return lines


def _markdown_table(table: Table) -> str:
    head = ["defense", "clean acc.", "false alarms", *table.columns]
    best = best_per_column(table)
    rows = []
    for defense, entries in table.rows.items():
        shown = [f"**{e.text}**" if defense in b else e.text for e, b in zip(entries, best, strict=True)]
        rows.append([defense, *table.facts[defense], *shown])
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def footnotes(run: Run) -> list[str]:
    """Why numbers of some rows overstate what the defense could do."""
    caveats = dict.fromkeys((c.row, c.caveat) for c in run.cells if c.caveat)
    return [f"{row} {caveat}." for row, caveat in caveats]


def _flagged(run: Run) -> list[str]:
    """Why cells are flagged; a reason that many share is told once."""
    found = [(flag, c.cell) for c in run.cells for flag in c.flags]
    return ["## Flagged cells", "", *_together(found, ": "), ""] if found else []


def _reasons(run: Run) -> list[str]:
    found = [(f"{c.status}: {c.reason}", c.cell) for c in run.cells if not c.finished]
    return ["## Cells without a number", "", *_together(found, " "), ""] if found else []


def _together(told: Iterable[tuple[str, str]], between: str) -> list[str]:
    """One line a reason, with the cells it holds for; of many only how many and the first few."""
    cells: dict[str, list[str]] = {}
    for reason, cell in told:
        cells.setdefault(reason, []).append(f"`{code(cell)}`")
    lines = []
    for reason, names in cells.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"- {', '.join(names[:NAMED])}{more}{between}{reason}")
    return lines
