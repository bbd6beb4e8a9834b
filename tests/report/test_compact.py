"""Results folders of boards: small, the same bytes for the same run, and refused where damaged."""

import gzip
import json

import numpy as np
import pytest
from boards import Board
from safetensors.numpy import load_file, save_file

from nfbench.core.errors import CorruptArtifact
from nfbench.report import compact
from nfbench.report.board import tables
from nfbench.report.run import Run, read, write


@pytest.fixture
def run():
    board = Board()
    for seed in (0, 1):
        for defense, low in (("kd", 0.1), ("lid", np.inf)):
            for attack in ("fgsm", "pgd"):
                board.add(defense, attack, 0.5, 0.5, seed=seed, evasion=[low, low, np.inf, np.inf])
    board.add("bu", "pgd", status="failed", reason="it stumbled")
    for name in board.samples:
        board.samples[name]["test_score"] = np.arange(5, dtype=np.float32)
    first = board.cells[0].cell
    images = {"index": np.arange(2), "clean": np.zeros((2, 1, 4, 4), np.float32)}
    images["adversarial"] = images["clean"] + np.float32(0.25)
    return Run({**board.run.info, "plan": "abc"}, board.cells, board.samples, {first: images})


def test_what_is_read_back_renders_the_same(run, tmp_path):
    compact.write(run, tmp_path)
    back = read(tmp_path)
    assert list(back.cells) == list(run.cells)
    assert [t.rows for t in tables(back)] == [t.rows for t in tables(run)]
    for name, vectors in back.samples.items():
        for kind, vector in vectors.items():
            np.testing.assert_array_equal(vector, run.samples[name][kind])
    ((name, images),) = back.images.items()
    for kind, array in images.items():
        np.testing.assert_array_equal(array, run.images[name][kind])


def test_a_run_directory_keeps_its_pictures_too(run, tmp_path):
    write(tmp_path, run)
    assert read(tmp_path).images.keys() == run.images.keys()


def test_the_same_run_is_the_same_bytes(run, tmp_path):
    for name in ("one", "two"):
        compact.write(run, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_what_cells_of_a_victim_share_is_there_once(run, tmp_path):
    compact.write(run, tmp_path)
    found = load_file(tmp_path / compact.VECTORS)
    lines = [found[name].tolist() for name in found if name.endswith(".line")]
    assert sorted(n for some in lines for n in some) == list(range(8))
    assert sum(name.endswith(".clean_score") for name in found) == len(lines) < 8


def harmed(change):
    def harm(folder):
        found = load_file(folder / compact.VECTORS)
        change(found)
        save_file(found, folder / compact.VECTORS)

    return harm


def garbled(folder):
    (folder / compact.VECTORS).write_bytes(b"\xff" * 100)


def shortened(folder):
    data = gzip.decompress((folder / "results.jsonl.gz").read_bytes())
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(data[:-40]))


def cut(folder):
    path = folder / "results.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])


def twice(folder):
    data = gzip.decompress((folder / "results.jsonl.gz").read_bytes()).splitlines()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(b"\n".join([*data, data[0]])))


def outside(folder):
    line = json.loads(gzip.decompress((folder / "results.jsonl.gz").read_bytes()).splitlines()[0])
    (folder / "results.jsonl.gz").write_bytes(
        gzip.compress(json.dumps(line | {"cell": "../x"}).encode())
    )


@pytest.mark.parametrize(
    "harm",
    [
        garbled,
        shortened,
        cut,
        twice,
        outside,
        harmed(lambda found: found.pop("0.line")),
        harmed(lambda found: found.update({"0.line": found["0.line"] + 1000})),
        harmed(lambda found: found.update({"0.clean_score": found["0.clean_score"][:-1]})),
        harmed(lambda found: found.update({"0.evasion_score": found["0.evasion_score"][0]})),
        harmed(lambda found: found["0.evasion_score"].fill(np.nan)),
        harmed(lambda found: found.update({"0.index": found["0.index"] * 0})),
        harmed(lambda found: found.update({"0.index": found["0.index"].astype(float)})),
        harmed(lambda found: [found.pop(name) for name in list(found) if name.startswith("0.")]),
    ],
)
def test_damage_is_one_clear_line(run, tmp_path, harm):
    compact.write(run, tmp_path)
    harm(tmp_path)
    with pytest.raises(CorruptArtifact, match=r"is damaged|can't be read") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", ["clean", "adversarial", "index"])
def test_pictures_that_do_not_fit_together_are_refused(run, tmp_path, lost):
    compact.write(run, tmp_path)
    found = load_file(tmp_path / compact.GALLERY)
    found[f"0.{lost}"] = found[f"0.{lost}"][:1]
    save_file(found, tmp_path / compact.GALLERY)
    with pytest.raises(CorruptArtifact, match="do not fit together"):
        read(tmp_path)


def test_a_board_keeps_no_more_pictures_than_there_is_room_for(run, tmp_path, monkeypatch):
    (name,) = run.images
    monkeypatch.setattr(compact, "MOST_IMAGES", 2 * 64)
    compact.write(run, tmp_path)
    assert len(read(tmp_path).images[name]["clean"]) == 1
    monkeypatch.setattr(compact, "MOST_IMAGES", 10)
    compact.write(run, tmp_path)
    assert not read(tmp_path).images
