"""From arrays in any order and layout to splits in one order."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from nfbench import DataMissing, Split, Splits, UsageError

_IMAGE = 32
"""Bytes of a key that identify the image; the rest is its label."""


class Part(NamedTuple):
    """One set of images, uint8 or float32 in [0, 1], in any order."""

    x: NDArray[Any]  # (N, C, H, W)
    y: NDArray[np.int64]  # (N,)
    keys: list[bytes]
    """A digest of each image, then its label; images are sorted by them."""


def part_of(x: NDArray[Any], y: NDArray[Any], where: str) -> Part:
    """Images of any usual layout and their labels, keyed by their pixels.

    Raises:
        UsageError: naming `where` they come from, if they are not that.
    """
    images, labels = _channels_first(x, where), _class_labels(y, where)
    if len(images) != len(labels):
        raise UsageError(f"{where} has {len(images)} images but {len(labels)} labels")
    images = np.ascontiguousarray(images)
    rows = images.reshape(len(images), -1)
    return Part(images, labels, [key_of(*pair) for pair in zip(rows, labels.tolist(), strict=True)])


def _channels_first(x: NDArray[Any], where: str) -> NDArray[Any]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, as (N, C, H, W)."""
    if x.ndim == 3:
        return x[:, None]
    last, second = (x.ndim == 4 and x.shape[axis] in (1, 3) for axis in (3, 1))
    if last == second:
        why = "could be NHWC or NCHW" if last else "is none of NHW, NHWC and NCHW with 1 or 3 channels"
        raise UsageError(
            f"{where} has images of shape {x.shape}, which {why}; transpose them to one of these"
        )
    return x.transpose(0, 3, 1, 2) if last else x


def _class_labels(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    """(N,) or (N, 1) integers from 0, as (N,)."""
    if y.ndim not in (1, 2) or y.shape[1:] not in ((), (1,)) or y.dtype.kind not in "iu":
        raise UsageError(
            f"{where} must have integer labels of shape (N,), not {y.dtype} of shape {y.shape}"
        )
    if y.size and not 0 <= y.min() <= y.max() < 2**31:
        raise UsageError(
            f"{where} must have labels 0, 1, 2, …, but they range from {y.min()} to {y.max()}"
        )
    return y.reshape(-1).astype(np.int64)


def key_of(image: Any, label: int) -> bytes:
    """The key of an image of which `image` holds the bytes."""
    return sha256(image).digest() + label.to_bytes(8, "big")


def digest(train: Part, test: Part) -> str:
    """Content address that does not depend on the order of the images."""
    parts = (sha256(b"".join(sorted(part.keys))).digest() for part in (train, test))
    return sha256(b"".join(parts)).hexdigest()


def split(train: Part, test: Part, calibration: int) -> Splits:
    """Splits in the order of the keys, whatever order the images came in.

    That order is as good as a shuffle and needs no seed. The first `calibration` training images are
    held out, fewer where copies of one image would end up on both sides. `index` counts along the
    order, train and calibration together.
    """
    order = _order(train)
    images = [train.keys[row][:_IMAGE] for row in order]
    while 0 < calibration < len(order) and images[calibration - 1] == images[calibration]:
        calibration -= 1
    return Splits(
        train=_take(train, order, calibration, len(order)),
        calibration=_take(train, order, 0, calibration),
        test=_take(test, _order(test), 0, len(test.keys)),
    )


def _order(part: Part) -> list[int]:
    return sorted(range(len(part.keys)), key=part.keys.__getitem__)


def _take(part: Part, order: Sequence[int], start: int, stop: int) -> Split:
    rows = np.asarray(order[start:stop], dtype=np.int64)
    images = torch.from_numpy(part.x[rows])
    x = images.float().div_(255) if images.dtype == torch.uint8 else images
    return Split(x, torch.from_numpy(part.y[rows]), torch.arange(start, stop))


def read_npz(file: Path) -> dict[str, NDArray[Any]]:
    """x_train, y_train, x_test and y_test of a file; nothing is unpickled.

    Raises:
        DataMissing: if it is absent or damaged.
        UsageError: if it holds other arrays.
    """
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            absent = [key for key in keys if key not in members]
            arrays = {} if absent else {key: _array(archive, members[key]) for key in keys}
    except Exception as error:  # zip, zlib and NumPy's header parser raise errors of their own
        raise DataMissing(f"can't read {file} as an npz of plain arrays ({one_line(error)})") from None
    if absent:
        raise UsageError(f"{file} lacks {', '.join(absent)}; it must hold {', '.join(keys)}")
    return arrays


def _array(archive: ZipFile, member: str) -> NDArray[Any]:
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def one_line(error: Exception) -> str:
    """The first line of what went wrong, without the number and path of a system error."""
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return lines[0].rstrip(":") if lines else type(error).__name__
