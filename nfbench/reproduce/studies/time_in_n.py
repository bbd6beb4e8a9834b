"""Does time grow in a straight line with the number of fingerprints? EPFL, IV."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import numpy as np
import torch
from annotated_types import Ge, MinLen
from numpy.typing import NDArray
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Dataset
from nfbench.core.defense import FitData, cross_entropy
from nfbench.core.errors import UsageError
from nfbench.core.model import Model
from nfbench.core.recipe import Count, Recipe
from nfbench.core.values import Split
from nfbench.records import Value
from nfbench.reproduce.study import Bench, Made
from nfbench.runner.networks import build_network
from nfbench.stats.bootstrap import percentile

Array = NDArray[Any]

DRAWS = 2000
"""Resamples of the repeats behind an interval."""
WORK = ("train", "score")


class Times(Recipe):
    """All parameters of the study."""

    name = "time-in-n"
    paper = "https://openreview.net/forum?id=SJekyhCctQ"

    dataset: str = "mnist"
    model: str = "mnist-table8"
    numbers: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(3)] = (0, 2, 5, 10, 15, 20)
    """Numbers N of fingerprints; 0 is the bare classifier."""
    batch: Count = 64
    """Images of a training step, and of a batch that is scored."""
    repeats: Annotated[int, Ge(2)] = 15
    """Each measures every N, for training and for scoring, in an order of its own."""


def time_in_n(bench: Bench, **parameters: Any) -> Made:
    """Seconds of one training step and of scoring one batch, for each number of fingerprints.

    A step is loss, gradient and update by Adam; scoring with N = 0 is classifying. The numbers take
    turns in random order, so that a machine that slows down does not look like more fingerprints; one
    turn goes before those that count. Values, of the medians of the repeats, where WORK is `train` or
    `score`, with intervals by resampling the repeats:

    - r2_WORK: R² of a straight line through the seconds at each N.
    - slope_WORK: what each fingerprint adds, over the time without any, which is measured if 0 is among
      the numbers, else where the line meets it. 1 where each costs another pass.
    - rate_WORK_N: images a second.

    Args:
        bench: `tick` is called after each turn.
        parameters: those of `Times`.

    Returns:
        These values; `number` (n,), ascending; `train_seconds` and `score_seconds` (n,), medians; and
        `train_samples` and `score_samples` (repeats, n).

    Raises:
        UsageError: a parameter is unknown or out of range, numbers repeat, or nothing is called so.
        DataMissing: the files of the data set are absent.
    """
    asked = Times.from_params(parameters)
    numbers = sorted(set(asked.numbers))
    if len(numbers) < len(asked.numbers):
        raise UsageError(f"time-in-n.numbers = {list(asked.numbers)}: each once")
    work = _work(asked, numbers, bench)
    order = np.random.default_rng(0)
    taken = np.zeros((asked.repeats + 1, len(numbers), len(WORK)))
    for turn in range(len(taken)):
        for i in order.permutation(len(numbers)):
            taken[turn, i] = [_seconds(one) for one in work[i]]
        bench.tick((turn + 1) / len(taken))
    values: dict[str, Value] = {}
    arrays: dict[str, Array] = {"number": np.array(numbers)}
    for kind, name in enumerate(WORK):
        samples = taken[1:, :, kind]
        arrays |= {f"{name}_samples": samples, f"{name}_seconds": np.median(samples, axis=0)}
        values |= _told(name, np.array(numbers), samples, asked.batch)
    return Made(values, arrays)


def straightness(x: Array, y: Array) -> Array:
    """R² of the least-squares line through each row, (n,) and (..., n) -> (...); 1 if it is constant."""
    u, v = x - x.mean(), y - y.mean(axis=-1, keepdims=True)
    whole, explained = (v**2).sum(-1), (v @ u) ** 2 / (u @ u)
    return np.asarray(np.where(whole > 0, explained / np.where(whole > 0, whole, 1), 1.0))


def slope(x: Array, y: Array) -> Array:
    """What one more of x adds to y, over y at 0, along lines as above. (n,) and (..., n) -> (...)"""
    u = x - x.mean()
    steep = (y - y.mean(axis=-1, keepdims=True)) @ u / (u @ u)
    none = y[..., 0] if x[0] == 0 else y.mean(axis=-1) - steep * x.mean()
    return np.asarray(steep / none)


def _told(name: str, numbers: Array, samples: Array, batch: int) -> dict[str, Value]:
    """Values of the seconds (repeats, n)."""
    repeats = len(samples)
    chosen = np.random.default_rng(0).integers(repeats, size=(DRAWS, repeats))
    drawn, seen = np.median(samples[chosen], axis=1), np.median(samples, axis=0)  # (DRAWS, n), (n,)
    found: dict[str, tuple[Array, Array]] = {
        f"r2_{name}": (straightness(numbers, seen), straightness(numbers, drawn)),
        f"slope_{name}": (slope(numbers, seen), slope(numbers, drawn)),
    }
    for i, number in enumerate(numbers):
        found[f"rate_{name}_{number}"] = (batch / seen[i], batch / drawn[:, i])
    return {
        key: Value(value=float(value), **percentile(replicates)._asdict())
        for key, (value, replicates) in found.items()
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _work(asked: Times, numbers: Sequence[int], bench: Bench) -> list[list[Callable[[], object]]]:
    """For each N what is timed: a training step, and scoring."""
    data = bench.registry.find("dataset", asked.dataset).load().from_params({})
    model = cast("Model", bench.registry.find("model", asked.model).load().from_params({}))
    recipe = bench.registry.find("defense", "neuralfp").load()
    assert isinstance(data, Dataset)
    facts, train = data.describe(bench.data_dir), data.splits(bench.data_dir).train
    part = train.take(torch.arange(min(asked.batch, len(train))))

    def network() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return model.build(facts.shape, facts.num_classes)

    found = []
    for number in numbers:
        nets = [Classifier(build_network(network, facts, asked.model), facts.num_classes) for _ in WORK]
        defense = recipe.from_params({"fingerprints": number, "secret": 0}) if number else None
        found.append([_step(nets[0].train(), defense, part), _scoring(nets[1].eval(), defense, part)])
    return found


def _step(classifier: Classifier, defense: Any, part: Split) -> Callable[[], None]:
    optimizer = torch.optim.Adam(classifier.parameters())
    loss = cross_entropy if defense is None else defense.training_loss

    def step() -> None:
        optimizer.zero_grad()
        loss(classifier, part.x, part.y).backward()
        optimizer.step()

    return step


def _scoring(classifier: Classifier, defense: Any, part: Split) -> Callable[[], object]:
    if defense is None:
        scores: Callable[..., object] = classifier
    else:
        detector = defense.detector(classifier, defense.fit(classifier, FitData(part)))
        scores = detector.score
    return torch.no_grad()(lambda: scores(part.x))
