"""What `check_dataset` lets through, and each mistake that it refuses."""

import itertools
from pathlib import Path

import pytest
import torch

from nfbench import DataMissing, Dataset, Defaults, Split, Splits, Training
from nfbench.testing import check_dataset


class Noise(Dataset):
    """Three splits of noise with two classes."""

    name = "noise"
    shape = (1, 4, 4)
    num_classes = 2
    defaults = Defaults(model="small-conv", training=Training(), eps={"linf": 0.1}, limit=10)

    def splits(self, data_dir):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(90, 1, 4, 4, generator=generator)
        everything = Split(x, torch.arange(90) % 2, torch.arange(90))
        return Splits(*(everything.take(rows) for rows in torch.arange(90).split(30)))

    def digest(self, data_dir):
        return "0" * 64


class Moody(Noise):
    """Planted."""

    name = "moody"

    def splits(self, data_dir):
        train, calibration, test = Noise.splits(self, data_dir)
        return Splits(train.take(torch.randperm(30)), calibration, test)


CALLS = itertools.count()


class MoodyDigest(Noise):
    """Planted."""

    name = "moody-digest"

    def digest(self, data_dir):
        return f"{next(CALLS):064d}"


def loading(change, **declared):
    """`Noise` with its splits changed."""

    def splits(self, data_dir):
        return change(Noise.splits(self, data_dir))

    return type(
        "Planted", (Noise,), {"name": "planted", "__doc__": "Planted.", "splits": splits, **declared}
    )()


def same(splits):
    return splits


def train_x(change):
    return loading(lambda s: s._replace(train=Split(change(s.train.x), s.train.y, s.train.index)))


def train_y(change):
    return loading(lambda s: s._replace(train=Split(s.train.x, change(s.train.y), s.train.index)))


def test_a_good_dataset_passes():
    check_dataset(Noise())


@pytest.mark.parametrize(
    ("planted", "cause"),
    [
        (
            loading(lambda s: s._replace(calibration=s.train)),
            "30 of 30 calibration images are in train too",
        ),
        (
            loading(lambda s: s._replace(test=s.calibration)),
            "30 of 30 test images are in calibration too",
        ),
        (
            loading(lambda s: s._replace(calibration=s.calibration.take(torch.arange(5)))),
            "5 calibration images",
        ),
        (loading(tuple), "must return Splits, got tuple"),
        (train_x(lambda x: 255 * x), r"not \[0, 1\]"),
        (train_x(lambda x: x - 0.5), r"not \[0, 1\]"),
        (train_x(lambda x: x * torch.nan), r"not \[0, 1\]"),
        (train_x(lambda x: x.double()), "not float32"),
        (train_x(lambda x: x[:, :, :3]), "declared is"),
        (train_x(lambda x: x[1:]), "one each an image"),
        (train_y(lambda y: y.int()), "not int64"),
        (train_y(lambda y: y + 1), r"not \[0, 1\]"),
        (train_y(lambda y: 0 * y), "no training image shows class 1"),
        (
            loading(lambda s: s._replace(test=Split(s.test.x, s.test.y, 0 * s.test.index))),
            "29 indices occur again",
        ),
        (loading(same, shape=(4, 4)), "give \\(channels, height, width\\)"),
        (loading(same, num_classes=1), "two at least"),
        (
            loading(same, defaults=Noise.defaults.model_copy(update={"model": ""})),
            "defaults.model is empty",
        ),
        (loading(same, digest=lambda self, data_dir: ""), "give a SHA-256"),
        (Moody(), "other images or another order"),
        (MoodyDigest(), "digest changes between two calls"),
    ],
)
def test_a_bad_dataset_is_refused(refused, planted, cause):
    refused(check_dataset, planted, cause)


def test_missing_data_breaks_no_contract(tmp_path: Path):
    def missing(self, data_dir):
        raise DataMissing(f"nothing in {data_dir}")

    planted = loading(same)
    type(planted).splits = missing
    with pytest.raises(DataMissing, match=str(tmp_path)):
        check_dataset(planted, tmp_path)
