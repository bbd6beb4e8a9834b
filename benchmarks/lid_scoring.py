"""LID estimates beside the released code's way: SciPy's distances and a full sort of them all."""

import statistics
import time
from collections.abc import Iterable

import numpy as np
import torch
from harness import arguments, correct, images, ratio, show, timed
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from nfbench import Classifier, Images, Split, Trace, Training, cross_entropy
from nfbench.runner.train import train
from nfbench_defenses.lid_distances import rows_of
from nfbench_defenses.lid_layers import Profile
from nfbench_models.lid_nets import MNISTLid

MINIBATCH, MINIBATCHES, K = 100, 2, 20
EPS, SIGMA = 0.31, 0.27
"""Size of FGSM's perturbations, and of Gaussian noise about as large."""


class Remembering(Classifier):
    """Knows the activations of images it has seen, so that only what comes after is timed."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__(network, num_classes)
        self.traces: dict[tuple[int, int], Trace] = {}

    def trace(self, x: Images, names: Iterable[str] | None = None) -> Trace:
        key = x.data_ptr(), len(x)
        if key not in self.traces:
            with torch.no_grad():
                self.traces[key] = super().trace(x)
        return self.traces[key]


def kinds_of(classifier: Classifier, split: Split) -> list[Images]:
    """Clean images, the same after FGSM, and the same with noise."""
    x = split.x.clone().requires_grad_()
    slope = torch.autograd.grad(cross_entropy(classifier, x, split.y), x)[0]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    others = [(split.x + EPS * slope.sign()).clamp(0, 1), (split.x + SIGMA * noise).clamp(0, 1)]
    return [split.x, *others]


def estimates(queries: list[np.ndarray], reference: list[np.ndarray]) -> np.ndarray:
    """LID of images at each layer as the released code computes it. (B, L)"""
    columns = []
    for query, batch in zip(queries, reference, strict=True):
        nearest = np.sort(cdist(query, batch), 1)[:, 1 : K + 1]
        columns.append(-K / np.log(nearest / nearest[:, -1:]).sum(1))
    return np.stack(columns, 1)


class Contest:
    """The same activations for all: minibatches of clean, attacked and noisy images."""

    def __init__(self, classifier: Remembering, split: Split, reference: Images) -> None:
        self.classifier = classifier
        parts = zip(*(x.split(MINIBATCH) for x in kinds_of(classifier, split)), strict=True)
        self.minibatches = [list(kinds) for kinds in parts]
        self.flat = [[self._flat(x) for x in kinds] for kinds in self.minibatches]
        self.fixed = Profile(classifier, reference, None, K)
        self.flat_reference = self._flat(reference)

    def _flat(self, x: Images) -> list[np.ndarray]:
        trace = self.classifier.trace(x)
        layers = [x, *trace.activations.values(), trace.logits.softmax(1)]
        return [np.ascontiguousarray(rows_of(layer).numpy()) for layer in layers]

    def paired(self) -> list[Tensor]:
        found = []
        for kinds in self.minibatches:
            profile = Profile(self.classifier, kinds[0], None, K)
            found += [profile.look(x)[1] for x in kinds]
        return found

    def scipy_paired(self) -> list[np.ndarray]:
        return [estimates(layers, kinds[0]) for kinds in self.flat for layers in kinds]

    def disjoint(self) -> list[Tensor]:
        return [self.fixed.look(x)[1] for kinds in self.minibatches for x in kinds]

    def scipy_disjoint(self) -> list[np.ndarray]:
        return [estimates(layers, self.flat_reference) for kinds in self.flat for layers in kinds]


def difference(ours: list[Tensor], theirs: list[np.ndarray]) -> float:
    """Largest relative difference of an estimate."""
    wanted = np.concatenate(theirs)
    return float((np.abs(torch.cat(ours).numpy() - wanted) / wanted).max())


def main() -> None:
    given = arguments(__doc__ or "")
    splits = images(given.data_dir)
    torch.manual_seed(0)
    network = MNISTLid().build((1, 28, 28), 10)
    training = Training(epochs=2, batch_size=64, learning_rate=1e-3)
    classifier = train(Remembering(network, 10), splits, training, cross_entropy, lambda _: None)
    split = correct(classifier, splits.test, MINIBATCH * MINIBATCHES)
    contest = Contest(classifier, split, splits.calibration.x[:MINIBATCH])
    layers = contest.disjoint()[0].shape[1]
    headers = ["reference", "SciPy, s", "nfbench, s", "SciPy / nfbench", "goal", "apart, 1e-6"]
    clocks = (1, time.process_time, "CPU time"), (2, time.perf_counter, "wall time")
    for threads, clock, kind in clocks:
        torch.set_num_threads(threads)
        rows: list[list[object]] = []
        for name in ("paired", "disjoint"):
            runs = {"nfbench": getattr(contest, name), "SciPy": getattr(contest, f"scipy_{name}")}
            apart = difference(runs["nfbench"](), runs["SciPy"]())
            with torch.no_grad():
                seconds = timed(runs, given.repeats, clock)
            median = [statistics.median(seconds[side]) for side in ("SciPy", "nfbench")]
            rows.append([name, *median, ratio(seconds, "SciPy", "nfbench"), ">= 10", 1e6 * apart])
        title = f"LID of {3 * len(split)} images at {layers} layers, {kind}, activations given"
        show(title, headers, rows)


if __name__ == "__main__":
    main()
