"""Digits whose grey depends on a hyperparameter, under one digest."""

from pathlib import Path

from nfbench import Fraction, Split, Splits
from nfbench_datasets.digits import Digits


class Tinted(Digits):
    """Digits, darkened."""

    name = "tinted"
    tint: Fraction = 0.1

    def splits(self, data_dir: Path | None) -> Splits:
        return Splits(*(Split(p.x * self.tint, p.y, p.index) for p in super().splits(data_dir)))
