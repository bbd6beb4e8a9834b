"""The contract of a dataset."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch

from nfbench.core.dataset import Dataset, Defaults, Facts, Splits
from nfbench.core.values import Split
from nfbench.testing.checks import Check, clauses, expect, is_a, kind, run_all

CALIBRATION_LEAST = 19
"""Fewer calibration images allow no threshold at 5 % false alarms."""
TWINS = 0.01
"""Share of a split's images that may be in another one too: public datasets have a few duplicates."""


def check_dataset(dataset: Dataset, data_dir: Path | None = None) -> None:
    """Load `dataset` and look at it; the first broken clause raises.

    Raises:
        AssertionError: naming the cause and what to do.
        DataMissing: if its files are not there, which breaks no contract.
    """
    run_all(dataset_checks(dataset, data_dir))


def dataset_checks(dataset: Dataset, data_dir: Path | None = None) -> list[Check]:
    """The contract of a dataset, clause by clause."""
    tests = [
        _splits_are_splits,
        _facts_are_complete,
        _images_are_as_declared,
        _labels_are_classes,
        _index_is_unique,
        _splits_are_disjoint,
        _there_is_enough,
        _loads_twice_alike,
        _digest_is_stable,
    ]
    vital = [_splits_are_splits, _facts_are_complete, _images_are_as_declared]
    return clauses(dataset, _Trial(dataset, data_dir), tests, vital=vital)


class _Trial:
    """A dataset and what it loads, once."""

    def __init__(self, dataset: Dataset, data_dir: Path | None) -> None:
        self.dataset, self.data_dir = dataset, data_dir

    @cached_property
    def splits(self) -> Splits:
        return self.dataset.splits(self.data_dir)

    @cached_property
    def facts(self) -> Facts:
        return self.dataset.describe(self.data_dir)

    @cached_property
    def images(self) -> dict[str, list[bytes]]:
        """A digest of each image, by split."""
        return {
            name: [sha256(row.tobytes()).digest() for row in split.x.numpy()]
            for name, split in self.named.items()
        }

    @property
    def named(self) -> dict[str, Split]:
        return self.splits._asdict()


def _splits_are_splits(trial: _Trial) -> None:
    """It loads three splits"""
    expect(isinstance(trial.splits, Splits), f"splits must return Splits, got {kind(trial.splits)}")
    for name, split in trial.named.items():
        expect(isinstance(split, Split), f"{name} must be a Split, got {kind(split)}")
        lengths = len(split.x), len(split.y), len(split.index)
        expect(
            len(set(lengths)) == 1, f"{name}: {lengths} images, labels and indices; one each an image"
        )
        expect(len(split), f"{name} is empty")


def _facts_are_complete(trial: _Trial) -> None:
    """It declares shape, classes and defaults"""
    shape, classes, defaults = trial.facts
    sized = is_a(shape, tuple) and [is_a(n, int) and n > 0 for n in shape] == 3 * [True]
    expect(sized, f"shape = {shape!r}: give (channels, height, width)")
    expect(is_a(classes, int) and classes >= 2, f"num_classes = {classes!r}: it takes two at least")
    expect(isinstance(defaults, Defaults), f"defaults must be Defaults, got {kind(defaults)}")
    expect(defaults.model, "defaults.model is empty: name the architecture that --model stands for")
    bad = [norm for norm, eps in defaults.eps.items() if not eps > 0]
    expect(not bad, f"defaults.eps of {', '.join(bad)} must be positive, in pixel units of [0, 1]")


def _images_are_as_declared(trial: _Trial) -> None:
    """Images are float32 in [0, 1] and of the declared shape"""
    for name, split in trial.named.items():
        shape = tuple(split.x.shape[1:])
        expect(
            shape == tuple(trial.facts.shape),
            f"{name}: images are {shape}, declared is {trial.facts.shape}",
        )
        expect(
            split.x.dtype == torch.float32,
            f"{name}: images are {split.x.dtype}, not float32: use .float()",
        )
        low, high = float(split.x.min()), float(split.x.max())
        expect(
            low >= 0 and high <= 1,  # false for NaN
            f"{name}: pixels lie in [{low:g}, {high:g}], not [0, 1]: scale them here; normalisation is "
            "the "
            "network's own",
        )


def _labels_are_classes(trial: _Trial) -> None:
    """Labels are int64 and below the number of classes"""
    classes = trial.facts.num_classes
    for name, split in trial.named.items():
        expect(
            split.y.dtype == torch.int64, f"{name}: labels are {split.y.dtype}, not int64: use .long()"
        )
        low, high = int(split.y.min()), int(split.y.max())
        expect(
            low >= 0 and high < classes, f"{name}: labels lie in [{low}, {high}], not [0, {classes - 1}]"
        )
    absent = sorted(set(range(classes)) - set(trial.splits.train.y.tolist()))
    expect(
        not absent,
        f"no training image shows class {', '.join(map(str, absent[:10]))}; set num_classes right",
    )


def _index_is_unique(trial: _Trial) -> None:
    """Each image of a split has an index of its own"""
    for name, split in trial.named.items():
        expect(split.index.dtype == torch.int64, f"{name}: index is {split.index.dtype}, not int64")
        repeats = len(split) - len(split.index.unique())
        expect(not repeats, f"{name}: {repeats} indices occur again; random draws belong to an index")


def _splits_are_disjoint(trial: _Trial) -> None:
    """The splits share no images"""
    pairs = [("train", "calibration"), ("train", "test"), ("calibration", "test")]
    for one, other in pairs:
        seen = set(trial.images[one])
        common = sum(image in seen for image in trial.images[other])
        expect(
            common <= TWINS * len(trial.images[other]),
            f"{common} of {len(trial.images[other])} {other} images are in {one} too: thresholds and "
            "results "
            "would be measured on images that were learnt from; cut each split from its own rows",
        )


def _there_is_enough(trial: _Trial) -> None:
    """There are enough calibration images for a threshold"""
    count = len(trial.splits.calibration)
    expect(
        count >= CALIBRATION_LEAST,
        f"{count} calibration images allow no threshold at 5 % false alarms; hold out "
        f"{CALIBRATION_LEAST} or more",
    )


def _loads_twice_alike(trial: _Trial) -> None:
    """A second load gives the same images in the same order"""
    first = _fingerprint(trial.splits)
    again = type(trial.dataset).from_params(trial.dataset.model_dump())
    torch.manual_seed(123)  # a job's seed must not matter
    expect(
        first == _fingerprint(again.splits(trial.data_dir)),
        "a second load gives other images or another order: seed the split, and sort what a folder "
        "lists",
    )


def _digest_is_stable(trial: _Trial) -> None:
    """Its digest names its content"""
    digest = trial.dataset.digest(trial.data_dir)
    expect(
        is_a(digest, str) and len(digest) >= 32,
        f"digest = {digest!r}: give a SHA-256 of the content",
    )
    again = type(trial.dataset).from_params(trial.dataset.model_dump()).digest(trial.data_dir)
    expect(digest == again, "digest changes between two calls: nothing would ever be reused")


def _fingerprint(splits: Splits) -> bytes:
    total = sha256()
    for split in splits:
        for part in (split.x, split.y, split.index):
            total.update(part.contiguous().numpy().data)
    return total.digest()
