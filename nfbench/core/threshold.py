"""Operating points: the score above which an input is rejected."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def threshold(clean_scores: NDArray[Any], fpr: float) -> float:
    """The score that a fresh clean image exceeds with probability at most `fpr`.

    The order statistic of rank ceil((n + 1)(1 - fpr)) of the held-out clean scores, not an
    interpolated quantile; an image is rejected if its score lies strictly above it. NaN where
    n is too small for the rank to exist.
    """
    scores = np.sort(np.asarray(clean_scores, dtype=np.float64))
    rank = math.ceil((len(scores) + 1) * (1 - fpr) - 1e-9)
    return float(scores[rank - 1]) if 0 < rank <= len(scores) else math.nan


def spread(clean_scores: NDArray[Any]) -> float:
    """Interquartile range of the clean scores, the unit of suspicion; 1 where they are constant."""
    low, high = np.quantile(np.asarray(clean_scores, dtype=np.float64), [0.25, 0.75])
    return float(high - low) or 1.0
