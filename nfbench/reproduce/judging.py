"""Verdicts: what an interval, not a point, says about a claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from nfbench.records import Value
from nfbench.report.values import less
from nfbench.reproduce.evidence import Measured
from nfbench.reproduce.paper import Claim, Kind, Paper, Reached, Test
from nfbench.stats.intervals import Interval, wilson

Word: TypeAlias = Literal["confirmed", "contradicted", "inconclusive", "not tested"]
FEEBLE = 0.05
"""How much less an attack may fool than the paper's, and still be taken for it."""
WORDS: tuple[Word, ...] = ("confirmed", "contradicted", "inconclusive", "not tested")


class Verdict(NamedTuple):
    """What came of a claim."""

    word: Word
    why: str
    ours: Value | None = None
    """Our number; where several must pass, the one that speaks most against the claim."""
    difference: Value | None = None
    """Ours less the paper's, or less the bound."""
    label: str = ""
    """What our number is of."""


def not_tested(why: str) -> Verdict:
    """Nothing is known of it."""
    return Verdict("not tested", why)


def published(value: float, kind: Kind, images: int | None) -> Value:
    """A paper's number with the interval that its number of images allows.

    A rate has Wilson's. An AUROC has Wilson's of as many images as have the variance of Hanley and
    McNeil (1982) with that many images of each kind; at 1 that tends to 2 n^2 / (n + 1). A mean, of
    which no deviation is printed, is taken as exact.
    """
    if images is None or kind == "mean":
        return Value(value=value, low=value, high=value)
    n = float(images) if kind == "rate" else _worth(value, images)
    span: Interval = wilson(value * n, n)
    return Value(value=value, low=span.low, high=span.high)


def _worth(auroc: float, images: int) -> float:
    """As how many images' rate an AUROC of `images` of each kind is sure."""
    if auroc in (0.0, 1.0):
        return 2 * images**2 / (images + 1)
    positive = auroc / (2 - auroc) - auroc**2
    negative = 2 * auroc**2 / (1 + auroc) - auroc**2
    spread = auroc * (1 - auroc)
    return spread * images**2 / (spread + (images - 1) * (positive + negative))


def judge(claim: Claim, paper: Paper, found: Sequence[Measured]) -> Verdict:
    """What our numbers say of a claim.

    A number `equals` the paper's if the interval of the difference lies within the margin, and is
    another one if it lies outside. A bound is kept if every interval keeps it, and broken if one
    interval lies beyond; a weak attack can break but not keep one.
    """
    assert claim.value is not None
    if not found:
        return not_tested("the run has no such cell")
    unknown = next((one for one in found if one.value.value is None), None)
    if unknown is not None:
        return Verdict("not tested", f"{unknown.value.flag} ({unknown.label})")
    blind = next((one for one in found if one.value.low is None or one.value.high is None), None)
    if blind is not None:
        why = "the scale is too small for an interval"
        return Verdict("inconclusive", why, blind.value, label=blind.label)
    return _TESTS[claim.test](claim, paper, found)


def _equals(claim: Claim, paper: Paper, found: Sequence[Measured]) -> Verdict:
    assert claim.value is not None
    margin = paper.margin if claim.margin is None else claim.margin
    theirs = published(claim.value, claim.kind, claim.images)
    gaps = [less(one.value, theirs) for one in found]
    worst = max(range(len(gaps)), key=lambda i: abs(gaps[i].value or 0.0))
    gap, one = gaps[worst], found[worst]
    assert gap.low is not None
    assert gap.high is not None
    if -margin <= gap.low and gap.high <= margin:
        return Verdict("confirmed", f"within {margin:g} of the paper's", one.value, gap, one.label)
    if gap.low > margin or gap.high < -margin:
        side = "above" if gap.low > margin else "below"
        why = f"more than {margin:g} {side} the paper's"
        return Verdict("contradicted", why, one.value, gap, one.label)
    why = f"the interval reaches across ±{margin:g}"
    return Verdict("inconclusive", why, one.value, gap, one.label)


def _at_least(claim: Claim, paper: Paper, found: Sequence[Measured]) -> Verdict:
    return _bound(claim, found, lambda v: (v.low or 0.0, v.high or 0.0))


def _at_most(claim: Claim, paper: Paper, found: Sequence[Measured]) -> Verdict:
    return _bound(claim, found, lambda v: (-(v.high or 0.0), -(v.low or 0.0)), sign=-1)


def _bound(
    claim: Claim,
    found: Sequence[Measured],
    ends: Callable[[Value], tuple[float, float]],
    sign: int = 1,
) -> Verdict:
    assert claim.value is not None
    bound = sign * claim.value
    worst = min(found, key=lambda one: sign * (one.value.value or 0.0))
    broken = [one for one in found if ends(one.value)[1] < bound]
    if broken:
        worst = min(broken, key=lambda one: sign * (one.value.value or 0.0))
    gap = less(worst.value, Value(value=claim.value, low=claim.value, high=claim.value))
    wanted = f"{'at least' if sign > 0 else 'at most'} {claim.value:g}"
    many = f" ({len(broken)} of {len(found)})" if len(found) > 1 else ""
    if broken:
        return Verdict("contradicted", f"not {wanted}{many}", worst.value, gap, worst.label)
    weak = next((one.flagged for one in found if one.flagged), "")
    if all(ends(one.value)[0] >= bound for one in found):
        if weak and claim.minus is None:
            why = f"{wanted}, but the attack is weaker than it should be"
            return Verdict("inconclusive", why, worst.value, gap, worst.label)
        return Verdict("confirmed", wanted, worst.value, gap, worst.label)
    why = f"an interval reaches across {claim.value:g}"
    return Verdict("inconclusive", why, worst.value, gap, worst.label)


_TESTS: Mapping[Test, Callable[[Claim, Paper, Sequence[Measured]], Verdict]] = {
    "equals": _equals,
    "at-least": _at_least,
    "at-most": _at_most,
    "spread-at-most": _at_most,
}


def too_weak(reached: Reached, name: str, accuracy: Value) -> str:
    """Why a classifier is not the paper's: too few clean images are classified correctly; else empty."""
    high = accuracy.high if accuracy.high is not None else accuracy.value
    if high is None or math.isnan(high) or high >= reached.accuracy - reached.slack:
        return ""
    return (
        f"{name}'s classifier has {100 * (accuracy.value or 0.0):.1f} % clean accuracy here, "
        f"the paper's {100 * reached.accuracy:g} %"
    )


def too_feeble(expected: Mapping[str, float], attack: str, rate: Value) -> str:
    """Why an attack is not the paper's: it fools far fewer images; else empty."""
    wanted = expected.get(attack)
    if wanted is None or rate.high is None or rate.high >= wanted - FEEBLE:
        return ""
    return (
        f"{attack} fools {100 * (rate.value or 0.0):.0f} % of the images at this scale, "
        f"the paper's {100 * wanted:.0f} %"
    )
