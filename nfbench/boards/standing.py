"""Which cells of a board may be ranked, and why the others may not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfbench.boards.boardfile import Board
from nfbench.records import SCHEMA, CellRecord
from nfbench.report.board import number
from nfbench.report.cells import budget
from nfbench.report.metrics import Vector
from nfbench.report.run import Run
from nfbench.report.worst import SUBMITTED
from nfbench.runner.options import STRONGEST

_Place = tuple[str, str]
"""A row and a threat model."""


@dataclass(frozen=True)
class Terms:
    """What every cell of a board is held to."""

    data_sha256: str
    limit: int
    seeds: tuple[int, ...]
    named: tuple[str, ...]
    """Attacks that the board's file names."""
    asked: frozenset[str]
    """All attacks it asks for, as resolved by the run; empty where that is not known."""
    eps: Mapping[str, Sequence[float]]
    """Radii it asks for, by norm."""

    def asks_for(self, cell: CellRecord) -> bool:
        """Whether every row must have what this cell has."""
        if cell.attack.name == SUBMITTED or (self.asked and cell.attack.name not in self.asked):
            return False
        known = self.eps.get(cell.norm, ())
        return cell.eps is None or not known or cell.eps in known


@dataclass(frozen=True, eq=False)
class Judged:
    """A board's results, and what is held against each cell."""

    board: Board
    terms: Terms
    stored: Run
    """As the files say."""
    shown: Run
    """The same for tables: what must not be ranked is flagged, what fits into none is skipped."""
    held: Mapping[str, tuple[str, ...]]
    """By cell: limited, or made with older data or under an older schema."""
    apart: tuple[str, ...]
    """Cells with numbers that rest on other images than their row's, so that no table has them."""

    def standing(self, cell: CellRecord) -> str:
        """`ranked`, or why not: `limited`, `older`, `flagged`, `failed` or `skipped`."""
        if not cell.finished:
            return cell.status
        if self.held[cell.cell]:
            return "limited" if self.held[cell.cell][0].startswith("limited") else "older"
        return "flagged" if cell.flags else "ranked"


def judge(board: Board, run: Run) -> Judged:
    """Hold every cell against the board's terms.

    A cell is *older* if it was made with other data than the board's, or under an older schema; it is
    *limited* if fewer images were attempted than the board asks for, or if its row lacks a seed or an
    attack. Such cells are shown and never ranked.
    """
    terms = terms_of(board, run)
    own = {c.cell: _own_reasons(c, terms) for c in run.cells if c.finished}
    gaps = _gaps([c for c in run.cells if c.finished and not own[c.cell]], run.cells, terms)
    held = {c.cell: own.get(c.cell, ()) or gaps.get(_place(c), ()) for c in run.cells if c.finished}
    apart = _apart([c for c in run.cells if c.finished], run, own)
    shown = [_marked(c, held.get(c.cell, ()), apart=c.cell in apart) for c in run.cells]
    samples = {name: vectors for name, vectors in run.samples.items() if name not in apart}
    info = {**run.info, "title": board.title or run.info.get("title", board.name)}
    if board.note:
        info["summary"] = [*run.info.get("summary", ()), board.note]
    changed = replace(run, info=info, cells=shown, samples=samples)
    return Judged(board, terms, run, changed, held, apart)


def terms_of(board: Board, run: Run) -> Terms:
    """The board's terms; what its file leaves open is taken from the run that made the results.

    The data are those of `[board] data_sha256`, else of the run, else of most of its cells.
    """
    spec: Mapping[str, Any] = run.info.get("spec", {})
    finished = [c for c in run.cells if c.finished]
    digests = Counter(str(c.dataset.get("sha256", "")) for c in finished)
    common = min(digests, key=lambda one: (-digests[one], one), default="")
    attempted = (c.counts.get("attempted", 0) for c in finished)
    limit = board.limit if board.limit is not None else spec.get("limit")
    asked = {str(attack["name"]) for attack in spec.get("attacks", ())}
    return Terms(
        data_sha256=board.data_sha256 or str(spec.get("data_sha256", "")) or common,
        limit=max(attempted, default=0) if limit is None else int(limit),
        seeds=board.seeds or tuple(spec.get("seeds", ())),
        named=board.attacks,
        asked=frozenset(asked | set(board.attacks) if asked else ()),
        eps={norm: tuple(radii) for norm, radii in spec.get("eps", {}).items()},
    )


def _place(cell: CellRecord) -> _Place:
    return cell.row, cell.threat_model.name


def _own_reasons(cell: CellRecord, terms: Terms) -> tuple[str, ...]:
    """What is held against a cell by itself."""
    found = []
    digest = str(cell.dataset.get("sha256", ""))
    if digest != terms.data_sha256:
        made, now = (one[:12] or "no digest" for one in (digest, terms.data_sha256))
        found.append(f"older data: {made}, the board's are {now}")
    if cell.schema_version != SCHEMA:
        found.append(f"older schema: {cell.schema_version}, now it is {SCHEMA}")
    attempted = cell.counts.get("attempted", terms.limit)
    if attempted < terms.limit:
        found.append(f"limited: {attempted} of {terms.limit} images")
    return tuple(found)


def _gaps(
    sound: Sequence[CellRecord], cells: Sequence[CellRecord], terms: Terms
) -> dict[_Place, tuple[str, ...]]:
    """What rows lack of the board's seeds and attacks, under each threat model.

    A cell that failed or was skipped for a reason is no gap; one that is held back is.
    """
    there: dict[_Place, set[tuple[str, str, int]]] = {_place(cell): set() for cell in cells}
    columns: dict[str, set[tuple[str, str]]] = defaultdict(set)
    kept = {c.cell for c in sound}
    for cell in cells:
        pair = (cell.attack.name, budget(cell))
        if terms.asks_for(cell):
            columns[cell.threat_model.name].add(pair)
        if cell.cell in kept or not cell.finished:
            there[_place(cell)].add((*pair, cell.seed))
    nowhere = _nowhere(cells, terms)
    found: dict[_Place, tuple[str, ...]] = {}
    seeds = terms.seeds or sorted({cell.seed for cell in cells})
    for (row, threat), own in there.items():
        lacks = nowhere + [
            f"seed {seed} of {attack} ({ball})"
            for attack, ball in sorted(columns[threat])
            for seed in seeds
            if (attack, ball, seed) not in own
        ]
        if lacks:
            more = f" and {len(lacks) - 1} more" * (len(lacks) > 1)
            found[row, threat] = (f"limited: the row lacks {lacks[0]}{more}",)
    return found


def _nowhere(cells: Iterable[CellRecord], terms: Terms) -> list[str]:
    """Attacks of the board that no row has; of those that `strongest` stands for, one is enough."""
    attacks = {cell.attack.name for cell in cells}
    met = attacks | ({"strongest"} if attacks & set(STRONGEST.values()) else set())
    return [f"all of {name}" for name in terms.named if name not in met]


def _apart(
    finished: Iterable[CellRecord], run: Run, own: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Cells on other images than most of their row's, so that no worst case can be taken with them.

    Those that nothing is held against come first.
    """
    groups: dict[tuple[_Place, int], list[CellRecord]] = defaultdict(list)
    for cell in finished:
        groups[_place(cell), cell.seed].append(cell)
    found = []
    for cells in groups.values():
        images = {c.cell: _images(run.samples[c.cell]["index"]) for c in cells}
        votes = Counter(images[c.cell] for c in cells if not own[c.cell]) or Counter(images.values())
        most = min(votes, key=lambda one: (-votes[one], one))
        found += [c.cell for c in cells if images[c.cell] != most]
    return tuple(found)


def _images(index: Vector) -> bytes:
    return np.asarray(index, dtype=np.int64).tobytes()


def _marked(cell: CellRecord, reasons: tuple[str, ...], *, apart: bool) -> CellRecord:
    """For tables: flagged where it must not be ranked, without a number where it fits into none."""
    if not reasons and not apart:
        return cell
    flags = [*cell.flags, *reasons]
    if not apart:
        return cell.model_copy(update={"status": "flagged", "flags": flags, "reason": "; ".join(flags)})
    auroc, sr5 = (number(cell.metrics[n].value) for n in ("auroc_worst", "sr_at_5_fpr"))
    told = "; ".join([*flags, "other images than its row's"])
    reason = f"not in the tables, auroc_worst {auroc}, SR@5 % {sr5}: {told}"
    return cell.model_copy(update={"status": "skipped", "reason": reason, "flags": []})
