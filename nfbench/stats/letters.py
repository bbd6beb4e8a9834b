"""Letters that say which rows can't be told apart."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray

MARKS = string.ascii_lowercase + string.ascii_uppercase


def letters(alike: NDArray[np.bool_]) -> list[str]:
    """Compact letter display: two rows share a letter if and only if they can't be told apart.

    Insert-and-absorb of Piepho (2004, Journal of Computational and Graphical Statistics 13, 456-466):
    begin with one letter for all; for each pair that is told apart, split every letter that both have
    into one without the first and one without the second; drop letters that others contain.

    Args:
        alike: whether two rows can't be told apart, (R, R), symmetric, true on the diagonal.

    Returns:
        the letters of each row, (R,), the first row's first; `a` to `Z`, then Greek.
    """
    columns = [frozenset(range(len(alike)))]
    for i, j in np.argwhere(np.triu(~alike)).tolist():
        split = [column for column in columns if {i, j} <= column]
        kept = [column for column in columns if not {i, j} <= column]
        columns = _absorbed(kept + [column - {one} for column in split for one in (i, j)])
    columns.sort(key=sorted)
    marks = [_mark(number) for number in range(len(columns))]
    return [
        "".join(mark for mark, column in zip(marks, columns, strict=True) if row in column)
        for row in range(len(alike))
    ]


def _absorbed(columns: list[frozenset[int]]) -> list[frozenset[int]]:
    """Without those that another one contains."""
    different = list(dict.fromkeys(columns))
    return [one for one in different if not any(one < other for other in different)]


def _mark(number: int) -> str:
    return MARKS[number] if number < len(MARKS) else chr(0x3B1 + number - len(MARKS))
