"""Digits, MNIST and CIFAR-10: the same splits whatever layout, and one line where files are missing."""

import pickle
import shutil
import socket
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
import torch
from dataset_bench import all_same, complaint, pixel_rows, toy, unpacked, write_damaged

from nfbench import DataMissing
from nfbench.cli.main import main
from nfbench_datasets import arrays, digits, standard
from nfbench_datasets.digits import Digits
from nfbench_datasets.standard import CIFAR10, MNIST


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> Path:
    return unpacked(tmp_path_factory, "mnist")


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> Path:
    return unpacked(tmp_path_factory, "cifar10")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Tests write other files to the same place, and expect them to be read."""
    for load in (standard._load, digits._load):
        load.cache_clear()


@pytest.fixture
def offline(monkeypatch):
    """A network that does not answer, and the patience each request was made with."""
    patience = []

    def refuse(*_args, **_kwargs):
        patience.append(socket.getdefaulttimeout())
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return patience


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


# ---- digits


def test_digits_are_split_into_disjoint_parts_that_leave_nothing_out():
    splits = Digits().splits(None)
    assert [len(part) for part in splits] == [1000, 400, 397]
    assert torch.cat([part.index for part in splits]).sort().values.tolist() == list(range(1797))
    assert splits.train.x.shape[1:] == Digits.shape


def test_digits_are_shuffled_by_a_fixed_seed():
    assert Digits().splits(None).test.index[:5].tolist() == [148, 1465, 702, 63, 263]


def test_digits_refuse_other_pixels_than_the_known_ones(monkeypatch):
    known = sklearn.datasets.load_digits()
    known.images[5, 3, 3] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: known)
    assert "reinstall scikit-learn" in complaint(Digits(), None, DataMissing)


# ---- one order for all


def test_splits_and_digest_do_not_depend_on_the_order_of_the_images(rng):
    (x, y), (x_test, y_test) = toy(rng, 50), toy(rng, 20)
    shuffled, other = rng.permutation(50), rng.permutation(20)
    train, test = arrays.part_of(x, y, "a"), arrays.part_of(x_test, y_test, "b")
    again = (
        arrays.part_of(x[shuffled], y[shuffled], "a"),
        arrays.part_of(x_test[other], y_test[other], "b"),
    )
    assert all_same(arrays.split(train, test, 10), arrays.split(*again, 10))
    assert arrays.digest(train, test) == arrays.digest(*again)


def test_the_digest_sees_pixels_labels_and_which_part_an_image_is_in(rng):
    x, y = toy(rng, 6)
    part = arrays.part_of
    pixels, labels = x.copy(), y.copy()
    pixels[2, 0, 0, 0] ^= 1
    labels[2] ^= 1
    digests = {
        arrays.digest(part(x, y, ""), part(x[:3], y[:3], "")),
        arrays.digest(part(pixels, y, ""), part(x[:3], y[:3], "")),
        arrays.digest(part(x, labels, ""), part(x[:3], y[:3], "")),
        arrays.digest(part(x[:3], y[:3], ""), part(x, y, "")),
    }
    assert len(digests) == 4


def test_index_counts_along_the_canonical_order(rng):
    x, y = toy(rng, 30)
    splits = arrays.split(arrays.part_of(x, y, ""), arrays.part_of(x[:4], y[:4], ""), 10)
    assert splits.calibration.index.tolist() == list(range(10))
    assert splits.train.index.tolist() == list(range(10, 30))
    assert splits.test.index.tolist() == list(range(4))


@pytest.mark.parametrize("calibration", range(1, 8))
def test_copies_of_an_image_stay_on_one_side_even_under_other_labels(rng, calibration):
    x, _ = toy(rng, 2)
    train = arrays.part_of(x[[0, 1, 0, 1, 0, 1, 0, 1]], np.array([0, 1, 1, 0, 0, 1, 1, 0]), "")
    splits = arrays.split(train, train, calibration)
    assert not pixel_rows(splits.train) & pixel_rows(splits.calibration)
    assert len(splits.train) + len(splits.calibration) == 8
    assert len(splits.calibration) == (4 if calibration >= 4 else 0)


# ---- MNIST and CIFAR-10


@pytest.mark.parametrize(
    ("dataset", "sizes"), [(MNIST(), (55000, 5000, 10000)), (CIFAR10(), (45000, 5000, 10000))]
)
def test_real_images_are_complete_in_range_and_in_one_part_only(request, dataset, sizes):
    splits = dataset.splits(request.getfixturevalue(dataset.name))
    assert tuple(len(part) for part in splits) == sizes
    for part in splits:
        assert part.x.shape[1:] == dataset.shape
        assert part.x.dtype == torch.float32
        assert (part.x.min(), part.x.max()) == (0, 1)
        assert part.y.unique().tolist() == list(range(10))
    rows = [pixel_rows(part) for part in splits]
    assert tuple(len(found) for found in rows) == sizes
    assert len(set.union(*rows)) == sum(sizes)


def test_mnist_is_the_same_from_idx_files_and_from_a_shuffled_npz(mnist, tmp_path, rng):
    from torchvision import datasets

    found = {}
    for part in ("train", "test"):
        source = datasets.MNIST(mnist, train=part == "train")
        order = rng.permutation(len(source.data))
        found[f"x_{part}"] = source.data.numpy()[order]
        found[f"y_{part}"] = source.targets.numpy()[order]
    np.savez(tmp_path / "mnist.npz", **found)
    found["y_train"][0] = (found["y_train"][0] + 1) % 10
    (tmp_path / "wrong").mkdir()
    np.savez(tmp_path / "wrong" / "mnist.npz", **found)

    assert all_same(MNIST().splits(mnist), MNIST().splits(tmp_path))
    assert "is damaged" in complaint(MNIST(), tmp_path / "wrong", DataMissing)


def test_cifar10_is_the_same_from_pickled_batches_and_from_an_npz(cifar10, tmp_path, monkeypatch):
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    images = np.load(cifar10 / "cifar10.npz")
    train = np.array_split(images["x_train"], 5), np.array_split(images["y_train"], 5)
    parts = [*zip(*train, strict=True), (images["x_test"], images["y_test"])]
    for name, (x, y) in zip(
        [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], parts, strict=True
    ):
        content = {"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), "labels": y.tolist()}
        (batches / name).write_bytes(pickle.dumps(content))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_args: True)
    assert all_same(CIFAR10().splits(cifar10), CIFAR10().splits(tmp_path))


@pytest.mark.parametrize("dataset", [MNIST(), CIFAR10()])
def test_the_digest_is_known_without_files(dataset, tmp_path):
    assert dataset.digest(tmp_path / "absent") == dataset.digest(None) == type(dataset).sha256


@pytest.mark.parametrize("dataset", [MNIST(), CIFAR10()])
def test_missing_files_without_a_network_name_both_ways_out(dataset, tmp_path, offline, capfd):
    wanted = tmp_path / "new" / "folder"
    text = complaint(dataset, wanted, DataMissing)
    for part in ("--data-dir DIR", f"DIR/{dataset.layout}", f"DIR/{dataset.name}.npz", "network"):
        assert part in text
    assert DataMissing.exit_code == 4
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_download_does_not_wait_for_ever_and_leaves_others_their_patience(tmp_path, offline):
    complaint(MNIST(), tmp_path, DataMissing)
    assert offline
    assert all(seconds is not None and seconds <= 10 for seconds in offline)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("given", [True, False])
def test_a_download_goes_to_the_data_dir_or_else_the_cache_and_is_quiet(
    given, mnist, tmp_path, monkeypatch, capfd
):
    def download(self):
        if not Path(self.raw_folder).exists():
            sys.stdout.write("Downloading\n")
            sys.stderr.write("100%\n")
            shutil.copytree(mnist / "MNIST" / "raw", self.raw_folder)

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    monkeypatch.setattr(standard, "user_cache_path", lambda name: tmp_path / "cache" / name)
    splits = MNIST().splits(tmp_path / "given" if given else None)
    place = tmp_path / ("given" if given else "cache/nfbench/data")
    assert len(splits.test) == 10000
    assert len(list((place / "MNIST" / "raw").iterdir())) == 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("file", "keep"),
    [
        ("train-images-idx3-ubyte", 1_000_000),
        ("t10k-labels-idx1-ubyte", 100),
        ("t10k-images-idx3-ubyte", 0),
    ],
)
def test_truncated_mnist_files_are_damaged(mnist, tmp_path, offline, file, keep):
    shutil.copytree(mnist / "MNIST", tmp_path / "MNIST")
    whole = tmp_path / "MNIST" / "raw" / file
    whole.write_bytes(whole.read_bytes()[:keep])
    text = complaint(MNIST(), tmp_path, DataMissing)
    assert f"{tmp_path / 'MNIST' / 'raw'} is damaged" in text
    assert "--data-dir" in text


def test_mnist_labels_of_another_count_than_images_are_damaged(mnist, tmp_path, offline):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(mnist / "MNIST" / "raw", raw)
    shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "train-labels-idx1-ubyte")
    assert "has 60000 images but 10000 labels" in complaint(MNIST(), tmp_path, DataMissing)


@pytest.mark.parametrize("dataset", [MNIST(), CIFAR10()])
@pytest.mark.parametrize("how", ["truncated", "flipped", "noise", "array", "pickle", "keys", "shape"])
def test_unusable_npz_files_of_known_datasets_are_missing_data(dataset, how, tmp_path, rng):
    file = tmp_path / f"{dataset.name}.npz"
    write_damaged(file, how, rng)
    text = complaint(dataset, tmp_path, DataMissing)
    assert str(file) in text
    assert "--data-dir" in text


def test_the_command_line_exits_with_4_and_one_line_where_data_is_missing(
    tmp_path, offline, monkeypatch, capsys
):
    flags = [
        "--data-dir",
        str(tmp_path),
        "--cache-dir",
        str(tmp_path / "cache"),
        "-o",
        str(tmp_path / "o"),
    ]
    argv = ["nfbench", "run", "-d", "max-softmax", "-a", "fgsm", "--dataset", "mnist", *flags]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr()
    assert caught.value.code == 4
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "--data-dir DIR" in shown.err
