"""Shards: one part of a matrix for each of several machines that need know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace

from nfbench.core.errors import UsageError
from nfbench.runner.plan import Cell, Plan
from nfbench.store import Key

ELSEWHERE = "another shard's"
_SHARD = re.compile(r"^(\d+)/(\d+)$")
_PER_SHARD = 4
"""Groups of cells that each shard should have to choose from."""
_GROUPS: tuple[Callable[[Cell], Hashable], ...] = (
    lambda cell: (cell.defense.name, cell.seed),
    lambda cell: (cell.defense.name, cell.seed, cell.attack.name),
    lambda cell: cell.name,
)


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4`: the second of four.

    Raises:
        UsageError: for anything else.
    """
    found = _SHARD.match(text.strip())
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text}: expected i/N with 1 <= i <= N, such as 2/4")
    return number, count


def shard(plan: Plan, number: int, count: int) -> Plan:
    """The plan with the cells of one shard; the others are left out with a reason.

    Cells that share a training stay together as far as that leaves no shard idle; the shards of a
    plan are the same wherever they are computed, and together they are the plan.
    """
    mine = {cell.name for cell in _parts(plan, count)[number - 1]}
    cells = [cell if cell.reason or cell.name in mine else _left_out(cell) for cell in plan.cells]
    needed = closure(plan, (key for cell in cells for key in cell.filling))
    jobs = {key: job for key, job in plan.jobs.items() if key in needed}
    return Plan(plan.spec, jobs, cells, len(jobs) + plan.saved)


def closure(plan: Plan, keys: Iterable[Key]) -> set[Key]:
    """These jobs and all that they need."""
    found: set[Key] = set()
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key not in found:
            found.add(key)
            stack += plan.jobs[key].needs
    return found


def _left_out(cell: Cell) -> Cell:
    return replace(cell, reason=ELSEWHERE, score=None, timing=None, undefended=None, crafts=())


def _parts(plan: Plan, count: int) -> list[list[Cell]]:
    """Cells by shard: the heaviest group first, each to the shard that has least to do with it."""
    runnable = [cell for cell in plan.cells if not cell.reason]
    groups: dict[Hashable, list[Cell]] = {}
    for grouping in _GROUPS:
        groups = {}
        for cell in runnable:
            groups.setdefault(grouping(cell), []).append(cell)
        if len(groups) >= _PER_SHARD * count:
            break
    needs = [(closure(plan, (k for c in cells for k in c.filling)), cells) for cells in groups.values()]
    weight = {key: job.weight for key, job in plan.jobs.items()}
    needs.sort(key=lambda one: -sum(weight[key] for key in one[0]))
    parts: list[list[Cell]] = [[] for _ in range(count)]
    have: list[set[Key]] = [set() for _ in range(count)]
    loads = [0.0] * count
    for keys, cells in needs:
        after = [loads[i] + sum(weight[key] for key in keys - have[i]) for i in range(count)]
        best = after.index(min(after))
        parts[best] += cells
        have[best] |= keys
        loads[best] = after[best]
    return parts
