"""Leaderboards: one row a defense and one column an attack, for each threat model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tabulate import tabulate

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.records import INTERRUPTED, CellRecord
from nfbench.report import alarms
from nfbench.report.cells import TURNABLE, worst_case
from nfbench.report.run import Run

STATISTICS = {
    "auroc_worst": "AUROC of each image's lowest score while misclassified; failures are infinite",
    "auroc_returned": "AUROC of the images the attack returned (the papers' static protocol)",
    "auroc_successes": "AUROC of the misclassified images only (the papers' adaptive protocol)",
    "auroc_noisy": "as `auroc_returned`, with equally noisy images among the negatives, as many",
    "papers": "the papers' protocol: auroc_returned, or auroc_successes for adaptive attacks",
}


def require_statistic(name: str) -> None:
    """Refuse a statistic that there is not.

    Raises:
        UsageError: naming the nearest one.
    """
    if name not in STATISTICS:
        hint = did_you_mean(name, STATISTICS) or f" (there are: {', '.join(STATISTICS)})"
        raise UsageError(f"unknown statistic {name!r}{hint}")


@dataclass(frozen=True)
class Entry:
    """What one table cell shows: means over seeds, or why there is nothing."""

    auroc: float | None = None
    sr5: float | None = None
    note: str = ""
    turned: float | None = None
    """AUROC with the sign of the score chosen on the test images, where that is another value."""

    @property
    def text(self) -> str:
        if self.note:
            return self.note
        turned = "" if self.turned is None else f" ({_number(self.turned)})"
        return f"{_number(self.auroc)}{turned} / {_number(self.sr5)}"


UNDEFENDED = "(no defense)"
"""Row of the classifier trained without the defense: its error under the same attack."""


@dataclass(frozen=True)
class Table:
    """A leaderboard under one threat model."""

    threat_model: str
    columns: Sequence[str]
    rows: dict[str, list[Entry]]
    facts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By defense: clean accuracy, and false alarms at the 5 % threshold."""


def tables(run: Run, statistic: str = "auroc_worst") -> list[Table]:
    """One table for each threat model of the run, most robust defense first."""
    names = list(dict.fromkeys(cell.threat_model.name for cell in run.cells))
    return [_table(run, name, statistic) for name in names]


def _table(run: Run, threat_model: str, statistic: str) -> Table:
    cells = [c for c in run.cells if c.threat_model.name == threat_model]
    attacks = list(dict.fromkeys((c.attack.name, _budget(c)) for c in cells))
    budgets = [b for b in dict.fromkeys(b for _, b in attacks) if [x for _, x in attacks].count(b) > 1]
    rows, facts = {}, {}
    for defense in dict.fromkeys(c.row for c in cells):
        own = [c for c in cells if c.row == defense]
        entries = [
            _entry([c for c in own if (c.attack.name, _budget(c)) == a], statistic) for a in attacks
        ]
        worst = [_worst(run, [c for c in own if _budget(c) == b]) for b in budgets]
        if statistic != "auroc_worst":  # another statistic has no place in the same column
            worst = [replace(entry, auroc=None) for entry in worst]
        rows[defense], facts[defense] = entries + worst, _facts(own)
    undefended = [_undefended([c for c in cells if (c.attack.name, _budget(c)) == a]) for a in attacks]
    rows[UNDEFENDED] = undefended + [Entry(note="–")] * len(budgets)
    columns = [_column(a, b) for a, b in attacks] + [f"worst {b}" for b in budgets]
    facts[UNDEFENDED] = ("–", "–")
    order = sorted(rows, key=lambda d: (d == UNDEFENDED, _hardness(rows[d])))
    return Table(threat_model, columns, {d: rows[d] for d in order}, facts)


def _hardness(entries: list[Entry]) -> list[float]:
    """What rows are sorted by: SR@5 % of the worst cases, then of the attacks."""
    return [2.0 if entry.sr5 is None else entry.sr5 for entry in reversed(entries)]


def _undefended(cells: list[CellRecord]) -> Entry:
    done = [c for c in cells if c.status == "done"]
    return Entry(sr5=_mean([c.metrics["undefended_error"].value for c in done]))


def _budget(cell: CellRecord) -> str:
    return cell.norm if cell.eps is None else f"{cell.norm} ≤ {cell.eps:.4g}"


def _column(attack: str, budget: str) -> str:
    return f"{attack} ({budget})" if "≤" in budget else f"{attack} (smallest {budget})"


def _entry(cells: list[CellRecord], statistic: str) -> Entry:
    """The mean over seeds."""
    done = [c for c in cells if c.status == "done"]
    if len(done) < len(cells) or not cells:
        status = next((c.status for c in cells if c.status != "done"), "–")
        return Entry(note=status)
    if statistic == "papers":
        statistic = "auroc_successes" if done[0].adaptive else "auroc_returned"
    auroc, sr5 = (_mean([c.metrics[name].value for c in done]) for name in (statistic, "sr_at_5_fpr"))
    turned = _mean(
        [c.metrics[name].value for c in done if (name := f"{statistic}_oracle_sign") in c.metrics]
    )
    return Entry(auroc, sr5, turned=None if turned == auroc else turned)


def _worst(run: Run, cells: list[CellRecord]) -> Entry:
    """The worst case over attacks of equal knowledge and budget, image by image.

    There is none where each attack met another detector, which had learnt from it.
    """
    if any(c.defender == "whitebox-defense" for c in cells):
        return Entry(note="–")
    if any(c.status == "failed" or c.reason == INTERRUPTED for c in cells):
        return Entry(note="incomplete")
    found = []
    for seed in dict.fromkeys(c.seed for c in cells):
        vectors = [run.samples[c.cell] for c in cells if c.seed == seed and c.cell in run.samples]
        if not vectors:
            return Entry(note="–")
        found.append(worst_case(vectors))
    auroc, sr5 = (_mean([f[name] for f in found]) for name in ("auroc_worst", "sr_at_5_fpr"))
    return Entry(auroc, sr5)


def _facts(cells: list[CellRecord]) -> tuple[str, str]:
    done = [c for c in cells if c.status == "done"]
    names = ("clean_accuracy", "fpr_realised_at_5")
    accuracy, alarms = (_mean([c.metrics[n].value for c in done]) for n in names)
    return _number(accuracy), _number(alarms)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


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
    lines += [""]
    for table in tables(run, statistic):
        lines += [f"## {table.threat_model}", "", _markdown_table(table), ""]
    lines += [part for note in footnotes(run) for part in (note, "")]
    lines += alarms.section(run) + _reasons(run)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> str:
    head = ["defense", "clean acc.", "false alarms", *table.columns]
    best = best_per_column(table)
    body = []
    for defense, entries in table.rows.items():
        shown = [f"**{e.text}**" if defense in b else e.text for e, b in zip(entries, best, strict=True)]
        body.append([defense, *table.facts[defense], *shown])
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def best_per_column(table: Table) -> list[set[str]]:
    """For each column the defenses of lowest SR@5 %; nobody where there is only one row."""
    best: list[set[str]] = []
    defenses = {d: entries for d, entries in table.rows.items() if d != UNDEFENDED}
    for column in range(len(table.columns)):
        rates = {d: e[column].sr5 for d, e in defenses.items()}
        known = [r for r in rates.values() if r is not None]
        lowest = min(known, default=None)
        best.append({d for d, r in rates.items() if r == lowest} if len(rates) > 1 and known else set())
    return best


def footnotes(run: Run) -> list[str]:
    """Why numbers of some rows overstate what the defense could do."""
    caveats = dict.fromkeys((c.row, c.caveat) for c in run.cells if c.caveat)
    return [f"{row} {caveat}." for row, caveat in caveats]


def _reasons(run: Run) -> list[str]:
    troubled = [c for c in run.cells if c.status != "done"]
    if not troubled:
        return []
    lines = ["## Cells without a number", ""]
    return lines + [f"- `{c.cell}` {c.status}: {c.reason}" for c in troubled]
