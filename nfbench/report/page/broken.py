"""What others have checked and broken: notes of the verification, and submissions that lowered a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfbench.report.board import number
from nfbench.report.evidence import Evidence
from nfbench.report.page.boards import header, scrolling
from nfbench.report.page.markup import Html, el
from nfbench.report.page.numbers import full

if TYPE_CHECKING:
    from nfbench.trust.breaks import Break

_HEADS = {
    "date": "text",
    "source": "text",
    "row": "text",
    "images lowered": "number",
    "SR@5 % before": "number",
    "after": "number",
    "AUROC before": "number",
    "after it": "number",
}
"""Columns, and how each is sorted."""


def broken(evidence: Evidence) -> list[Html]:
    """Notes and the table of submissions; nothing where nobody has said anything."""
    if evidence.silent:
        return []
    lines = [el("p", evidence.told, ". ", evidence.checked)]
    lines += [el("p", note) for note in evidence.notes]
    return [*lines, *([_table(evidence)] if evidence.breaks else [])]


def _table(evidence: Evidence) -> Html:
    heads = [header(text, data_sort=kind) for text, kind in _HEADS.items()]
    rows = [el("tr", *_row(one)) for one in evidence.breaks]
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    caption = el("caption", "Submissions that lowered a worst case, oldest first")
    return scrolling(el("table", caption, *body, class_="sortable reasons"), "Submissions")


def _row(one: Break) -> list[Html]:
    """The day, who, which cell, and its worst case before and after."""
    count = el("td", f"{one.improved} of {one.images}", data_value=one.improved)
    rates = (*one.sr_at_5_fpr, *one.auroc_worst)
    numbers = [el("td", number(rate), data_value=full(rate)) for rate in rates]
    names = el("td", one.source), el("td", el("code", one.row))
    return [el("th", one.date, scope="row"), *names, count, *numbers]
