"""Columns of a table: which attack, at which budget."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COLUMN = re.compile(r"(?P<attack>.*) \((?P<ball>[^()]*)\)", re.DOTALL)
_WORST = "worst "


def ball_named(ball: str) -> str:
    """A budget for people; a norm alone means that the attack looks for the smallest perturbation."""
    return ball if "≤" in ball else f"smallest {ball}"


def parts_of(column: str) -> tuple[str, str]:
    """Attack and budget of a table's column; of a worst case the attack is empty."""
    found = _COLUMN.fullmatch(column)
    if found is None:
        return "", ball_named(column.removeprefix(_WORST))
    return found["attack"], found["ball"]


def worst_first(columns: Sequence[str]) -> list[int]:
    """Positions of a table's columns, the worst cases before the attacks that make them."""
    return sorted(range(len(columns)), key=lambda i: parts_of(columns[i])[0] != "")


def worst_of(columns: Sequence[str], ball: str) -> int:
    """Position of the worst case at a budget; where there is one attack, it is the worst case."""
    return next(i for i in worst_first(columns) if parts_of(columns[i])[1] == ball)
