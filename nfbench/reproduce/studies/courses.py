"""How a loss falls in the course of training: when, how far and how suddenly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMOOTHED = 0.02
"""Share of all steps that a loss is averaged over."""
STEEP = 0.05
"""Share of all steps in which the steepest part of a decrease is looked for."""


def averaged(losses: Array) -> Array:
    """Means over the latest 2 % of all steps, or over those there are. (steps,) -> (steps,)"""
    window = max(1, round(SMOOTHED * len(losses)))
    summed = np.concatenate([[0.0], np.cumsum(losses, dtype=np.float64)])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((summed[ends] - summed[starts]) / (ends - starts))


def steps_until(losses: Array, level: float) -> Array:
    """Steps until each loss is at most `level`; infinite if it never is. (S, steps) -> (S,)"""
    reached = losses <= level
    return np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf)


def steepest(losses: Array) -> Array:
    """The greatest fall within 5 % of all steps; 0 where nothing falls. (S, steps) -> (S,)"""
    span = min(max(1, round(STEEP * losses.shape[1])), losses.shape[1] - 1)
    if not span:
        return np.zeros(len(losses))
    return np.asarray(np.maximum(losses[:, :-span] - losses[:, span:], 0).max(1))


def decreased(losses: Array) -> Array:
    """What is left of each loss's whole decrease, 1 at its start and 0 where it is lowest. (S, steps)"""
    lowest = losses.min(1, keepdims=True)
    whole = losses[:, :1] - lowest
    return np.asarray(np.where(whole > 0, (losses - lowest) / np.where(whole > 0, whole, 1), 0.0))
