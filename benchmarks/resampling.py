"""Bootstrap of AUROC, AP and FPR@95: all resamples at once beside one after the other."""

import statistics

import numpy as np
from harness import arguments, ratio, show, timed

from nfbench.report import metrics
from nfbench.stats import bootstrap

IMAGES, CELLS, LOOPED = 300, 100, 20
"""Images a cell, cells of a board, and resamples that the loop is timed on."""


def at_once(clean: bootstrap.Vector, adversarial: bootstrap.Vector) -> None:
    weights = bootstrap.draws(IMAGES)
    at = bootstrap.levels(clean, adversarial, weights, weights)
    bootstrap.auroc(at), bootstrap.average_precision(at), bootstrap.fpr_at_tpr(at)


def one_by_one(clean: bootstrap.Vector, adversarial: bootstrap.Vector) -> None:
    rng = np.random.default_rng(0)
    for _ in range(LOOPED):
        drawn = rng.integers(IMAGES, size=IMAGES)
        own, other = clean[drawn], adversarial[drawn]
        metrics.auroc(own, other), metrics.average_precision(own, other), metrics.fpr_at_tpr(own, other)


def main() -> None:
    given = arguments(__doc__ or "")
    rng = np.random.default_rng(0)
    rows: list[list[object]] = []
    for name, digits in (("no ties", 9), ("tied to tenths", 1)):
        clean, adversarial = rng.normal([[0.0], [1.0]], size=(2, IMAGES)).round(digits)
        runs = {
            "at once": lambda c=clean, a=adversarial: at_once(c, a),
            "loop": lambda c=clean, a=adversarial: one_by_one(c, a),
        }
        seconds = timed(runs, given.repeats)
        board = CELLS * statistics.median(seconds["at once"])
        slower = ratio(seconds, "loop", "at once") * bootstrap.DRAWS / LOOPED
        rows.append([name, CELLS, board, slower])
    title = f"{bootstrap.DRAWS} resamples of {IMAGES} images, three metrics"
    show(title, ["scores", "cells", "at once, s", "loop / at once"], rows)


if __name__ == "__main__":
    main()
