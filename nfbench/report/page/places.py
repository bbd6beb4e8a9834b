"""What a page is about: who attacks, at which budget, and what each detector then faced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfbench.records import CellRecord
from nfbench.report.board import Entry, Table, balls_of
from nfbench.report.cells import budget, strongest, threshold_at_5
from nfbench.report.metrics import Vector
from nfbench.report.page.columns import ball_named, worst_of
from nfbench.report.run import Run, Vectors


@dataclass(frozen=True, eq=False)
class Faced:
    """The worst case that one seed's detector faced; vectors have one entry an attacked image."""

    clean: Vector
    noisy: Vector
    """Scores of clean images with attack-sized noise; empty where they are not stored."""
    evasion: Vector
    """S*; infinite where the image was never misclassified."""
    threshold: float
    index: Vector
    winner: Vector
    """Which of `attacks` reached S*; -1 where none succeeded."""
    attacks: Sequence[str]


@dataclass(frozen=True, eq=False)
class Place:
    """One threat model at one budget, with the worst case of each defense there."""

    threat: str
    ball: str
    norm: str
    eps: float | None
    worst: Mapping[str, Entry]
    faced: Mapping[str, Sequence[Faced]]
    """By defense, seed by seed; only where a worst case exists."""
    chosen: bool
    """Whether the attacker chooses image by image; else the worst case is the strongest attack."""


def places(run: Run, tables: Sequence[Table]) -> list[Place]:
    """Every threat model and budget of the run, in the order of its tables."""
    found = []
    for table in tables:
        cells = [c for c in run.cells if c.threat_model.name == table.threat_model]
        by_ball = {b: [c for c in cells if budget(c) == b] for b in balls_of(cells)}
        found += [_place(run, table, own) for own in by_ball.values()]
    return found


def _place(run: Run, table: Table, cells: Sequence[CellRecord]) -> Place:
    first, ball = cells[0], ball_named(budget(cells[0]))
    column = worst_of(table.columns, ball)
    rows: dict[str, list[CellRecord]] = {c.row: [] for c in cells}
    for cell in cells:
        if cell.finished:
            rows[cell.row].append(cell)
    worsts = {row: table.rows[row][column] for row in rows}
    faced = {row: _seeds(run, own) for row, own in rows.items() if not worsts[row].note}
    return Place(table.threat_model, ball, first.norm, first.eps, worsts, faced, table.chosen)


def _seeds(run: Run, cells: Sequence[CellRecord]) -> list[Faced]:
    seeds = dict.fromkeys(c.seed for c in cells)
    return [facing([c for c in cells if c.seed == seed], run.samples) for seed in seeds]


def facing(cells: Sequence[CellRecord], samples: Mapping[str, Vectors]) -> Faced:
    """The worst case over finished cells of one victim, threat model and budget.

    Image by image where the attacker can ask the detector, else the strongest attack; noise is as large
    as the strongest attack's perturbation in either case.
    """
    vectors = [samples[c.cell] for c in cells]
    if cells[0].asks_victim:
        alone, evasion = strongest(vectors, chosen=False)[0], strongest(vectors)[1]
        winner = np.stack([v.get("expected_score", v["evasion_score"]) for v in vectors]).argmin(0)
    else:
        alone, evasion = strongest(vectors, chosen=False)
        winner = np.full(len(evasion), next(i for i, v in enumerate(vectors) if v is alone))
    return Faced(
        clean=alone["clean_score"].astype(np.float64),
        noisy=alone.get("noisy_score", np.empty(0)).astype(np.float64),
        evasion=evasion,
        threshold=threshold_at_5(alone),
        index=alone["index"],
        winner=np.where(np.isfinite(evasion), winner, -1),
        attacks=[c.attack.name for c in cells],
    )
