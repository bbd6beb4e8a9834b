"""Comparing what results say with what comes out: fields, vectors and metrics, and where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact, VerificationMismatch
from nfbench.reading import reason
from nfbench.records import CellRecord, Value
from nfbench.report import cells
from nfbench.report.metrics import Vector
from nfbench.report.run import Vectors
from nfbench.trust.lowering import of_worst

RELATIVE = 1e-4
"""How far scores may be off on another device or with other versions, of their size or their spread."""
FLIPPED, FLIPPED_NEAREST = 0.01, 0.1
"""Share of images whose scores, classes or winners may be others there, since they lie on the edge; the
second for attacks that minimise, all of whose images lie on the edge. One per cent was seen of these."""
ROUNDING = 1e-6
"""How far metrics of the same vectors may be off; one image more or less moves a rate by more."""
HEADLINE = ("sr_at_5_fpr", "auroc_worst", "auroc_returned", "undefended_error", "clean_accuracy")
"""Metrics that results from elsewhere are held to when they are repeated."""
_MEASURED = frozenset({"timing", "environment", "origins", "schema_version"})
LATENCY = frozenset({"latency_ms", "latency_ratio"})
"""Metrics and fields that are other ones each time."""
IDENTITY = (
    *("cell", "defense", "defender", "caveat", "attack", "threat_model", "objectives", "norm", "eps"),
    *("adaptive", "asks_victim", "aims_at_threshold", "follows_gradient", "dataset", "model", "seed"),
)
"""Fields that say what a cell is."""
_ALONE = ("metrics", "counts", "cost", "stages", "winners", "health")
"""What follows from a cell alone; flags and what comes of them rest on others, too."""


def fail(cell: str, field: str, said: object, found: object) -> None:
    """Say what differs.

    Raises:
        VerificationMismatch: always, naming cell, field and both values.
    """
    raise VerificationMismatch(
        f"{cell}: {field} is {said!r:.120} in the results, and {found!r:.120} here"
    )


def same_arithmetic(environment: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether the same job gives the same bits in both environments: on CPUs, with the same versions."""

    def kind(one: Mapping[str, Any]) -> list[Any]:
        return [one.get(key) for key in ("nfbench", "python", "packages", "cpu_capability")]

    devices = [str(one.get("device", "")) for one in (environment, here)]
    cpus = all(device.startswith("cpu") for device in devices) and devices[0] == devices[1]
    return cpus and kind(environment) == kind(here)


def spared(*, exact: bool, minimises: bool) -> float:
    """Share of images that may come out otherwise; 0 where every bit must agree."""
    if exact:
        return 0.0
    return FLIPPED_NEAREST if minimises else FLIPPED


def require_same_record(said: CellRecord, found: CellRecord) -> None:
    """Refuse a record that differs in any bit from the one computed again.

    Versions of distributions are what ran, so they may differ.

    Raises:
        VerificationMismatch: naming the field.
    """
    require_equal_fields(said, found, [f for f in CellRecord.model_fields if f not in _MEASURED])


def require_equal_fields(said: CellRecord, found: CellRecord, fields: Iterable[str]) -> None:
    """Refuse a record that differs in one of these fields.

    Raises:
        VerificationMismatch: naming it.
    """
    before, after = _plain(said), _plain(found)
    for field in fields:
        require_equal(said.cell, field, before[field], after[field])


def require_same_numbers(said: CellRecord, found: CellRecord) -> None:
    """Refuse numbers that differ in any bit from those of the cell repeated from nothing.

    Raises:
        VerificationMismatch: naming the metric.
    """
    require_equal_fields(said, found, (*IDENTITY, *_ALONE))


def require_within_intervals(said: CellRecord, found: CellRecord) -> None:
    """Refuse main metrics whose value, repeated, lies outside the interval that the record gives it.

    Only these: of a hundred 95 % intervals some are missed by results that are as they should be.

    Raises:
        VerificationMismatch: naming the metric.
    """
    for name in HEADLINE:
        value = said.metrics.get(name, Value(value=None))
        again = found.metrics.get(name, Value(value=None)).value
        if value.low is None or value.high is None or again is None:
            continue
        if not value.low - ROUNDING <= again <= value.high + ROUNDING:
            fail(said.cell, f"metrics.{name}", [value.low, value.high], again)


def require_following(cell: CellRecord, vectors: Vectors) -> None:
    """Refuse metrics, counts and costs that do not follow from the vectors of a cell.

    Where only some vectors were kept, what follows from those.

    Raises:
        CorruptArtifact: if the vectors are no vectors of a cell.
        VerificationMismatch: naming the metric.
    """
    try:
        found, counts, cost = _follows(cell, vectors)
    except Exception as error:  # vectors of wrong shapes raise whatever they lead to
        raise CorruptArtifact(f"the vectors of {cell.cell} make no sense: {reason(error)}") from None
    for name, value in found.items():
        said = cell.metrics.get(name)
        if said is None:
            fail(cell.cell, f"metrics.{name}", None, value.value)
        for part in ("value", "low", "high"):
            one, other = getattr(said, part), getattr(value, part)
            if not close(one, other, ROUNDING):
                fail(cell.cell, f"metrics.{name}.{part}", one, other)
    require_equal(cell.cell, "counts", {k: cell.counts.get(k) for k in counts}, counts)
    for name, mean in cost.items():
        if not close(cell.cost.get(name), mean, ROUNDING):
            fail(cell.cell, f"cost.{name}", cell.cost.get(name), mean)


def _follows(
    cell: CellRecord, vectors: Mapping[str, Vector]
) -> tuple[dict[str, Value], dict[str, int], dict[str, float]]:
    """Metrics, counts and costs of vectors; of a part of them, what every board shows."""
    aims = cell.aims_at_threshold
    if "adversarial_score" not in vectors:
        return of_worst(vectors, vectors["evasion_score"], aims=aims), {}, {}
    error, total = cell.metrics["undefended_error"].value, cell.counts["undefended"]
    assert error is not None
    assert total > 0
    undefended = cells.Undefended(round(error * total), total)
    found = cells.measures(vectors, undefended, aims_at_threshold=aims)
    return found, cells.counts(vectors, undefended), cells.cost(vectors)


def require_same_vectors(
    cell: str,
    said: Vectors,
    found: Vectors,
    *,
    spare: float,
    all_of_them: bool,
) -> None:
    """Refuse vectors that differ from those computed again.

    Args:
        cell: name, for messages.
        said: as they were submitted.
        found: as they come out.
        spare: share of images that may differ; 0: every bit must agree, else scores to 1e-4.
        all_of_them: whether none may be missing.

    Raises:
        VerificationMismatch: naming the vector and the first image.
    """
    if all_of_them or said.keys() - found.keys():
        require_equal(cell, "its vectors", sorted(said), sorted(found))
    for name, one in said.items():
        other = found[name]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            fail(cell, name, f"{one.dtype} {one.shape}", f"{other.dtype} {other.shape}")
        off = ~alike(one, other, spread(found) if name.endswith("score") else 1.0, exact=not spare)
        if off.sum() > math.ceil(spare * len(one)):
            place = int(off.argmax())
            fail(cell, f"{name}[{place}]", one[place].item(), other[place].item())


def require_same_pictures(
    said: Mapping[str, Mapping[str, Vector]], found: Mapping[str, Mapping[str, Vector]]
) -> None:
    """Refuse pictures to look at that are not of the images that were scored; there may be fewer.

    Raises:
        VerificationMismatch: naming the cell.
    """
    for cell, own in said.items():
        again = found.get(cell, {})
        for kind, one in own.items():
            other = again.get(kind, np.empty(0, one.dtype))
            if len(one) > len(other) or not np.array_equal(one, other[: len(one)]):
                raise VerificationMismatch(f"{cell}: its pictures, {kind}, are not of its images")


def alike(one: Vector, other: Vector, spread: float, *, exact: bool) -> Vector:
    """Where two vectors agree. (B,) bool"""
    if exact or not np.issubdtype(one.dtype, np.floating):
        return np.asarray(one == other)
    finite = np.isfinite(one) & np.isfinite(other)
    with np.errstate(invalid="ignore"):
        near = np.abs(one - other) <= RELATIVE * (np.abs(other) + spread)
    return np.asarray(np.where(finite, near, one == other))


def spread(found: Mapping[str, Vector]) -> float:
    """Interquartile range of the clean scores: what a score is to be small against."""
    low, high = np.quantile(found["calibration_score"].astype(np.float64), [0.25, 0.75])
    return float(high - low) if np.isfinite(high - low) else 1.0


def _plain(record: CellRecord) -> dict[str, Any]:
    """A record as it is written, without what may differ and without its own artifact."""
    plain = record.model_dump(mode="json")
    for plugin in ("defense", "attack", "threat_model"):
        del plain[plugin]["version"]
    plain["metrics"] = {k: v for k, v in plain["metrics"].items() if k not in LATENCY}
    plain["inputs"] = plain["inputs"][1:]
    return plain


def require_equal(cell: str, field: str, said: Any, found: Any) -> None:
    """Refuse the first difference between two pieces of plain data."""
    if isinstance(said, dict) and isinstance(found, dict) and said.keys() == found.keys():
        for key in said:
            require_equal(cell, f"{field}.{key}", said[key], found[key])
    elif said != found:
        fail(cell, field, said, found)


def close(one: float | None, other: float | None, tolerance: float) -> bool:
    """Whether two numbers agree, relative to their size where that is above 1, or both are none."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance * max(1.0, abs(other))
