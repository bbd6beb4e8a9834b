"""Anyone's images, from one file: `--dataset file.npz`."""

import math
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench import DataMissing, Dataset, Defaults, Facts, Splits, Training, UsageError
from nfbench_datasets.arrays import part_of, read_npz, split

_CALIBRATION = 5000


class Npz(Dataset):
    """x_train, y_train, x_test, y_test: images NHW, NHWC or NCHW, uint8 or float in [0, 1].

    The data directory is the file itself, so that where it lies is part of no key. A fifth of the
    training images, at most 5000, is held out for calibration.
    """

    name = "npz"
    defaults: ClassVar[Defaults] = Defaults(
        model="small-conv",
        training=Training(),
        eps={"linf": 8 / 255, "l2": 0.5},
        limit=300,
        plugins={"bim-a": {"step": 0.005}, "bim-b": {"step": 0.005}},
    )

    def splits(self, data_dir: Path | None) -> Splits:
        return self._content(data_dir).splits

    def digest(self, data_dir: Path | None) -> str:
        return self._content(data_dir).sha256

    def describe(self, data_dir: Path | None) -> Facts:
        return self._content(data_dir).facts

    def _content(self, data_dir: Path | None) -> "_Content":
        if data_dir is None:
            raise DataMissing("npz needs a file: --dataset FILE.npz")
        try:
            state = data_dir.stat()
        except OSError:
            return _read(data_dir, 0, 0)  # says why it can't
        return _read(data_dir, state.st_mtime_ns, state.st_size)


class _Content(NamedTuple):
    splits: Splits
    facts: Facts
    sha256: str


@lru_cache(maxsize=1)
def _read(file: Path, modified: int, size: int) -> _Content:
    """What a file holds, read again only when it has changed.

    Raises:
        DataMissing: if it is absent or damaged.
        UsageError: if what it holds is no classification dataset.
    """
    arrays = read_npz(file)
    train, test = (
        part_of(_unit_range(arrays[f"x_{p}"], where), arrays[f"y_{p}"], where)
        for p, where in (("train", f"train part of {file}"), ("test", f"test part of {file}"))
    )
    shape, other = train.x.shape[1:], test.x.shape[1:]
    if shape != other:
        raise UsageError(f"{file}: training images are {shape} as (C, H, W), test images {other}")
    classes = len(np.unique(train.y))
    if classes < 2 or train.y.max() >= classes or test.y.max() >= classes:
        raise UsageError(
            f"{file}: y_train must hold each of at least 2 classes 0, 1, 2, …, and y_test no others; "
            f"y_train holds {classes}, the last is {train.y.max()}, that of y_test {test.y.max()}"
        )
    budgets = {**Npz.defaults.eps, "l0": max(1, math.prod(shape) // 20) * 2}  # JSMA: a tenth, in pairs
    return _Content(
        splits=split(train, test, min(_CALIBRATION, len(train.y) // 5)),
        facts=Facts(shape, classes, Npz.defaults.model_copy(update={"eps": budgets})),
        sha256=sha256(file.read_bytes()).hexdigest(),
    )


def _unit_range(x: NDArray[Any], where: str) -> NDArray[Any]:
    """uint8 as it is, or floats in [0, 1] as float32.

    Raises:
        UsageError: for none, for other types, other ranges and NaN.
    """
    if not x.size:
        raise UsageError(f"{where} has no images")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise UsageError(f"{where} must have images of uint8 or of floats in [0, 1], not {x.dtype}")
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise UsageError(f"{where} has float images from {low:g} to {high:g}; floats must lie in [0, 1]")
    return x.astype(np.float32)
