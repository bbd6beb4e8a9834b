"""The real 8 x 8 handwritten digits that scikit-learn ships: no file, no network."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from nfbench import DataMissing, Dataset, Defaults, Split, Splits, Training, seed_of

_TRAIN, _CALIBRATION = 1000, 400
_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pixels and labels in scikit-learn's order, as uint8."""
_CW_FP = {
    "binary_search_steps": 4,
    "gamma2_steps": 8,
    "steps": 150,
    "learning_rate": 0.05,
    "initial_gamma1": 0.1,
}


class Digits(Dataset):
    """1797 grey digits of 8 x 8 pixels in 17 grey levels (UCI, Alpaydin & Kaynak 1998)."""

    name = "digits"
    shape = (1, 8, 8)
    num_classes = 10
    defaults: ClassVar[Defaults] = Defaults(
        model="digits-mlp",
        training=Training(epochs=40, batch_size=64, learning_rate=2e-3),
        eps={"linf": 0.25, "l2": 1.5, "l1": 4, "l0": 20},
        limit=300,
        train_limit=500,
        plugins={
            "neuralfp": {"fingerprints": 10, "eps": 0.1},
            "feature-squeezing": {"bits": 1, "median": None},  # a median blots out strokes of 1 pixel
            "kd": {"bandwidth": 0.5},
            "kd+bu": {"bandwidth": 0.5},
            "bim-a": {"step": 0.01},
            "bim-b": {"step": 0.01},
            "cw": {"binary_search_steps": 5, "steps": 200, "initial_const": 0.1, "learning_rate": 0.05},
            "cw-fp": _CW_FP,
            "cw-fp-one": _CW_FP,
            "spsa": {"steps": 40, "samples": 64, "learning_rate": 0.02},
            "square": {"queries": 1000},
            "square-l2": {"queries": 1000},
            "hopskipjump": {"queries": 1000},
            "hopskipjump-linf": {"queries": 1000},
            "random-search": {"points": 2000},
            "detector-breaker": {"budget": "quick"},
            "detector-breaker-l2": {"budget": "quick"},
        },
    )

    def splits(self, data_dir: Path | None) -> Splits:
        return _load()

    def digest(self, data_dir: Path | None) -> str:
        return _SHA256


@cache
def _load() -> Splits:
    from sklearn.datasets import load_digits  # a second to import, and a run may need no data

    digits = load_digits()
    content = digits.images.astype(np.uint8).tobytes() + digits.target.astype(np.uint8).tobytes()
    if sha256(content).hexdigest() != _SHA256:
        raise DataMissing("scikit-learn's digits are not the ones known; reinstall scikit-learn")
    generator = torch.Generator().manual_seed(seed_of("digits"))
    order = torch.randperm(len(digits.target), generator=generator)
    x = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)
    everything = Split(x, torch.tensor(digits.target, dtype=torch.int64), torch.arange(len(x)))
    train, calibration, test = order.tensor_split([_TRAIN, _TRAIN + _CALIBRATION])
    return Splits(everything.take(train), everything.take(calibration), everything.take(test))
