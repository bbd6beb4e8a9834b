"""The leaderboard page: every table of a run, and what the numbers in it mean."""

from __future__ import annotations

from tabulate import tabulate

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.records import MARK
from nfbench.report import alarms, secrecy, winners
from nfbench.report.board import UNDEFENDED, Table, best_per_column, tables
from nfbench.report.cells import TURNABLE
from nfbench.report.run import Run

STATISTICS = {
    "auroc_worst": "AUROC of each image's lowest score while misclassified; failures are infinite",
    "auroc_returned": "AUROC of the images the attack returned (the papers' static protocol)",
    "auroc_successes": "AUROC of the misclassified images only (the papers' adaptive protocol)",
    "auroc_noisy": "as `auroc_returned`, with equally noisy images among the negatives, as many",
    "papers": "the papers' protocol: auroc_returned, or auroc_successes for adaptive attacks",
}


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
    info = run.info
    lines = [f"# {info['title']}", "", " ".join(info["summary"]), ""]
    lines += [f"Each cell: `{statistic}` / SR@5 %.", "", f"- `{statistic}`: {STATISTICS[statistic]}."]
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
    lines += [""]
    for table in tables(run, statistic):
        lines += [f"## {table.threat_model}", "", _markdown_table(table), ""]
        if not table.chosen and any(column.startswith("worst") for column in table.columns):
            lines += [STRONGEST, ""]
    lines += [part for note in footnotes(run) for part in (note, "")]
    lines += secrecy.section(run) + winners.section(run) + alarms.section(run)
    lines += _flagged(run) + _reasons(run)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> str:
    head = ["defense", "clean acc.", "false alarms", *table.columns]
    best = best_per_column(table)
    body = []
    for defense, entries in table.rows.items():
        shown = [f"**{e.text}**" if defense in b else e.text for e, b in zip(entries, best, strict=True)]
        body.append([defense, *table.facts[defense], *shown])
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def footnotes(run: Run) -> list[str]:
    """Why numbers of some rows overstate what the defense could do."""
    caveats = dict.fromkeys((c.row, c.caveat) for c in run.cells if c.caveat)
    return [f"{row} {caveat}." for row, caveat in caveats]


def _flagged(run: Run) -> list[str]:
    suspicious = [c for c in run.cells if c.flags]
    if not suspicious:
        return []
    told = [f"- `{c.cell}`: {flag}" for c in suspicious for flag in c.flags]
    return ["## Flagged cells", "", *told, ""]


def _reasons(run: Run) -> list[str]:
    troubled = [c for c in run.cells if not c.finished]
    if not troubled:
        return []
    lines = ["## Cells without a number", ""]
    return lines + [f"- `{c.cell}` {c.status}: {c.reason}" for c in troubled]
