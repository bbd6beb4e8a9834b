"""The leaderboard page: every table of a run, and what the numbers in it mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.records import MARK
from nfbench.report import alarms, secrecy, winners
from nfbench.report.board import UNDEFENDED, Entry, Table, best_per_column, number
from nfbench.report.cells import TURNABLE
from nfbench.report.entries import CLIMBING
from nfbench.report.escaping import code, escaped, text
from nfbench.report.evidence import NOTHING, Evidence, broken, trusted
from nfbench.report.run import Run
from nfbench.report.settled import settled
from nfbench.stats.compare import Ranked

STATISTICS = {
    "auroc_worst": "AUROC of each image's lowest score while misclassified; failures are infinite",
    "auroc_returned": "AUROC of the images the attack returned (the papers' static protocol)",
    "auroc_successes": "AUROC of the misclassified images only (the papers' adaptive protocol)",
    "auroc_noisy": "as `auroc_returned`, with equally noisy images among the negatives, as many",
    "papers": "the papers' protocol: auroc_returned, or auroc_successes for adaptive attacks",
}
WIDE = 4
"""Attacks and balls side by side in a table; one with more is split, ball by ball."""
WORST = "worst "
"""How columns of worst cases begin."""
RANKS = [
    "- rank: how far a defense's place is known by SR@5 % of its worst cases, the mean over the",
    "  budgets that several attacks share. Defenses that share a letter can't be told apart: paired",
    "  over the same images, Holm's correction over all pairs. A row is not ranked if it rests on",
    "  cells that must not be, or lacks an attack or a seed which another row has.",
]
NAMED = 4
"""Cells named where many share a reason."""
LATER = "the second half of the attack's passes still moved SR@5 % by more than 2 points"
"""What the arrow beside a number means."""
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


def markdown(run: Run, statistic: str = "auroc_worst", evidence: Evidence = NOTHING) -> str:
    """The whole page: a table for each threat model, what the numbers mean, and what others found."""
    info = escaped(run).info
    lines = [f"# {info['title']}", "", " ".join(info["summary"]), ""]
    lines += [] if evidence.silent else trusted(evidence)
    return "\n".join(lines + body(run, statistic) + broken(evidence)).rstrip() + "\n"


def body(run: Run, statistic: str, mark: str = FLAGGED) -> list[str]:
    """Lines of a page below its title; `mark` is what a flag beside a number says."""
    found, shown = settled(run, statistic), escaped(run)
    lines = _legend(shown, found, statistic, mark)
    for table in found:
        lines += [f"## {text(table.threat_model)}", "", *_threat_model(table)]
    lines += [part for note in footnotes(shown) for part in (note, "")]
    lines += secrecy.section(run) + winners.section(shown) + alarms.section(shown)
    return lines + _flagged(shown) + _reasons(shown)


def _legend(run: Run, found: Sequence[Table], statistic: str, mark: str) -> list[str]:
    """What the numbers mean."""
    lines = [f"Each cell: `{statistic}` / SR@5 %.", "", f"- `{statistic}`: {STATISTICS[statistic]}."]
    lines += [
        "- SR@5 %: share of the attacked images that are misclassified *and* accepted, at the",
        "  threshold that rejects 5 % of held-out clean images. Low is good for the defense; bold are",
        "  the best of a column and all whose intervals reach down to it. In the row",
        f"  {UNDEFENDED} it is the error of a classifier trained without the defense, under the",
        "  same attack and bound.",
    ]
    entries = [entry for table in found for row in table.rows.values() for entry in row]
    if any(entry.bound and entry.auroc is not None for entry in entries):
        lines += ["- ≤ before an AUROC: an upper bound, since the attack stops early."]
    if any(entry.climbing for entry in entries):
        lines += [f"- {CLIMBING}: {LATER}; ranks take", "  it for lost as much again."]
    if any(entry.sr5_low is not None for entry in entries):
        lines += [
            "- Below the numbers: their 95 % intervals, over images and, of several seeds, over seeds."
        ]
    if any(table.ranks for table in found):
        lines += RANKS
    if statistic in (*TURNABLE, "papers"):
        lines += ["- In brackets: the AUROC of a defender who knew which way round the score goes."]
    if any(cell.flags for cell in run.cells):
        lines += [f"- {MARK}: {mark}; why is told below."]
    return [*lines, ""]


def _threat_model(table: Table) -> list[str]:
    """A table, or several where one would be too wide to read: the worst cases, then ball by ball."""
    each = [column for column in table.columns if not column.startswith(WORST)]
    worst = [column for column in table.columns if column.startswith(WORST)]
    if len(each) <= WIDE:
        lines = [_markdown_table(table, table.columns, facts=True), ""]
    else:
        lines = [_markdown_table(table, worst or each[-1:], facts=True), ""]
    if worst and not table.chosen:
        lines += [STRONGEST, ""]
    if len(each) > WIDE:
        for ball in dict.fromkeys(map(_ball, each)):
            columns = [column for column in each if _ball(column) == ball]
            lines += [f"### {text(table.threat_model)}, {ball}", ""]
            lines += [_markdown_table(table, columns, facts=False), ""]
    return lines


def _ball(column: str) -> str:
    """Of an attack's column: `linf ≤ 0.25`."""
    return column.rpartition(" (")[2].removesuffix(")")


def _markdown_table(table: Table, columns: Sequence[str], *, facts: bool) -> str:
    """The rows of a table in some of its columns, with rank, accuracy and false alarms if asked."""
    head = [*(["rank"] if table.ranks else []), "clean acc.", "false alarms"] if facts else []
    best = dict(zip(table.columns, best_per_column(table), strict=True))
    rows = []
    for defense, entries in table.rows.items():
        own = dict(zip(table.columns, entries, strict=True))
        rank = [_rank(table.ranks.get(defense))] if table.ranks else []
        shown = [_shown(own[column], best=defense in best[column]) for column in columns]
        rows.append([text(defense), *([*rank, *table.facts[defense]] if facts else []), *shown])
    shorter = [column if facts else column.rpartition(" (")[0] for column in columns]
    titles = ["defense", *head, *map(text, shorter)]
    return tabulate(rows, titles, tablefmt="github", disable_numparse=True)


def _rank(place: Ranked | None) -> str:
    """How far a row's place is known, and the letters it shares with those it can't be told from."""
    if place is None:
        return "–"
    low, high = place.rank_low, place.rank_high
    return f"{low}–{high} {place.letters}" if low < high else f"{low} {place.letters}"


def _shown(entry: Entry, *, best: bool) -> str:
    """The numbers, and on a line of their own the intervals."""
    numbers = f"**{entry.text}**" if best else entry.text
    pairs = ((entry.auroc_low, entry.auroc_high), (entry.sr5_low, entry.sr5_high))
    if entry.note or all(low is None for low, _ in pairs):
        return numbers
    spans = ("–" if low is None else f"{number(low)}–{number(high)}" for low, high in pairs)
    return f"{numbers}<br>{' / '.join(spans)}"


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
