"""Leaderboard tables: for each threat model every defense, attack and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nfbench.records import MARK, CellRecord
from nfbench.report.board import UNDEFENDED, Entry, Table, best_per_column, grouped, number
from nfbench.report.cells import budget
from nfbench.report.entries import CLIMBING
from nfbench.report.leaderboard import LATER
from nfbench.report.page.columns import ball_named, parts_of, worst_first
from nfbench.report.page.markup import Html, el, join
from nfbench.report.page.numbers import auroc_of, average, full, sr5_of
from nfbench.report.run import Run

Key = tuple[str, str, str]
"""Defense, attack, budget."""


def scrolling(table: Html, name: str) -> Html:
    """A table in a box of its own, so that a narrow page scrolls it and not itself."""
    return el("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


def header(text: object, **attributes: object) -> Html:
    """A column's head."""
    return el("th", text, scope="col", **attributes)


def leaderboards(run: Run, tables: Sequence[Table]) -> list[Html]:
    """The table of each threat model."""
    return [_leaderboard(run, table) for table in tables]


def facts(run: Run, defense: str, threat: str) -> list[Html]:
    """Clean accuracy and false alarms of a row, as the tables take them."""
    own = _rows(run).get((defense, threat), [])
    found = (average(own, name) for name in ("clean_accuracy", "fpr_realised_at_5"))
    return [el("td", number(value), data_value=full(value)) for value in found]


def _rows(run: Run) -> dict[tuple[str, str], list[CellRecord]]:
    """Cells by row and threat model."""
    if "rows" not in run.memory:
        run.memory["rows"] = grouped(run.cells, lambda c: (c.row, c.threat_model.name))
    return dict(run.memory["rows"])


def reasons(run: Run, threat: str) -> Mapping[Key, str]:
    """Why cells under a threat model have no number, or are flagged."""
    found: dict[Key, dict[str, None]] = {}
    for cell in run.cells:
        if cell.threat_model.name == threat and (cell.reason or cell.flags):
            own = found.setdefault(_key(cell), {})
            own |= dict.fromkeys(cell.flags or [cell.reason])
    return {key: "; ".join(texts) for key, texts in found.items()}


def _key(cell: CellRecord) -> Key:
    return cell.row, cell.attack.name, ball_named(budget(cell))


def _leaderboard(run: Run, table: Table) -> Html:
    why = reasons(run, table.threat_model)
    columns, order = [parts_of(column) for column in table.columns], worst_first(table.columns)
    best = best_per_column(table)
    rows = []
    for defense, entries in table.rows.items():
        cells = [
            _entry(entries[i], columns[i], why.get((defense, *columns[i]), ""), best=defense in best[i])
            for i in order
        ]
        named = None if defense == UNDEFENDED else defense
        own = facts(run, defense, table.threat_model)
        rows.append(el("tr", el("th", defense, scope="row"), *cells, *own, data_defense=named))
    heads = [header("defense", data_sort="text"), *(_head(*columns[i]) for i in order)]
    heads += [header(name, data_sort="number") for name in ("clean accuracy", "false alarms")]
    last = [rows.pop()] if UNDEFENDED in table.rows else []
    body = el("tbody", *rows), el("tfoot", *last)
    caption = join((el("b", table.threat_model), " SR@5 %, below it AUROC"))
    whole = el(
        "table", el("caption", caption), el("thead", el("tr", *heads)), *body, class_="sortable board"
    )
    named = f"Leaderboard, {table.threat_model}"
    return el("div", scrolling(whole, named), class_="panel", data_threat=table.threat_model)


def _head(attack: str, ball: str) -> Html:
    text = join((attack or "worst case", el("small", ball)))
    named = {"data_attack": attack or None, "data_budget": ball, "class_": None if attack else "worst"}
    return header(text, data_sort="number", **named)


def _entry(entry: Entry, column: tuple[str, str], why: str, *, best: bool) -> Html:
    attack, ball = column
    named = {"data_attack": attack or None, "data_budget": ball, "title": why or None}
    css = [] if attack else ["worst"]
    if entry.note:
        text = el("a", entry.note, href="#flagged") if why else entry.note
        return el("td", text, class_=" ".join(["none", *css]), **named)
    rate, auroc = sr5_of(entry), auroc_of(entry)
    mark = (
        el("a", MARK, href="#flagged", class_="mark-flag", aria_label="flagged")
        if entry.flagged
        else None
    )
    climbing = el("span", f" {CLIMBING}", title=LATER, aria_label=LATER) if entry.climbing else None
    turned = None if entry.turned is None else f" ({number(entry.turned)})"
    known = auroc.value is not None
    low = el("span", auroc.shown, turned, class_="auroc", **auroc.attributes) if known else None
    css += ["best"] * best
    top = el("b", number(rate.value)) if best else number(rate.value)
    return el(
        "td",
        top,
        climbing,
        mark,
        rate.small,
        low,
        class_=" ".join(css) or None,
        **rate.attributes,
        **named,
    )
