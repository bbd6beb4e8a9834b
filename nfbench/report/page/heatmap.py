"""Heat-maps of defenses against attacks: numbers on a ramp of one hue, darker where the attack wins."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.records import MARK
from nfbench.report.board import UNDEFENDED, Entry, Table
from nfbench.report.page.boards import header, scrolling
from nfbench.report.page.columns import parts_of, worst_first
from nfbench.report.page.markup import Html, el, join
from nfbench.report.page.numbers import auroc_of, full, sr5_of

STEPS = 10
"""Shades above the lightest."""


def heatmaps(tables: Sequence[Table]) -> list[Html]:
    """One for each threat model, budget and statistic."""
    found = []
    for table in tables:
        for ball in dict.fromkeys(parts_of(column)[1] for column in table.columns):
            found += [_heatmap(table, ball, shown) for shown in ("SR@5 %", "AUROC")]
    return found


def _heatmap(table: Table, ball: str, shown: str) -> Html:
    columns = [(i, *parts_of(table.columns[i])) for i in worst_first(table.columns)]
    columns = [(i, attack, b) for i, attack, b in columns if b == ball]
    heads = [header(a or "worst case", data_attack=a or None) for _, a, _ in columns]
    rows = []
    for defense, entries in table.rows.items():
        if defense == UNDEFENDED and shown != "SR@5 %":
            continue
        cells = [_cell(entries[i], attack, shown) for i, attack, _ in columns]
        named = None if defense == UNDEFENDED else defense
        rows.append(el("tr", el("th", defense, scope="row"), *cells, data_defense=named))
    caption = join((el("b", table.threat_model), f" {shown}, {ball}"))
    head = el("thead", el("tr", header("defense"), *heads))
    drawn = el("table", el("caption", caption), head, el("tbody", *rows), class_="heat")
    attributes = {"data_threat": table.threat_model, "data_budget": ball, "data_statistic": shown}
    return el(
        "div",
        scrolling(drawn, f"Heat-map, {table.threat_model}, {ball}, {shown}"),
        class_="panel",
        **attributes,
    )


def _cell(entry: Entry, attack: str, shown: str) -> Html:
    found = sr5_of(entry) if shown == "SR@5 %" else auroc_of(entry)
    if entry.note or found.value is None:
        return el("td", entry.note or "–", class_="none", data_attack=attack or None)
    won = found.value if shown == "SR@5 %" else 1 - found.value
    shade = f"h{round(STEPS * won)}"
    mark = f" {MARK}" if entry.flagged else None
    attributes = {"data_attack": attack or None, "data_value": full(found.value)}
    return el("td", found.text, mark, class_=shade, **attributes)


def ramp() -> Html:
    """What the shades mean."""
    boxes = [el("i", class_=f"h{i}") for i in range(STEPS + 1)]
    scale = el("span", *boxes, class_="ramp", aria_hidden="true")
    return el("p", "the defense holds ", scale, " the attack wins", class_="ramp-key")
