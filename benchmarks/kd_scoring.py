"""What KD's scores cost beside scikit-learn's `KernelDensity.score_samples`, class by class.

Twice: its tree as it comes, whose bounds cancel far from the points, so that small bandwidths get wrong
numbers; and all points in one leaf, which is exact.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from harness import arguments, ratio, show, timed
from sklearn.neighbors import KernelDensity

from nfbench_defenses.densities import ClassDensities

PER_CLASS, CLASSES, SIZE, BATCH = 5500, 10, 128, 100
BANDWIDTHS = (0.26, 1.2, 3.7926)


def features(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Like a ReLU layer's: a centre for each class, and noise. (count, SIZE), (count,)"""
    centres = torch.rand(CLASSES, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.arange(count) * CLASSES // count
    noise = torch.randn(count, SIZE, generator=generator)
    return (centres[labels] + 0.3 * noise).relu(), labels


def rows_of(bandwidth: float, repeats: int) -> list[list[object]]:
    """Two lines of the table: the predicted class's density, and all classes'."""
    generator = torch.Generator().manual_seed(1)
    points, labels = features(PER_CLASS * CLASSES, generator)
    x, predicted = features(BATCH, generator)
    ours = ClassDensities({"points": points, "counts": labels.bincount()}, bandwidth)
    groups = [points[labels == k].double().numpy() for k in range(CLASSES)]
    trees = [KernelDensity(bandwidth=bandwidth).fit(group) for group in groups]
    leaves = [KernelDensity(bandwidth=bandwidth, leaf_size=PER_CLASS).fit(group) for group in groups]
    queries = x.double().numpy()

    def one(fits: list[KernelDensity]) -> np.ndarray:
        parts = [fit.score_samples(queries[predicted == k]) for k, fit in enumerate(fits)]
        return np.concatenate(parts)

    def every(fits: list[KernelDensity]) -> np.ndarray:
        return np.stack([fit.score_samples(queries) for fit in fits], 1)

    def under_predicted() -> np.ndarray:
        found: np.ndarray = ours.of(x, predicted)[:, 0].numpy()
        return found

    def under_all() -> np.ndarray:
        found: np.ndarray = ours(x).numpy()
        return found

    lines: list[list[object]] = []
    for mine, theirs in ((under_predicted, one), (under_all, every)):
        runs: dict[str, Callable[[], object]] = {"ours": mine}
        runs |= {"tree": partial(theirs, trees), "leaf": partial(theirs, leaves)}
        seconds = timed(runs, repeats)
        errors = [float(np.abs(1 - mine() / theirs(fits)).max()) for fits in (trees, leaves)]
        milliseconds = [1000 * sorted(seconds[name])[repeats // 2] for name in runs]
        ratios = [ratio(seconds, name, "ours") for name in ("tree", "leaf")]
        what = mine.__name__.replace("_", " ")
        lines.append([bandwidth, what, *milliseconds, *ratios, errors[0], 1e9 * errors[1]])
    return lines


def main() -> None:
    given = arguments(__doc__ or "")
    rows = [row for bandwidth in BANDWIDTHS for row in rows_of(bandwidth, given.repeats)]
    headers = ["bandwidth", "densities", "nfbench, ms", "scikit-learn, ms", "one leaf, ms"]
    headers += ["tree / nfbench", "leaf / nfbench", "error to tree", "error to leaf, 1e-9"]
    title = f"Log densities of {BATCH} images under {CLASSES} x {PER_CLASS} points of {SIZE} activations"
    show(f"{title}, CPU time", headers, rows)


if __name__ == "__main__":
    main()
