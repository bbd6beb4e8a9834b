"""What the figures show, as numbers: ROC, ladders of worst cases, histograms of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nfbench.report.metrics import Vector
from nfbench.report.page.numbers import sr5_of
from nfbench.report.page.places import Faced, Place
from nfbench.report.secrecy import LADDER


class Point(NamedTuple):
    """A rate with its interval, somewhere on an axis."""

    x: float
    y: float
    low: float | None
    high: float | None
    flagged: bool
    """Whether it rests on an attack that is weaker than it should be."""


BINS = 32


def detection_rates(seeds: Sequence[Faced], false_alarms: Vector) -> Vector:
    """The ROC: share of attacked images detected at given false-alarm rates, mean over seeds. (F,)

    At each rate the lowest threshold that is a clean score and rejects no larger share of the clean
    images; images that were never misclassified count as detected. At 1 everything is rejected.
    """
    curves = []
    for seed in seeds:
        thresholds = np.sort(seed.clean)[::-1]
        allowed = np.floor(false_alarms * len(thresholds) + 1e-9).astype(int)
        cut = thresholds[np.minimum(allowed, len(thresholds) - 1)]
        passed = np.searchsorted(np.sort(seed.evasion), cut, side="right")
        passed = np.where(np.isposinf(cut), np.isfinite(seed.evasion).sum(), passed)
        curves.append(np.where(allowed >= len(thresholds), 1.0, 1 - passed / len(seed.evasion)))
    found: Vector = np.mean(curves, axis=0)
    return found


def radii(where: Sequence[Place]) -> dict[tuple[str, str], list[Place]]:
    """By threat model and norm the places with a radius, where there are several."""
    found: dict[tuple[str, str], list[Place]] = {}
    for place in where:
        if place.eps is not None and place.faced:
            found.setdefault((place.threat, place.norm), []).append(place)
    return {key: rungs for key, rungs in found.items() if len(rungs) > 1}


def ladders(where: Sequence[Place]) -> dict[str, list[Place]]:
    """By budget the rungs of knowledge, least first, where there are several."""
    found = {}
    for ball in dict.fromkeys(p.ball for p in where):
        there = {p.threat: p for p in where if p.ball == ball and p.faced}
        found[ball] = [there[name] for name in LADDER if name in there]
    return {ball: rungs for ball, rungs in found.items() if len(rungs) > 1}


def worst_lines(rungs: Sequence[Place], at: Sequence[float]) -> dict[str, list[Point]]:
    """By defense SR@5 % of its worst case at each rung that has one."""
    found: dict[str, list[Point]] = {}
    for x, place in zip(at, rungs, strict=True):
        for name, entry in place.worst.items():
            rate = sr5_of(entry)
            if not entry.note and rate.value is not None:
                point = Point(x, rate.value, rate.low, rate.high, entry.flagged)
                found.setdefault(name, []).append(point)
    return found


def score_shares(faced: Faced) -> tuple[list[float], Mapping[str, list[float]]]:
    """Edges of bins over nearly all scores and the threshold, and what share of each kind is in each.

    Scores beyond the edges are in the last bins; images never misclassified are in none, so that the
    shares of `adversarial` sum to the success rate.
    """
    reached = faced.evasion[np.isfinite(faced.evasion)]
    kinds = {"clean": faced.clean, "noisy": faced.noisy, "adversarial": reached}
    pooled = np.concatenate([v[np.isfinite(v)] for v in kinds.values()])
    edges = _edges(pooled, faced.threshold)
    totals = {"clean": len(faced.clean), "noisy": len(faced.noisy), "adversarial": len(faced.evasion)}
    shares = {}
    for kind, scores in kinds.items():
        if totals[kind]:
            counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
            shares[kind] = (counts / totals[kind]).tolist()
    return edges.tolist(), shares


def _edges(pooled: Vector, threshold: float) -> Vector:
    low, high = np.percentile(pooled, [0.5, 99.5]) if len(pooled) else (0.0, 1.0)
    if np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.03 * (high - low) or abs(high) * 0.1 or 1.0
    return np.linspace(low - margin, high + margin, BINS + 1)
