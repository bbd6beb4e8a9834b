"""What tests of studies share: how they are called, and their losses computed by hand."""

import math

import numpy as np

from nfbench.core.registry import Registry
from nfbench.reproduce.study import Bench, study_named

REGISTRY = Registry.load()
DIGITS = {"dataset": "digits", "model": "digits-mlp"}


def made(name, ticks=None, **parameters):
    tick = (lambda _share: None) if ticks is None else ticks.append
    return study_named(name)(Bench(REGISTRY, None, tick), **parameters)


def neuralfp(**chosen):
    return REGISTRY.find("defense", "neuralfp").load().from_params({"secret": 5, **chosen})


def fingerprint_loss_by_hand(logits, dy, labels, *, summed=False):
    """Eq. (5) in NumPy: logits (N + 1, B, K) at x and x + dx_i, dy (N, K, K)."""
    unit = logits / np.linalg.norm(logits, axis=2, keepdims=True)
    total = 0.0
    for i in range(len(dy)):
        for b, label in enumerate(labels):
            error = (unit[i + 1, b] - unit[0, b] - dy[i, label]) ** 2
            total += (error.sum() if summed else error.mean()) / len(labels)
    return total


def cross_entropy_by_hand(logits, labels):
    return float(
        np.mean(
            [
                math.log(sum(math.exp(v - row[y]) for v in row))
                for row, y in zip(logits, labels, strict=True)
            ]
        )
    )


class Sources:
    def __init__(self, **studies):
        self.studies = {name.replace("_", "-"): found for name, found in studies.items()}

    def runs(self, experiment):
        return []

    def study(self, name):
        return self.studies[name]
