"""MNIST and CIFAR-10, from files in either of two layouts or downloaded by torchvision."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import ClassVar

import numpy as np
from platformdirs import user_cache_path

from nfbench import DataMissing, Dataset, Defaults, NFBenchError, Splits, Training
from nfbench_datasets.arrays import Part, digest, one_line, part_of, read_npz, split

_CALIBRATION = 5000
"""Training images held out. The released code holds out as many of CIFAR-10 and none of MNIST."""
_LIMIT = 1328
"""Test images attempted: the paper's pre-test images, 83 batches of 16."""
_PATIENCE = 5.0
"""Seconds a download may stall."""


class _Published(Dataset):
    """A dataset of which every copy holds the same images, in whatever order."""

    source: ClassVar[str]
    """Its class in `torchvision.datasets`."""
    layout: ClassVar[str]
    """Where that class keeps the files in a data directory."""
    sha256: ClassVar[str]
    """What `arrays.digest` makes of an intact copy."""

    def splits(self, data_dir: Path | None) -> Splits:
        return _load(type(self), data_dir or user_cache_path("nfbench") / "data")

    def digest(self, data_dir: Path | None) -> str:
        return self.sha256


class MNIST(_Published):
    """60 000 + 10 000 grey digits of 28 x 28 pixels (LeCun et al. 1998)."""

    name = "mnist"
    paper = "https://doi.org/10.1109/5.726791"
    shape = (1, 28, 28)
    num_classes = 10
    source = "MNIST"
    layout = "MNIST/raw"
    sha256 = "93be3ce7f8f2c546ca275be4c469330ea08b751185e4ed6397df2d1f6d16b990"
    defaults: ClassVar[Defaults] = Defaults(
        model="mnist-4conv",  # the released code's; the paper's Table 8 is mnist-table8
        training=Training(learning_rate=1e-3, batch_size=128, epochs=10),  # code: Adam, run.sh, README
        eps={
            "linf": 0.4,  # Table 2
            "l2": 2.0,  # our choice, the papers bound no L2 attack on MNIST
            "l1": 10.0,  # our choice
            "l0": 78,  # JSMA: a tenth of the pixels, in 39 pairs
        },
        limit=_LIMIT,
        train_images=55_000,
        plugins={
            "neuralfp": {"preset": "code", "fingerprints": 10, "eps": 0.1},  # Table 6, FGSM and SPSA
            "kd": {"bandwidth": 3.7926},  # code of LID, which NeuralFP says it used; Feinman's: 1.2
            "kd+bu": {"bandwidth": 3.7926},
            "feature-squeezing": {"bits": 1, "median": 2},  # Xu et al. 2018, Table IV
            "bim-a": {"step": 0.01},  # Table 12
            "bim-b": {"step": 0.01},
            "pgd-l1": {"share": 0.02},
        },
    )


class CIFAR10(_Published):
    """50 000 + 10 000 colour photographs of 32 x 32 pixels (Krizhevsky 2009, technical report)."""

    name = "cifar10"
    shape = (3, 32, 32)
    num_classes = 10
    source = "CIFAR10"
    layout = "cifar-10-batches-py"
    sha256 = "538eb605bf1d76c5a5b54cb9725cad2cff31ccae762a0376d61552591601246b"
    defaults: ClassVar[Defaults] = Defaults(
        model="cifar-table9",
        training=Training(  # as the released code runs; its README's learning rate
            optimizer="sgd",
            learning_rate=1e-2,
            momentum=0.9,
            weight_decay=1e-6,
            batch_size=128,
            epochs=80,
            augment="crop-flip",
            select="min-nll",
        ),
        eps={
            "linf": 0.05,  # Table 2
            "l2": 0.5,  # our choice, as RobustBench; Table 13 has 10 and more
            "l1": 12.0,  # Croce & Hein (2021)
            "l0": 306,  # JSMA: a tenth of the entries, in 153 pairs
        },
        limit=_LIMIT,
        train_images=45_000,
        plugins={
            "neuralfp": {"preset": "code-cifar10", "fingerprints": 30, "eps": 0.003},  # Table 6
            "kd": {"bandwidth": 0.26},  # code of LID and Feinman's
            "kd+bu": {"bandwidth": 0.26},
            "feature-squeezing": {"bits": 5, "median": 2, "non_local": (11, 3, 4)},  # Xu et al. 2018
            "bim-a": {"step": 0.005},  # Table 12
            "bim-b": {"step": 0.005},
        },
    )


@lru_cache(maxsize=1)
def _load(dataset: type[_Published], root: Path) -> Splits:
    file = root / f"{dataset.name}.npz"
    if file.is_file():
        place, (train, test) = file, _keras(dataset, file)
    else:
        place, (train, test) = root / dataset.layout, _torchvision(dataset, root)
    if digest(train, test) != dataset.sha256:
        raise _missing(dataset, f"{place} is damaged: these are not the {dataset.name} images")
    return split(train, test, _CALIBRATION)


def _keras(dataset: type[_Published], file: Path) -> tuple[Part, Part]:
    try:
        arrays = read_npz(file)
        train, test = (
            part_of(arrays.pop(f"x_{part}"), arrays.pop(f"y_{part}"), str(file))
            for part in ("train", "test")
        )
    except NFBenchError as error:
        raise _missing(dataset, str(error)) from None
    return train, test


def _torchvision(dataset: type[_Published], root: Path) -> tuple[Part, Part]:
    """Read what torchvision finds, or downloads, in `root`; a failure leaves no empty folders."""
    from torchvision import datasets

    kind, place = getattr(datasets, dataset.source), root / dataset.layout
    created = [path for path in (place, *place.parents) if not path.exists()]
    try:
        with _quiet(), _impatient():
            found = [kind(root, train=train, download=True) for train in (True, False)]
        train, test = (part_of(np.asarray(p.data), np.asarray(p.targets), str(place)) for p in found)
    except Exception as error:  # of the network, the disk, the formats, or torchvision's own
        for path in created:
            with suppress(OSError):
                path.rmdir()
        damaged, absent = f"{place} is damaged or incomplete", f"not in {root}, and the download failed"
        problem = damaged if place.exists() else absent
        raise _missing(dataset, f"{problem} ({one_line(error)})") from None
    return train, test


def _missing(dataset: type[_Published], problem: str) -> DataMissing:
    """The one line that says both ways out."""
    return DataMissing(
        f"{dataset.name}: {problem}; use --data-dir DIR with intact DIR/{dataset.layout}/* or "
        f"DIR/{dataset.name}.npz, or a network to download into a DIR without them"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torchvision's progress, and NumPy's warnings about old pickles, off the screen."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


@contextmanager
def _impatient() -> Iterator[None]:
    """Without it, a network that answers nothing would be waited for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
