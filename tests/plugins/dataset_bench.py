"""Small images, damaged files, and the real data where the checkout has it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nfbench import Dataset, NFBenchError, Split, Splits

SHARED = Path(__file__).parents[3] / "shared" / "data"


def pixel_rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in (split.x * 255).round().to(torch.uint8).numpy()}


def same(one: Split, other: Split) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("x", "y", "index"))


def all_same(one: Splits, other: Splits) -> bool:
    return all(same(a, b) for a, b in zip(one, other, strict=True))


def complaint(dataset: Dataset, data_dir: Path | None, kind: type[NFBenchError]) -> str:
    """What loading says; it must be one line."""
    with pytest.raises(kind) as caught:
        dataset.splits(data_dir)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert "\n" not in text
    return text


def unpacked(factory: pytest.TempPathFactory, name: str) -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no {name}: there is no shared/data beside the checkout")
    out = factory.mktemp(name)
    command = [sys.executable, str(SHARED / "unpack.py"), str(out), name]
    subprocess.run(command, check=True, capture_output=True)
    return out


def toy(rng: np.random.Generator, count: int, channels: int = 1, size: int = 8) -> tuple:
    """Dark images of class 0 and bright ones of class 1, NCHW uint8."""
    y = np.arange(count) % 2
    x = rng.integers(0, 90, (count, channels, size, size)) + 150 * y[:, None, None, None]
    return x.astype(np.uint8), y


def write_damaged(file: Path, how: str, rng: np.random.Generator) -> None:
    (x, y), keys = toy(rng, 40), ("x_train", "y_train", "x_test", "y_test")
    content = dict(zip(keys, (x, y, x, y), strict=True))
    if how == "pickle":
        content["x_train"] = np.array([Path(), None], dtype=object)
    if how == "keys":
        del content["y_test"]
    if how == "shape":
        content["x_test"] = x[0, 0]
    np.savez_compressed(file, **content)
    data = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(data[: len(data) // 2])
    if how == "flipped":
        data[len(data) // 3] ^= 255
        file.write_bytes(data)
    if how == "noise":
        file.write_bytes(rng.bytes(3000))
    if how == "array":
        with file.open("wb") as stream:
            np.save(stream, x)
