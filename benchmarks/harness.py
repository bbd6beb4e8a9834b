"""What the benchmarks share: data, a trained net, interleaved timing, and one table."""

import argparse
import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from nfbench import Classifier, Split, Splits, Training, cross_entropy
from nfbench.runner.train import train
from nfbench_models.nets import Table8

TRAIN, HELD_OUT, TEST = 3000, 400, 400


def arguments(doc: str) -> argparse.Namespace:
    """`--data-dir` and `--repeats`; one thread, and freed memory is kept, from here on."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("NFBENCH_DATA_DIR"))
    parser.add_argument("--repeats", type=int, default=5)
    torch.set_num_threads(1)
    _keep_freed_memory()
    return parser.parse_args()


def _keep_freed_memory() -> None:
    """Without it glibc gives large blocks back, and who asks for them next pays the page faults.

    They are up to a third of a forward pass, and whom they hit depends on what ran before.
    """
    trim_threshold, mmap_max = -1, -4
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def images(data_dir: Path | None) -> Splits:
    """Some of MNIST, or blobs of its shape where no data directory is given."""
    if data_dir is None:
        return blobs()
    from nfbench_datasets.standard import MNIST

    return Splits(*map(_first, MNIST().splits(Path(data_dir)), (TRAIN, HELD_OUT, TEST)))


def blobs() -> Splits:
    """Ten smooth patterns of 28 x 28 pixels, mixed and noisy, about as hard to learn as digits."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(10, 1, 7, 7, generator=generator)
    patterns = nn.functional.interpolate(coarse, (28, 28), mode="bilinear")

    def split(count: int) -> Split:
        y = torch.randint(10, (count,), generator=generator)
        other = torch.randint(10, (count,), generator=generator)
        noise = 0.15 * torch.randn(count, 1, 28, 28, generator=generator)
        x = (2 * (0.7 * patterns[y] + 0.3 * patterns[other] + noise) - 0.7).clamp(0, 1)
        return Split(x, y, torch.arange(count))

    return Splits(split(TRAIN), split(HELD_OUT), split(TEST))


def _first(split: Split, count: int) -> Split:
    return split.take(torch.arange(len(split)) < count)


def table8() -> nn.Module:
    """The paper's MNIST net; a factory as `--model` wants it."""
    return Table8().build((1, 28, 28), 10)


def trained(splits: Splits) -> Classifier:
    """`table8` after two epochs, in eval mode and frozen."""
    torch.manual_seed(0)
    training = Training(epochs=2, batch_size=64, learning_rate=1e-3)
    return train(Classifier(table8(), 10), splits, training, cross_entropy, lambda _: None)


def correct(classifier: Classifier, split: Split, count: int) -> Split:
    """The first `count` images that are classified correctly."""
    with torch.no_grad():
        right = classifier(split.x).argmax(1) == split.y
    return _first(split.take(right), count)


def timed(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """CPU seconds of each run, after a warm-up each; or of another clock.

    Taken in turns, so that all see the same machine, and each turn in another order, so that none
    always finds the caches as the same one left them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(repeats + 1):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            runs[name]()
            if repeat:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Median over the turns of how many times longer `one` took than `other`."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def show(title: str, headers: list[str], rows: list[list[object]]) -> None:
    print(f"\n{title}\n{_machine()}\n")
    print(tabulate(rows, headers, "github", floatfmt=".3f", missingval="–"))


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    isa = torch.backends.cpu.get_cpu_capability()
    return f"{cpu} ({isa}), {torch.get_num_threads()} thread(s), torch {torch.__version__}"
