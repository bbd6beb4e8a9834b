"""What the plot of a sweep shows: its numbers, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from nfbench.records import Value
from nfbench.sweeping.rows import WORST, Column, Swept, values_of
from nfbench.sweeping.unrolling import Axis, text_of

SR5 = "sr_at_5_fpr"
MANY = 6
"""Attacks and budgets beyond which only worst cases are shown."""
_FIRST = ("attack", "threat model")
"""What colours and dashes are for, before anything else."""

Kind: TypeAlias = tuple[str, tuple[str, ...]]
"""One way in which numbers differ, such as `threat model`, and what there is of it, in order."""


class Mark(NamedTuple):
    """One number, and what tells it from others: by kind, its value."""

    at: Mapping[str, str]
    x: Any
    value: Value
    flagged: bool
    bound: bool
    """Whether it is an upper bound."""


@dataclass(frozen=True)
class Layout:
    """The numbers of one metric, and what is told apart by what."""

    marks: Sequence[Mark]
    x: Axis
    xs: Sequence[Any]
    """Its values; in ascending order if they are numbers."""
    colour: Kind | None
    dash: Kind | None
    panels: Sequence[Kind]
    fixed: Mapping[str, str]
    """Kinds of which there is one value only."""
    shared: str = ""
    """Budget of all attacks, or the attack of all budgets, where that is one."""

    @property
    def numeric(self) -> bool:
        return all(map(is_number, self.xs))

    def each_panel(self) -> list[dict[str, str]]:
        """What panels are of, in order; one without anything where there is nothing to tell apart."""
        names = [name for name, _ in self.panels]
        found = [dict(zip(names, one, strict=True)) for one in product(*(v for _, v in self.panels))]
        return [panel for panel in found if self.of(panel)]

    def of(self, at: Mapping[str, str]) -> list[Mark]:
        """The numbers that have these values, in the order of the axis."""
        found = [mark for mark in self.marks if at.items() <= mark.at.items()]
        return sorted(found, key=lambda mark: self.xs.index(mark.x))


def layout(swept: Swept, metric: str) -> Layout | None:
    """How the AUROC or SR@5 % of a sweep is shown; None if there are no numbers."""
    x = _across(swept)
    names, shared = _names(_shown(swept.columns))
    marks = _marks(swept, metric, x, names)
    if not marks:
        return None
    kinds = {name: tuple(dict.fromkeys(mark.at[name] for mark in marks)) for name in marks[0].at}
    differ = {name: values for name, values in kinds.items() if len(values) > 1}
    order = [name for name in _FIRST if name in differ] or list(differ)[:1]
    told = [(name, differ[name]) for name in order]
    xs: list[Any] = []
    for mark in marks:  # values may be lists, which no set holds
        xs += [] if mark.x in xs else [mark.x]
    return Layout(
        marks=marks,
        x=x,
        xs=sorted(xs) if all(map(is_number, xs)) else xs,
        colour=told[0] if told else None,
        dash=told[1] if len(told) > 1 else None,
        panels=[(name, values) for name, values in differ.items() if name not in order],
        fixed={name: values[0] for name, values in kinds.items() if name not in differ},
        shared=shared,
    )


def _across(swept: Swept) -> Axis:
    """The first axis of nothing but numbers; if there is none, the first."""
    for axis in swept.axes:
        if all(is_number(result.values[axis.name]) for result in swept.results):
            return axis
    return swept.axes[0]


def is_number(value: object) -> bool:
    """Whether it has a place on an axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _names(columns: Sequence[Column]) -> tuple[dict[Column, str], str]:
    """What tells attacks and budgets apart, as short as can be, and what they all have in common."""
    balls = dict.fromkeys(column.ball for column in columns)
    attacks = dict.fromkeys(column.attack or WORST for column in columns)
    if len(balls) == 1:
        return {column: column.attack or WORST for column in columns}, next(iter(balls))
    if len(attacks) == 1:
        return {column: column.ball for column in columns}, next(iter(attacks))
    return {column: column.title for column in columns}, ""


def _marks(swept: Swept, metric: str, x: Axis, names: Mapping[Column, str]) -> list[Mark]:
    others = [axis for axis in swept.axes if axis != x]
    found = []
    for result, row in swept.lines():
        own = {axis.label: text_of(result.values[axis.name]) for axis in others}
        for column, name in names.items():
            entry = swept.entry(result, row, column)
            value = dict(zip((swept.statistic, SR5), values_of(entry), strict=False)).get(metric)
            if value is None or value.value is None:
                continue
            at = {"attack": name, "threat model": column.threat_model, "defense": row.defense}
            bound = entry.bound and metric != SR5
            found.append(Mark(at | own, result.values[x.name], value, entry.flagged, bound))
    return found


def _shown(columns: Sequence[Column]) -> Sequence[Column]:
    """All, or of many the worst cases, if there are any."""
    worst = [column for column in columns if not column.attack]
    return worst if worst and len({(c.attack, c.ball) for c in columns}) > MANY else columns
