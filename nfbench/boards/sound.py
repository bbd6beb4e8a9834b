"""Whether a board's results agree with themselves: numbers with vectors, intervals with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

from nfbench.core.errors import CorruptArtifact
from nfbench.records import CellRecord, Value
from nfbench.report.cells import worst_case
from nfbench.report.metrics import Vector
from nfbench.report.run import Run, Vectors

RATES = (
    "accuracy_",
    "alarm_precision_",
    "ap",
    "auroc_",
    "clean_accuracy",
    "fpr_",
    "rauc",
    "robust_accuracy_",
    "sr_",
    "success_rate",
    "tpr_",
    "undefended_error",
)
"""How names of metrics begin that lie in [0, 1]."""
CLOSE = 1e-9
"""Difference of two numbers that are the same, after a way through text."""


def require_sound(run: Run, where: str) -> None:
    """Refuse results whose numbers can't all be right.

    Raises:
        CorruptArtifact: naming the first cell, the metric and what is wrong with it.
    """
    names: set[str] = set()
    for cell in run.cells:
        if cell.cell in names:
            raise CorruptArtifact(f"{where}: cell {cell.cell!r} is there twice")
        names.add(cell.cell)
        for metric, value in cell.metrics.items():
            if trouble := broken(metric, value):
                raise CorruptArtifact(f"{where}: {metric} of cell {cell.cell!r}: {trouble}")
        if cell.finished and cell.cell in run.samples:
            for trouble in _untrue(cell, run.samples[cell.cell]):
                raise CorruptArtifact(f"{where}: {trouble}")


def broken(metric: str, value: Value) -> str:
    """What is wrong with a number and its interval; empty if nothing is."""
    low, number, high = value.low, value.value, value.high
    if low is not None and high is not None and number is not None and 0 <= low <= number <= high <= 1:
        return ""  # as nearly always
    known = [v for v in (low, number, high) if v is not None]
    trouble = ""
    if not all(map(math.isfinite, known)):
        trouble = "is not finite"
    elif any(after < before - CLOSE for before, after in pairwise(known)):
        trouble = "is a broken interval"
    elif metric.startswith(RATES) and known and not -CLOSE <= min(known) <= max(known) <= 1 + CLOSE:
        trouble = "lies outside [0, 1]"
    return trouble and f"{_text(value.value)} in [{_text(value.low)}, {_text(value.high)}] {trouble}"


def _untrue(cell: CellRecord, vectors: Vectors) -> Iterator[str]:
    """Metrics that do not follow from the cell's own vectors."""
    try:
        computed_of = recomputed(vectors)
    except ValueError as error:
        yield f"vectors of cell {cell.cell!r}: {error}"
        return
    for metric, computed in computed_of.items():
        stored = cell.metrics[metric].value if metric in cell.metrics else None
        if (stored is None) != (computed is None) or abs((stored or 0) - (computed or 0)) > CLOSE:
            yield (
                f"{metric} of cell {cell.cell!r} is stored as {_text(stored)}, "
                f"its vectors say {_text(computed)}"
            )
    images = len(vectors["evasion_score"])
    if cell.counts.get("adversarial", images) != images:
        counted = cell.counts["adversarial"]
        yield f"cell {cell.cell!r} counts {counted} attacked images, its vectors have {images}"


def recomputed(vectors: Mapping[str, Vector]) -> dict[str, float | None]:
    """SR@5 and `auroc_worst`, from S* and the clean scores."""
    found = worst_case([vectors])
    return {name: found[name] for name in ("sr_at_5_fpr", "auroc_worst")}


def _text(value: float | None) -> str:
    return "null" if value is None else repr(value)
