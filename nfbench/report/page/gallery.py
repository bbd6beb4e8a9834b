"""Images before and after an attack, and their difference, with what classifier and detector said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nfbench.records import CellRecord
from nfbench.report.board import number
from nfbench.report.cells import budget, threshold_at_5
from nfbench.report.metrics import Vector
from nfbench.report.page.columns import ball_named
from nfbench.report.page.markup import Html, el
from nfbench.report.page.numbers import full
from nfbench.report.page.pictures import png
from nfbench.report.run import Run, Vectors

BYTES = 320_000
"""What all cards together may weigh, encoded."""
EACH = 6
"""Images that a cell shows at most."""


def gallery(run: Run) -> Html | None:
    """Cards in one folder a defense and threat model; none if the run has kept no images."""
    kept = run.images
    cells = [c for c in run.cells if c.finished and c.cell in kept and c.cell in run.samples]
    first = {c.row: c.seed for c in reversed(cells)}
    cells = [c for c in cells if c.seed == first[c.row]]
    shown = {cell.cell: list(cards) for cell, cards in _within(cells, run, kept)}
    folders: dict[tuple[str, str], list[Html]] = {}
    for cell in cells:
        if shown.get(cell.cell):
            folders.setdefault((cell.row, cell.threat_model.name), []).extend(shown[cell.cell])
    if not folders:
        return None
    drawn = [_folder(*key, cards, is_open=not i) for i, (key, cards) in enumerate(folders.items())]
    return el("div", *drawn, class_="gallery")


def _folder(name: str, threat: str, cards: Sequence[Html], *, is_open: bool) -> Html:
    title = el("summary", el("b", name), f" under {threat} ", el("small", f"{len(cards)} images"))
    box = el("div", *cards, class_="cards")
    return el("details", title, box, open=is_open, data_defense=name, data_threat=threat)


def _within(
    cells: Sequence[CellRecord], run: Run, kept: Mapping[str, Vectors]
) -> Iterator[tuple[CellRecord, list[Html]]]:
    """As many images of each cell as the page has room for; of some cells only, where they are many."""
    if not cells:
        return
    first = _cards(cells[0], run.samples[cells[0].cell], kept[cells[0].cell], 1)
    room = BYTES // max(map(len, first), default=BYTES)
    stride = max(1, math.ceil(len(cells) / max(room, 1)))
    each = min(EACH, max(1, room * stride // len(cells)))
    left = BYTES
    for cell in cells[::stride]:
        cards = _cards(cell, run.samples[cell.cell], kept[cell.cell], each)
        left -= sum(map(len, cards))
        if left < 0:
            return
        yield cell, cards


def _cards(cell: CellRecord, vectors: Vectors, images: Vectors, most: int) -> list[Html]:
    position = {int(index): i for i, index in enumerate(vectors["index"])}
    found = []
    for k, index in enumerate(images["index"].tolist()[:most]):
        if index in position:
            told = {name: v[position[index]] for name, v in vectors.items() if _per_image(v, vectors)}
            found.append(_card(cell, told, images["clean"][k], images["adversarial"][k], vectors))
    return found


def _per_image(vector: Vector, vectors: Vectors) -> bool:
    return vector.shape == vectors["index"].shape


def _card(
    cell: CellRecord, told: Mapping[str, Vector], clean: Vector, adversarial: Vector, vectors: Vectors
) -> Html:
    ball = ball_named(budget(cell))
    index, change = int(told["index"]), adversarial - clean
    largest = float(np.abs(change).max()) or 1.0
    pictures = {
        "clean": clean,
        "adversarial": adversarial,
        f"difference × {0.5 / largest:.2g}": 0.5 + change * (0.5 / largest),
    }
    sources = {name: png(pixels) for name, pixels in pictures.items()}
    drawn = [
        el(
            "figure",
            el("img", src=s, alt=f"{name} image {index}"),
            el("figcaption", name),
        )
        for name, s in sources.items()
    ]
    said = [*_said("before", *_before(told)), *_said("after", *_after(told))]
    verdict = _verdict(told, threshold_at_5(vectors))
    head = el("p", el("b", cell.attack.name), f" {ball} ", el("small", f"image {index}"))
    return el(
        "article", head, el("div", *drawn, class_="triple"), el("dl", *said), verdict,
        class_="card", data_attack=cell.attack.name, data_budget=ball,
    )  # fmt: skip


def _before(told: Mapping[str, Vector]) -> tuple[int | None, float]:
    """Class and score of the clean image; attacked images are classified correctly."""
    return (int(told["label"]) if "label" in told else None), float(told["clean_score"])


def _after(told: Mapping[str, Vector]) -> tuple[int | None, float | None]:
    """Class and score of the attacked image, as far as the run has kept them.

    A board keeps S* alone; where that is finite, it is the score of the image.
    """
    if "adversarial_prediction" in told:
        return int(told["adversarial_prediction"]), float(told["adversarial_score"])
    score = float(told["evasion_score"])
    return None, score if math.isfinite(score) else None


def _said(when: str, label: int | None, score: float | None) -> list[Html]:
    parts: list[object] = [] if label is None else [f"class {label}"]
    if score is not None:
        parts += [", "] if parts else []
        parts.append(el("span", f"score {score:.4g}", data_value=full(score)))
    return [el("dt", when), el("dd", *parts)] if parts else []


def _verdict(told: Mapping[str, Vector], threshold: float) -> Html:
    label, score = _after(told)
    wrong = bool(np.isfinite(told["evasion_score"])) if label is None else label != int(told["label"])
    if score is None or math.isnan(threshold):
        return el("p", "misclassified" if wrong else "still right", class_="verdict")
    accepted = score <= threshold
    text = f"{'misclassified' if wrong else 'still right'}, {'accepted' if accepted else 'rejected'}"
    limit = el("small", f" (threshold {number(threshold)})")
    return el("p", text, limit, class_="verdict won" if wrong and accepted else "verdict")
