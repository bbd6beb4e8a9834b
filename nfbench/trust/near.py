"""Records from another device or of other versions, held against what comes out here."""

from __future__ import annotations

import math

from nfbench.records import CellRecord, Value
from nfbench.report.cells import BOUND, TURNABLE, turned
from nfbench.report.operating import alarm_precision
from nfbench.trust.comparing import (
    FLIPPED,
    IDENTITY,
    LATENCY,
    RELATIVE,
    ROUNDING,
    close,
    fail,
    require_equal,
    require_equal_fields,
    spared,
)
from nfbench.trust.lowering import of_the_victim

_OF_ARTIFACTS = ("inputs", "stages", "health", "notes")
"""Fields that are read from artifacts, and so are the same everywhere."""
_EXACT_COUNTS = ("attempted", "clean", "adversarial", "calibration", "undefended")
_STEEP = ("ap", "fpr_at_95_tpr", "gain")
"""Metrics that a few images move by more than their share: the first two by where these lie, the last
since it rests on two rates."""
_ORACLE, _ALARMS = "_oracle_sign", "alarm_precision_"


def require_near(said: CellRecord, found: CellRecord, *, minimises: bool, spread: float) -> None:
    """Refuse a record that is further from the one computed again than another device explains.

    What a cell is, and what is read from artifacts, must be the same. Rates may be off by three times
    the share of images whose scores may be others, or by the one image that this comes to where they
    are few; limits of intervals by twice that. Thresholds and means may be off by as much of their
    size; thresholds, of the `spread` of clean scores, too. Numbers that follow from others of the
    record must follow. No flag may be missing, and SR@5 not be lower by more than an image, or where
    the attack `minimises` by more than the images whose scores may be others.

    Raises:
        VerificationMismatch: naming cell, field and both values.
    """
    require_equal_fields(said, found, (*IDENTITY, *_OF_ARTIFACTS))
    _require_same_names(said, found)
    share = spared(exact=False, minimises=minimises)
    for name in sorted(found.metrics.keys() - LATENCY):
        _require_near_metric(said, found, name, share, spread)
    _require_derived(said)
    _require_no_lower_success(said, found, share if minimises else 0.0)
    _require_near_counts(said, found, share)
    if found.flags and not said.flags:
        fail(said.cell, "flags", said.flags, found.flags)
    require_equal(said.cell, "status", said.status, "flagged" if said.flags else "done")


def _require_same_names(said: CellRecord, found: CellRecord) -> None:
    """Refuse metrics, counts and costs that are missing, or that there are none of."""
    for field in ("metrics", "counts", "cost"):
        one, other = getattr(said, field), getattr(found, field)
        for name in sorted((one.keys() ^ other.keys()) - LATENCY):
            fail(said.cell, f"{field}.{name}", one.get(name), other.get(name))


def _require_near_metric(
    said: CellRecord, found: CellRecord, name: str, share: float, spread: float
) -> None:
    one, other = said.metrics[name], found.metrics[name]
    if one.flag.startswith(BOUND) != other.flag.startswith(BOUND):
        fail(said.cell, f"metrics.{name}.flag", one.flag, other.flag)
    if name.startswith(_ALARMS) or name.endswith(_ORACLE):
        return
    reach = _reach(name, found, share) * _size(name, other, spread)
    for part, most in (("value", reach), ("low", 2 * reach), ("high", 2 * reach)):
        before, after = getattr(one, part), getattr(other, part)
        if (before is None) != (after is None) or abs((before or 0) - (after or 0)) > most + ROUNDING:
            fail(said.cell, f"metrics.{name}.{part}", before, after)


def _reach(name: str, found: CellRecord, share: float) -> float:
    """How far a metric may be off, as a share of its size."""
    share = FLIPPED if of_the_victim(name) else share
    images = found.counts["clean"]
    moved = math.ceil(share * images)
    of_successes = name.startswith("mean_l") or name in ("mean_distance", "auroc_successes")
    rests_on = found.counts["successful"] if of_successes else images
    return (10 if name in _STEEP else 3) * max(share, moved / max(rests_on, 1) / 3)


def _size(name: str, value: Value, spread: float) -> float:
    """What a metric's error is relative to: 1 for rates, its size for others."""
    if not name.startswith(("threshold_at_", "mean_")):
        return 1.0
    largest = max(abs(part or 0.0) for part in (value.value, value.low, value.high))
    return largest + (spread if name.startswith("threshold_at_") else 0.0)


def _require_derived(said: CellRecord) -> None:
    """Refuse numbers that do not follow from others of the same record."""
    follows = alarm_precision(said.metrics["tpr_at_5_fpr"], said.metrics["fpr_realised_at_5"])
    follows |= {f"{name}{_ORACLE}": turned(said.metrics[name]) for name in TURNABLE}
    for name, value in follows.items():
        for part in ("value", "low", "high"):
            one, other = getattr(said.metrics[name], part), getattr(value, part)
            if not close(one, other, ROUNDING):
                fail(said.cell, f"metrics.{name}.{part}", one, other)


def _require_no_lower_success(said: CellRecord, found: CellRecord, share: float) -> None:
    """Refuse a defense that is said to be better than it is, by more than what lies on the edge."""
    before, after = (cell.metrics["sr_at_5_fpr"].value for cell in (said, found))
    images = found.counts["clean"]
    allowed = max(1, math.ceil(share * images))
    if before is not None and after is not None and (after - before) * images > allowed + ROUNDING:
        fail(said.cell, "metrics.sr_at_5_fpr.value", before, after)


def _require_near_counts(said: CellRecord, found: CellRecord, share: float) -> None:
    for name in _EXACT_COUNTS:
        require_equal(said.cell, f"counts.{name}", said.counts[name], found.counts[name])
    moved = math.ceil(share * found.counts["clean"])
    if abs(said.counts["successful"] - found.counts["successful"]) > moved:
        fail(said.cell, "counts.successful", said.counts["successful"], found.counts["successful"])
    for name in sorted(said.winners.keys() | found.winners.keys()):
        one, other = said.winners.get(name, 0), found.winners.get(name, 0)
        if abs(one - other) > 2 * moved:  # of which attack and of which part of it
            fail(said.cell, f"winners.{name}", one, other)
    for name, mean in found.cost.items():
        if not close(said.cost[name], mean, RELATIVE):
            fail(said.cell, f"cost.{name}", said.cost[name], mean)
