"""False alarms: what each defense rejects that nobody has attacked."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.records import CellRecord
from nfbench.report.alarms import ATTACK_SIZED, NAMES
from nfbench.report.board import number
from nfbench.report.operating import BASE_RATES
from nfbench.report.page.boards import header, scrolling
from nfbench.report.page.markup import Html, el
from nfbench.report.page.numbers import DASH, Number, average, full
from nfbench.report.run import Run

_NEGATIVES = {"fpr_realised_at_5": "clean"} | {
    f"fpr_on_{name}_at_5": label for name, label in NAMES.items()
}


def alarms(run: Run) -> Html | None:
    """The table; none if no cell is done."""
    done = [cell for cell in run.cells if cell.finished]
    if not done:
        return None
    rows = []
    for name in dict.fromkeys(c.row for c in done):
        own = [c for c in done if c.row == name]
        cells = [_rate(own, metric) for metric in _NEGATIVES]
        rows.append(el("tr", el("th", name, scope="row"), *cells, _largest(own), data_defense=name))
    names = ["defense", *_NEGATIVES.values(), "attack-sized noise, largest"]
    heads = [header(text, data_sort="number" if i else "text") for i, text in enumerate(names)]
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    caption = el("caption", "Share rejected at the threshold of 5 %; mean over cells")
    return scrolling(el("table", caption, *body, class_="sortable"), "False alarms")


def worth(run: Run) -> Html | None:
    """Of all alarms the share that an attack caused, by defense; none if not measured."""
    rows = []
    for name in dict.fromkeys(c.row for c in run.cells):
        own = [c for c in run.cells if c.row == name]
        spans = [_span(own, f"alarm_precision_1_in_{base}") for base in BASE_RATES]
        if any(spans):
            cells = (span or el("td", DASH) for span in spans)
            rows.append(el("tr", el("th", name, scope="row"), *cells, data_defense=name))
    if not rows:
        return None
    heads = [header("defense", data_sort="text")]
    heads += [header(f"1 in {base:,}", data_sort="number") for base in BASE_RATES]
    body = el("thead", el("tr", *heads)), el("tbody", *rows)
    caption = "Share of alarms that are attacks, if so many images are attacked; worst cell – best"
    table = el("table", el("caption", caption), *body, class_="sortable")
    return scrolling(table, "What an alarm is worth")


def _span(cells: Sequence[CellRecord], name: str) -> Html | None:
    values = (c.metrics[name].value for c in cells if name in c.metrics)
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    text = f"{low:.2g}" if low == high else f"{low:.2g} – {high:.2g}"
    return el("td", text, data_value=full(high), data_low=full(low), data_high=full(high))


def _rate(cells: Sequence[CellRecord], name: str) -> Html:
    found = average(cells, name)
    flags = list(
        dict.fromkeys(c.metrics[name].flag for c in cells if name in c.metrics and c.metrics[name].flag)
    )
    text = number(found) + "*" * bool(flags and found is not None)
    return el("td", text, data_value=full(found), title="; ".join(flags) or None)


def _largest(cells: Sequence[CellRecord]) -> Html:
    known = [
        (value, c.attack.name)
        for c in cells
        if ATTACK_SIZED in c.metrics and (value := c.metrics[ATTACK_SIZED].value) is not None
    ]
    if not known:
        return el("td", DASH)
    value, attack = max(known)
    return el("td", Number(value).shown, el("small", f" {attack}"), data_value=full(value))
