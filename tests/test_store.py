"""The store: keys, atomic artifacts, and what becomes of damaged ones."""

import errno
import json
import os

import pytest
import torch

from nfbench import store as store_module
from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.store import Artifact, Job, Store, write_atomic

JOB = Job("craft", {"attack": {"name": "fgsm"}, "eps": 0.1, "seed": 0}, ("a" * 32,), "a label", 3.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def artifact():
    tensors = {"x": torch.arange(6.0).view(2, 3), "flag": torch.tensor([True, False])}
    return Artifact(tensors, {"accuracy": 0.5})


def folder(store, job=JOB):
    return store.root / "v1" / job.key[:2] / job.key


def test_an_artifact_comes_back_as_it_was_put(store, artifact):
    assert JOB.key not in store
    store.put(JOB, artifact, {"seconds": 1.0})
    back = store.get(JOB.key)
    assert JOB.key in store
    assert back.info == artifact.info
    assert back.tensors.keys() == artifact.tensors.keys()
    assert all(torch.equal(back.tensors[k], v) for k, v in artifact.tensors.items())


def test_tensors_that_share_memory_are_kept_apart(store):
    shared = torch.arange(4.0)
    store.put(JOB, Artifact({"a": shared, "b": shared, "c": shared.view(2, 2).T}), {})
    assert torch.equal(store.get(JOB.key).tensors["c"], shared.view(2, 2).T)


def test_an_artifact_says_how_it_was_made(store, artifact):
    digest = store.put(JOB, artifact, {"seconds": 1.5})
    manifest = store.manifest(JOB.key)
    assert manifest["job"] == {"kind": "craft", "recipe": dict(JOB.recipe), "needs": ["a" * 32]}
    assert manifest["provenance"] == {"seconds": 1.5}
    assert manifest["sha256"] == digest


def test_the_digest_depends_on_content_and_on_nothing_else(store, artifact, tmp_path):
    first = store.put(JOB, artifact, {"seconds": 1.0})
    assert Store(tmp_path / "other").put(JOB, artifact, {"seconds": 9.0}) == first
    changed = Artifact(artifact.tensors, {"accuracy": 0.6})
    assert Store(tmp_path / "third").put(JOB, changed, {"seconds": 1.0}) != first


def test_an_artifact_that_is_there_already_stays(store, artifact):
    store.put(JOB, artifact, {"seconds": 1.0})
    store.put(JOB, Artifact({}), {"seconds": 2.0})
    assert store.manifest(JOB.key)["provenance"] == {"seconds": 1.0}


def test_no_scratch_is_left(store, artifact):
    store.put(JOB, artifact, {})
    store.put(JOB, artifact, {})
    assert [p.name for p in folder(store).parent.iterdir()] == [JOB.key]


def test_every_field_of_a_job_but_label_and_weight_is_in_its_key():
    assert Job("craft", JOB.recipe, JOB.needs, "another", 9.0).key == JOB.key
    others = [
        Job("score", JOB.recipe, JOB.needs),
        Job("craft", {**JOB.recipe, "eps": 0.2}, JOB.needs),
        Job("craft", JOB.recipe, ()),
        Job("craft", JOB.recipe, ("b" * 32,)),
    ]
    assert len({JOB.key, *(job.key for job in others)}) == 5


def test_keys_have_128_bits_and_ignore_the_order_of_the_recipe():
    assert len(bytes.fromhex(JOB.key)) == 16
    backwards = dict(reversed(list(JOB.recipe.items())))
    assert Job("craft", backwards, JOB.needs).key == JOB.key


@pytest.mark.parametrize("what", ["FORMAT", "VERSIONS"])
def test_a_new_format_or_kind_version_changes_the_key(monkeypatch, what):
    before = JOB.key
    monkeypatch.setattr(store_module, what, 2 if what == "FORMAT" else {"craft": 99})
    assert JOB.key != before


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path):
    path.write_text("[]")


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("tensors.safetensors", flip_a_byte),
        ("tensors.safetensors", truncate),
        ("tensors.safetensors", os.remove),
        ("manifest.json", truncate),
        ("manifest.json", empty),
    ],
)
def test_a_damaged_artifact_is_refused_by_name(store, artifact, file, harm):
    store.put(JOB, artifact, {})
    harm(folder(store) / file)
    with pytest.raises(CorruptArtifact, match=f"artifact {JOB.key} is damaged: ") as caught:
        store.get(JOB.key)
    assert "\n" not in str(caught.value)


def test_changed_info_is_damage_too(store, artifact):
    store.put(JOB, artifact, {})
    path = folder(store) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "info": {"accuracy": 1.0}}))
    with pytest.raises(CorruptArtifact, match="digest"):
        store.get(JOB.key)


def test_a_discarded_artifact_is_gone_and_can_be_made_again(store, artifact):
    store.put(JOB, artifact, {})
    store.discard(JOB.key)
    store.discard(JOB.key)  # by another process, say
    assert JOB.key not in store
    store.put(JOB, artifact, {})
    assert JOB.key in store


def test_a_directory_without_manifest_is_no_artifact_and_does_not_stand_in_the_way(store, artifact):
    store.put(JOB, artifact, {})
    (folder(store) / "manifest.json").unlink()
    assert JOB.key not in store
    store.put(JOB, artifact, {})
    assert store.get(JOB.key).info == artifact.info


@pytest.mark.parametrize("file", ["tensors.safetensors", "manifest.json"])
def test_a_full_disk_leaves_nothing_behind(store, artifact, monkeypatch, file):
    real = store_module.write_synced

    def write(path, data):
        real(path, data[: len(data) // 2])
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "write_synced", write)
    with pytest.raises(OSError, match="No space left"):
        store.put(JOB, artifact, {})
    assert JOB.key not in store
    assert not list(folder(store).parent.iterdir())


def test_two_writers_of_one_artifact_agree(store, artifact, monkeypatch):
    """The other process finishes between our writing and our renaming."""
    real = store_module.write_synced
    other = Store(store.root)

    def write(path, data):
        real(path, data)
        if path.name == "manifest.json":
            monkeypatch.setattr(store_module, "write_synced", real)
            other.put(JOB, artifact, {"seconds": 7.0})

    monkeypatch.setattr(store_module, "write_synced", write)
    store.put(JOB, artifact, {"seconds": 1.0})
    assert store.manifest(JOB.key)["provenance"] == {"seconds": 7.0}
    assert [p.name for p in folder(store).parent.iterdir()] == [JOB.key]


def test_a_cache_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"can't write to the cache .*file/cache .*--cache-dir"):
        Store(tmp_path / "file" / "cache")


def test_directories_of_other_formats_are_named_and_left_alone(tmp_path):
    (tmp_path / "v0" / "ab").mkdir(parents=True)
    assert Store(tmp_path).older_formats() == [tmp_path / "v0"]
    assert (tmp_path / "v0" / "ab").is_dir()


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")

    def fails(path, data):
        path.write_bytes(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "write_synced", fails)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
