"""Images of one's own, from an npz file or from class folders."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from dataset_bench import all_same, complaint, pixel_rows, toy, write_damaged
from PIL import Image
from typer.testing import CliRunner

from nfbench import DataMissing, UsageError
from nfbench.cli.main import app
from nfbench_datasets.folder import ImageFolder
from nfbench_datasets.npz import Npz


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


# ---- a file of one's own


class Own(NamedTuple):
    """What the file at a place holds."""

    file: Path

    def splits(self):
        return Npz().splits(self.file)

    def digest(self):
        return Npz().digest(self.file)

    def describe(self):
        return Npz().describe(self.file)


def save(file: Path, x, y, x_test, y_test) -> Own:
    np.savez(file, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return Own(file)


def test_an_npz_says_its_shape_and_classes_and_gives_a_fifth_to_calibration(tmp_path, rng):
    own = save(tmp_path / "a.npz", *toy(rng, 50, channels=3), *toy(rng, 20, channels=3))
    facts, splits = own.describe(), own.splits()
    assert (facts.shape, facts.num_classes) == ((3, 8, 8), 2)
    assert facts.defaults.eps["l0"] == 18
    assert [len(part) for part in splits] == [40, 10, 20]
    assert not pixel_rows(splits.train) & pixel_rows(splits.calibration)


@pytest.mark.parametrize("channels", [1, 3])
def test_nhwc_and_nchw_give_the_same_splits(channels, tmp_path, rng):
    (x, y), (x_test, y_test) = toy(rng, 20, channels), toy(rng, 10, channels)
    first = save(tmp_path / "a.npz", x, y, x_test, y_test).splits()
    last = save(
        tmp_path / "b.npz", x.transpose(0, 2, 3, 1), y[:, None], x_test.transpose(0, 2, 3, 1), y_test
    ).splits()
    assert all_same(first, last)


def test_images_without_a_channel_axis_are_grey(tmp_path, rng):
    (x, y), (x_test, y_test) = toy(rng, 20), toy(rng, 10)
    grey = save(tmp_path / "a.npz", x[:, 0], y, x_test[:, 0], y_test)
    assert all_same(grey.splits(), save(tmp_path / "b.npz", x, y, x_test, y_test).splits())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_in_the_unit_interval_are_taken_as_they_are(dtype, tmp_path, rng):
    (x, y), (x_test, y_test) = toy(rng, 20), toy(rng, 10)
    own = save(tmp_path / "a.npz", (x / 510).astype(dtype), y, (x_test / 510).astype(dtype), y_test)
    test = own.splits().test
    expected = {(float(np.float32(v / 510))) for v in x_test.ravel()}
    assert test.x.dtype == torch.float32
    assert set(test.x.flatten().tolist()) == expected


def test_the_digest_of_an_npz_follows_its_content_not_its_place(tmp_path, rng):
    one = save(tmp_path / "a.npz", *toy(rng, 20), *toy(rng, 10))
    before = one.digest()
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    save(tmp_path / "a.npz", *toy(rng, 22), *toy(rng, 10))
    assert one.digest() != before
    assert Own(tmp_path / "b.npz").digest() == before


@pytest.mark.parametrize("how", ["truncated", "flipped", "noise", "array", "pickle"])
def test_an_unreadable_npz_is_missing_data(how, tmp_path, rng):
    write_damaged(tmp_path / "a.npz", how, rng)
    text = complaint(Npz(), tmp_path / "a.npz", DataMissing)
    assert "can't read" in text
    assert "a.npz" in text


def test_an_absent_npz_is_missing_data(tmp_path):
    text = complaint(Npz(), tmp_path / "nowhere.npz", DataMissing)
    assert str(tmp_path / "nowhere.npz") in text


def bad(**changes):
    """The arrays of a good file, with some of them changed."""

    def content(rng):
        (x, y), (x_test, y_test) = toy(rng, 20), toy(rng, 10)
        arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
        return arrays | {key: change(arrays[key]) for key, change in changes.items()}

    return content


def with_nan(x):
    x = x / 255
    x[0, 0, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bad(x_train=lambda x: x.astype(np.int64)), "not int64"),
        (bad(x_train=lambda x: x.astype(np.float32)), "floats must lie in [0, 1]"),
        (bad(x_train=lambda x: x / 255 - 0.5), "floats must lie in [0, 1]"),
        (bad(x_test=with_nan), "nan to nan"),
        (bad(x_train=lambda x: x[:0], y_train=lambda y: y[:0]), "has no images"),
        (bad(x_train=lambda x: x[:19]), "has 19 images but 20 labels"),
        (bad(x_train=lambda x: x[..., :3]), "could be NHWC or NCHW"),
        (bad(x_train=lambda x: x.repeat(2, axis=1)), "is none of NHW, NHWC and NCHW"),
        (bad(x_test=lambda x: x[:, :, 1:]), "test images (1, 7, 8)"),
        (bad(y_train=lambda y: y.astype(float)), "integer labels"),
        (bad(y_train=lambda y: np.eye(2, dtype=int)[y]), "integer labels"),
        (bad(y_train=lambda y: y - 1), "range from -1 to 0"),
        (bad(y_train=lambda y: y + 1), "y_train holds 2, the last is 2"),
        (bad(y_train=lambda y: y * 0, y_test=lambda y: y * 0), "at least 2 classes"),
        (bad(y_test=lambda y: y * 2), "that of y_test 2"),
    ],
)
def test_an_npz_that_is_no_dataset_is_refused(content, expected, tmp_path, rng):
    np.savez(tmp_path / "a.npz", **content(rng))
    text = complaint(Npz(), tmp_path / "a.npz", UsageError)
    assert expected in text
    assert "a.npz" in text


def test_an_npz_without_some_arrays_is_told_which(tmp_path, rng):
    np.savez(tmp_path / "a.npz", x_train=toy(rng, 5)[0], y_test=toy(rng, 5)[1])
    assert "lacks y_train, x_test;" in complaint(Npz(), tmp_path / "a.npz", UsageError)


def test_an_npz_is_benchmarked_by_its_file_name(tmp_path, rng):
    save(tmp_path / "own.npz", *toy(rng, 300), *toy(rng, 40))
    out = tmp_path / "out"
    places = ["--out", str(out), "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]
    schedule = ["--set", "training.epochs=2", "--set", "training.batch_size=20", "--limit", "20"]
    what = ["-d", "max-softmax", "-a", "fgsm", "--dataset", str(tmp_path / "own.npz")]
    result = CliRunner().invoke(app, ["run", *what, *schedule, *places])
    assert result.exit_code == 0, result.output
    assert "2 of 2 cells done" in result.stderr
    assert "fgsm" in (out / "leaderboard.md").read_text()


# ---- class folders


def write_folders(root: Path, rng: np.random.Generator, counts: dict[str, int]) -> ImageFolder:
    """PNGs of 20 x 30 pixels: class "dark" below, class "light" above mid-grey."""
    for part, count in counts.items():
        for name, base in (("light", 180), ("dark", 0)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(base, base + 60, (20, 30, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return ImageFolder(size=14)


def test_class_folders_become_labels_in_alphabetical_order(tmp_path, rng):
    own = write_folders(tmp_path, rng, {"train": 10, "test": 4})
    facts, splits = own.describe(tmp_path), own.splits(tmp_path)
    assert (facts.shape, facts.num_classes) == ((3, 14, 14), 2)
    assert [len(part) for part in splits] == [16, 4, 8]
    for part in splits:
        assert part.x.shape[1:] == facts.shape
        assert torch.equal(part.y, (part.x.mean((1, 2, 3)) > 0.5).long())


def test_the_shorter_side_is_resized_and_the_centre_cropped(tmp_path):
    for part in ("train", "test"):
        for name, level in (("a", 100), ("b", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = np.full((64, 128, 3), 255, dtype=np.uint8)
            pixels[4:60, 36:92] = level  # what is left of 64 x 128 after cropping 56 from the centre
            Image.fromarray(pixels).save(tmp_path / part / name / "0.png")
    splits = ImageFolder(size=56).splits(tmp_path)
    assert (splits.test.x * 255).unique().tolist() == [100, 200]


def test_the_digest_of_folders_sees_names_and_bytes(tmp_path, rng):
    own = write_folders(tmp_path / "a", rng, {"train": 3, "test": 2})
    for name in "bcd":
        shutil.copytree(tmp_path / "a", tmp_path / name)
    (tmp_path / "c" / "train" / "dark" / "2.png").rename(tmp_path / "c" / "train" / "dark" / "9.png")
    (tmp_path / "d" / "test" / "dark" / "1.png").write_bytes(b"other")
    for ignored in ("notes.txt", "._0.png"):
        (tmp_path / "b" / "test" / "dark" / ignored).write_bytes(b"not an image")
    (tmp_path / "b" / "test" / ".cache").mkdir()
    a, b, c, d = (own.digest(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def remove(*parts: str):
    return lambda root: shutil.rmtree(root.joinpath(*parts))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (remove(), "needs --data-dir DIR with DIR/train"),
        (remove("train"), "needs --data-dir DIR with DIR/train"),
        (remove("test"), "needs --data-dir DIR with DIR/train"),
        (remove("test", "dark"), "only one has dark"),
        (lambda root: [remove(part, "dark")(root) for part in ("train", "test")], "at least 2"),
        (lambda root: [p.unlink() for p in (root / "test" / "dark").iterdir()], "holds no images"),
        (lambda root: (root / "train" / "dark" / "1.png").write_bytes(b"\x89PNG"), "1.png"),
    ],
)
def test_folders_that_are_no_dataset_are_missing_data(damage, expected, tmp_path, rng):
    own = write_folders(tmp_path / "data", rng, {"train": 3, "test": 2})
    damage(tmp_path / "data")
    assert expected in complaint(own, tmp_path / "data", DataMissing)


def test_folders_need_a_data_dir():
    assert "--data-dir DIR" in complaint(ImageFolder(), None, DataMissing)
