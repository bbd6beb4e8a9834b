"""The ranking: how each defense does under each threat model, and how far its place is known."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from nfbench.records import MARK
from nfbench.report.board import UNDEFENDED, Entry, Table, number
from nfbench.report.page.boards import facts, header, scrolling
from nfbench.report.page.columns import parts_of, worst_of
from nfbench.report.page.markup import Html, el
from nfbench.report.page.numbers import DASH, full, sr5_of
from nfbench.report.run import Run
from nfbench.report.settled import rounded
from nfbench.stats.compare import Ranked


def ranking(run: Run, tables: Sequence[Table]) -> Html:
    """One row a defense, one column a threat model: its place there and the worst cases' mean SR@5.

    Rows are ordered as under the last threat model.
    """
    names = list(dict.fromkeys(d for t in reversed(tables) for d in t.rows if d != UNDEFENDED))
    heads = [header(t.threat_model, data_sort="number", data_threat=t.threat_model) for t in tables]
    heads += [header(text, data_sort="number") for text in ("clean accuracy", "false alarms")]
    rows = []
    for name in names:
        cells = [_standing(table, _worsts(table, name), name) for table in tables]
        threat = next(t.threat_model for t in tables if name in t.rows)
        own = facts(run, name, threat)
        rows.append(el("tr", el("th", name, scope="row"), *cells, *own, data_defense=name))
    head = el("tr", header("defense", data_sort="text"), *heads)
    caption = "Place, and SR@5 % of the worst case, mean over the budgets; low is good for the defense"
    body = el("thead", head), el("tbody", *rows)
    table = el("table", el("caption", caption), *body, class_="sortable ranking")
    return scrolling(table, "Ranking")


def _worsts(table: Table, defense: str) -> list[Entry]:
    """What rows are sorted by: the worst cases over several attacks, or over what there is."""
    entries = table.rows.get(defense, [])
    columns = [parts_of(column) for column in table.columns]
    found = [entry for (attack, _), entry in zip(columns, entries, strict=False) if not attack]
    balls = dict.fromkeys(ball for _, ball in columns)
    return found or [entries[worst_of(table.columns, ball)] for ball in balls if entries]


def _standing(table: Table, entries: Sequence[Entry], defense: str) -> Html:
    rates = [rate for entry in entries if (rate := sr5_of(entry).value) is not None]
    threat = {"data_threat": table.threat_model}
    if not rates or len(rates) < len(entries):
        note = next((entry.note for entry in entries if entry.note), DASH)
        return el("td", note, class_="none", **threat)
    mean = rounded(fmean(rates))
    place = _place(table.ranks.get(defense), flagged=any(entry.flagged for entry in entries))
    return el("td", place, number(mean), _bar(mean), data_value=full(mean), **threat)


def _place(ranked: Ranked | None, *, flagged: bool) -> Html:
    """How far a place is known, and the letters shared with those it can't be told from."""
    if ranked is None:
        return el("b", MARK if flagged else None, class_="rank", title="not ranked" if flagged else None)
    low, high = ranked.rank_low, ranked.rank_high
    place = f"{low}" if low == high else f"{low}–{high}"
    return el("b", place, el("sup", ranked.letters), class_="rank", data_low=low, data_high=high)


def _bar(rate: float) -> Html:
    width = round(100 * rate)
    drawn = el("rect", width=100, height=8, class_="track"), el("rect", width=width, height=8)
    return el("svg", *drawn, viewBox="0 0 100 8", width=44, height=8, class_="bar", aria_hidden="true")
