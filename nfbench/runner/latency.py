"""What a detector costs at run time: milliseconds an image, and how many times its bare classifier."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from nfbench.core.defense import Detector
from nfbench.core.values import Images
from nfbench.runner.measuring import predict, scores

BATCH = 256
"""Images at once; fewer where the dataset has no more."""
REPEATS = 7
"""Measurements, of which the median counts; one more goes before them."""


def latency(detector: Detector, images: Images) -> dict[str, float]:
    """Median wall-clock time of classifying a batch, and of scoring it too, in ms an image.

    Scores as the evaluation computes them, in one go per batch; a paired detector is timed with each
    image as its own original. Measured on this machine, so no part of a comparison across machines.
    """
    batch = images[:BATCH]
    bare = _median(lambda: predict(detector.classifier, batch), batch)
    scored = _median(lambda: scores(detector, batch), batch)
    return {
        "images": float(len(batch)),
        "classifier_ms": bare,
        "detector_ms": scored,
        "ratio": scored / bare if bare > 0 else float("nan"),
    }


def _median(work: Callable[[], object], batch: Images) -> float:
    """Milliseconds an image."""
    taken = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if batch.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 1000 * median(taken[1:]) / len(batch)
