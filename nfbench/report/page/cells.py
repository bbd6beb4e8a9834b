"""Every cell a row: its numbers, what it cost, and why it is flagged or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nfbench.records import MARK, CellRecord
from nfbench.report.board import number
from nfbench.report.cells import BOUND, budget
from nfbench.report.page.boards import header, scrolling
from nfbench.report.page.columns import ball_named
from nfbench.report.page.markup import Html, el, join
from nfbench.report.page.numbers import DASH, average, full, metric, statistic_of
from nfbench.report.run import Run

MOST = 600
"""Cells up to which each has a row."""

_RATES = {
    "sr_at_5_fpr": "SR@5 %",
    "undefended_error": "undefended error",
    "gain": "gain",
    "success_rate": "misclassified",
    "robust_accuracy_at_5": "robust accuracy",
    "rauc": "RAUC",
}


def every_cell(run: Run, statistic: str) -> Html:
    """The table of all cells, or a word on where to find them if there are too many."""
    if len(run.cells) > MOST:
        return el("p", f"{len(run.cells)} cells are too many for a table; they are in the result files.")
    words = ("defense", "attack", "threat model", "budget")
    heads = [header(word, data_sort="text") for word in words]
    heads += [header(name, data_sort="number") for name in ("seed", "SR@5 %", statistic)]
    heads += [header(name, data_sort="number") for name in list(_RATES.values())[1:]]
    heads += [header(name, data_sort="number") for name in ("images", "forward", "backward", "seconds")]
    heads.append(header("status", data_sort="text"))
    rows = [_row(cell, statistic) for cell in run.cells]
    caption = el("caption", "All cells")
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    return scrolling(el("table", caption, *body, class_="sortable cells"), "All cells")


def _row(cell: CellRecord, statistic: str) -> Html:
    first, ball = el("th", cell.row, scope="row"), ball_named(budget(cell))
    words = [el("td", text) for text in (cell.attack.name, cell.threat_model.name, ball)]
    seed = el("td", cell.seed, data_value=cell.seed)
    names = ["sr_at_5_fpr", statistic_of(cell, statistic), *list(_RATES)[1:]]
    rates = [_rate(cell, name) for name in names]
    images = cell.counts.get("adversarial")
    spent = [_amount(images, "images", f"{images}")]
    spent += [_cost(cell.cost, name) for name in ("forward", "backward")] + [
        _cost(cell.timing, "seconds")
    ]
    status = el("td", _status(cell), title=cell.reason or None)
    return el(
        "tr", first, *words, seed, *rates, *spent, status,
        data_cell=cell.cell, data_defense=cell.row, data_attack=cell.attack.name,
        data_threat=cell.threat_model.name, data_budget=ball,
    )  # fmt: skip


def _status(cell: CellRecord) -> Html:
    if cell.status == "done":
        return Html("done")
    text = f"{MARK} flagged" if cell.status == "flagged" else cell.status
    return el("a", text, href="#flagged")


def _rate(cell: CellRecord, name: str) -> Html:
    found = metric(cell, name)
    flag = cell.metrics[name].flag if name in cell.metrics else ""
    sign = el("span", "≤" if flag.startswith(BOUND) else "*", class_="bound") if flag else None
    told = {"data_metric": name, "title": flag or None}
    return el("td", sign if found.value is not None else None, found.shown, **found.attributes, **told)


def _cost(amounts: Mapping[str, float], name: str) -> Html:
    value = amounts.get(name)
    return _amount(value, name, "" if value is None else rounded(value))


def rounded(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _amount(value: float | None, name: str, text: str) -> Html:
    return el("td", DASH if value is None else text, data_value=full(value), data_amount=name)


def troubled(run: Run) -> Html | None:
    """Flagged cells and those without a number, equal reasons together."""
    told: dict[tuple[str, str], list[CellRecord]] = {}
    for cell in run.cells:
        for reason in cell.flags or ([cell.reason] if cell.status != "done" else []):
            told.setdefault((cell.status, reason), []).append(cell)
    if not told:
        return None
    heads = [header(name, data_sort="text") for name in ("status", "why", "cells")]
    rows = [
        el("tr", el("th", _kind(status), scope="row"), el("td", reason), el("td", _names(cells)))
        for (status, reason), cells in told.items()
    ]
    caption = el("caption", "Cells that are shown and not ranked, and why")
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    return scrolling(el("table", caption, *body, class_="sortable reasons"), "Flagged and missing cells")


def _kind(status: str) -> str:
    return f"{MARK} flagged" if status == "flagged" else status


def _names(cells: Sequence[CellRecord]) -> Html:
    shown = join((el("code", cell.cell) for cell in cells), " ")
    if len(cells) < 4:
        return shown
    return el("details", el("summary", f"{len(cells)} cells"), shown)


def costs(run: Run) -> Html:
    """What each attack cost, from its cheapest to its dearest cell."""
    groups: dict[tuple[str, str], list[CellRecord]] = {}
    for cell in run.cells:
        if cell.finished:
            groups.setdefault((cell.attack.name, cell.threat_model.name), []).append(cell)
    names = ("forward passes an image", "backward passes an image", "seconds a cell")
    heads = [header("attack", data_sort="text"), header("threat model", data_sort="text")]
    heads += [header(name, data_sort="number") for name in names]
    rows = []
    for (attack, threat), cells in groups.items():
        spans = [_span([c.cost for c in cells], name) for name in ("forward", "backward")]
        spans.append(_span([c.timing for c in cells], "seconds"))
        first = el("th", attack, scope="row")
        rows.append(el("tr", first, el("td", threat), *spans, data_attack=attack, data_threat=threat))
    caption = el("caption", "Cost of the attacks: the cheapest cell – the dearest")
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    return scrolling(el("table", caption, *body, class_="sortable"), "Cost of the attacks")


def _span(amounts: Sequence[Mapping[str, float]], name: str) -> Html:
    known = [a[name] for a in amounts if name in a]
    if not known:
        return el("td", DASH)
    low, high = map(rounded, (min(known), max(known)))
    text = low if low == high else f"{low} – {high}"
    return el(
        "td", text, data_value=full(max(known)), data_low=full(min(known)), data_high=full(max(known))
    )


def latencies(run: Run) -> Html | None:
    """How long each detector takes, mean over the cells that measured it."""
    names = {"latency_ms": "milliseconds an image", "latency_ratio": "times the bare classifier"}
    rows = []
    for row in dict.fromkeys(c.row for c in run.cells):
        found = [average([c for c in run.cells if c.row == row], name) for name in names]
        if any(value is not None for value in found):
            cells = (el("td", number(value), data_value=full(value)) for value in found)
            rows.append(el("tr", el("th", row, scope="row"), *cells, data_defense=row))
    if not rows:
        return None
    heads = [header("defense", data_sort="text")]
    heads += [header(text, data_sort="number") for text in names.values()]
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    caption = el("caption", "Cost of the detectors")
    return scrolling(el("table", caption, *body, class_="sortable"), "Cost of the detectors")
