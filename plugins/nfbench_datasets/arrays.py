"""From arrays in any order to splits in one order."""

from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nfbench import Split, Splits

Bytes = NDArray[np.uint8]


class Arrays(NamedTuple):
    """uint8 images (N, C, H, W) and integer labels (N,), twice."""

    x_train: Bytes
    y_train: NDArray[Any]
    x_test: Bytes
    y_test: NDArray[Any]


def row_hashes(x: Bytes, y: NDArray[Any]) -> NDArray[Any]:
    """A SHA-256 of each image with its label. (N,) of 32 bytes"""
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    rows = (sha256(f"{label} ".encode() + image.tobytes()).digest() for image, label in zip(flat, y, strict=True))
    return np.array(list(rows), dtype="V32")


def digest(arrays: Arrays) -> str:
    """Content address that does not depend on the order of the images."""
    total = sha256()
    for x, y in (arrays[:2], arrays[2:]):
        total.update(b"".join(sorted(row.tobytes() for row in row_hashes(x, y))))
    return total.hexdigest()


def split(arrays: Arrays, calibration: int) -> Splits:
    """Splits in the order of the images' hashes, whatever order they came in.

    Hash order is as good as a shuffle and needs no seed. The first `calibration` training images are
    held out. `index` counts along the canonical order, train and calibration together.
    """
    train, test = (_canonical(x, y) for x, y in (arrays[:2], arrays[2:]))
    rest = torch.arange(len(train)) >= calibration
    return Splits(train.take(rest), train.take(~rest), test)


def _canonical(x: Bytes, y: NDArray[Any]) -> Split:
    order = np.argsort(np.array([row.tobytes() for row in row_hashes(x, y)], dtype="S32"), kind="stable")
    images = torch.from_numpy(np.ascontiguousarray(x[order])).float().div_(255)
    labels = torch.from_numpy(np.asarray(y[order], dtype=np.int64))
    return Split(images, labels, torch.arange(len(labels)))
