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
    interval lies beyond. An attack weaker than it should be speaks only for what a stronger one would
    show all the more; one much weaker than the paper's says nothing.
    """
    assert claim.value is not None
    if not found:
        return not_tested("the run has no such cell, or none to compare it with")
    sound = [one for one in found if _blind(one) is None]
    if sound and claim.over == "each":
        verdict = _TESTS[claim.test](claim, paper, sound)
        if verdict.word == "contradicted" or len(sound) == len(found):
            return _careful(claim, verdict)
    elif sound:
        return _careful(claim, _TESTS[claim.test](claim, paper, sound))
    return next(why for one in found if (why := _blind(one)) is not None)


def _blind(one: Measured) -> Verdict | None:
    """Why nothing can be concluded from a number; None if something can."""
    if one.value.value is None:
        return Verdict("not tested", f"{one.value.flag} ({one.label})")
    if one.feeble:
        return Verdict("not tested", one.feeble, one.value, label=one.label)
    if one.value.low is None or one.value.high is None:
        why = "the scale is too small for an interval"
        return Verdict("inconclusive", why, one.value, label=one.label)
    return None


def _careful(claim: Claim, verdict: Verdict) -> Verdict:
    """No more than can be said: of attacks of ours, and of numbers that the paper does not explain."""
    if verdict.word == "contradicted" and claim.ungiven:
        why = f"{verdict.why}; but {claim.ungiven} not given"
        return verdict._replace(word="inconclusive", why=why)
    if verdict.word == "confirmed" and claim.statistic.startswith("sr_at"):
        return verdict._replace(word="inconclusive", why=f"not refuted: {verdict.why}")
    return verdict


def _equals(claim: Claim, paper: Paper, found: Sequence[Measured]) -> Verdict:
    assert claim.value is not None
    margin = paper.margin if claim.margin is None else claim.margin
    theirs = published(claim.value, claim.kind, claim.images)
    if claim.error is not None:
        ends = claim.value - claim.error, claim.value + claim.error
        theirs = Value(value=claim.value, low=ends[0], high=ends[1])
    gaps = [less(one.value, theirs) for one in found]
    sides = [_side(gap, margin) for gap in gaps]
    outside = [i for i, side in enumerate(sides) if side in ("above", "below")]
    among = outside or range(len(gaps))
    worst = max(among, key=lambda i: abs(gaps[i].value or 0.0))
    gap, one, side = gaps[worst], found[worst], sides[worst]
    flag = f"; {one.flagged}" if one.flagged else ""
    size = said(margin, claim.kind)
    if outside:
        why = f"more than {size} {side} the paper's{flag}"
        return Verdict("contradicted", why, one.value, gap, one.label)
    if all(side == "within" for side in sides):
        return Verdict("confirmed", f"within {size} of the paper's{flag}", one.value, gap, one.label)
    why = f"the interval reaches across ±{size}"
    return Verdict("inconclusive", why, one.value, gap, one.label)


def said(number: float, kind: Kind) -> str:
    """A margin or a bound, in the units of the tables."""
    return f"{number:g}" if kind == "mean" else f"{100 * number:g} %"


def _side(gap: Value, margin: float) -> str:
    assert gap.low is not None
    assert gap.high is not None
    if -margin <= gap.low and gap.high <= margin:
        return "within"
    return "above" if gap.low > margin else "below" if gap.high < -margin else "across"


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
    broken = [one for one in found if ends(one.value)[1] < bound]
    worst = min(broken or found, key=lambda one: sign * (one.value.value or 0.0))
    gap = less(worst.value, Value(value=claim.value, low=claim.value, high=claim.value))
    wanted = f"{'at least' if sign > 0 else 'at most'} {said(claim.value, claim.kind)}"
    many = f" ({len(broken)} of {len(found)})" if len(found) > 1 else ""
    kept = all(ends(one.value)[0] >= bound for one in found)
    # A stronger attack moves most numbers down, and its own success up.
    exposed = (sign > 0) == (not claim.statistic.startswith(("sr_at", "success_rate")))
    weak = next((one.flagged for one in (broken or found) if one.flagged), "")
    feeble = "the attack is weaker than it should be"
    if broken and not (weak and not exposed):
        return Verdict("contradicted", f"not {wanted}{many}", worst.value, gap, worst.label)
    if broken:
        return Verdict("inconclusive", f"not {wanted}, but {feeble}", worst.value, gap, worst.label)
    if kept and not (weak and exposed):
        return Verdict("confirmed", wanted, worst.value, gap, worst.label)
    if kept:
        return Verdict("inconclusive", f"{wanted}, but {feeble}", worst.value, gap, worst.label)
    why = f"an interval reaches across {said(claim.value, claim.kind)}"
    return Verdict("inconclusive", why, worst.value, gap, worst.label)


_TESTS: Mapping[Test, Callable[[Claim, Paper, Sequence[Measured]], Verdict]] = {
    "equals": _equals,
    "at-least": _at_least,
    "at-most": _at_most,
    "spread-at-most": _at_most,
}


def too_weak(reached: Reached, name: str, accuracy: float) -> str:
    """Why a classifier is not the paper's: too few clean images are classified correctly; else empty."""
    if math.isnan(accuracy) or accuracy >= reached.accuracy - reached.slack:
        return ""
    return (
        f"{name}'s classifier has {100 * accuracy:.1f} % clean accuracy here, "
        f"the paper's {100 * reached.accuracy:g} %"
    )
