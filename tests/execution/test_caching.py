"""Care of a cache: what is in it, what may go, and what of another cache is taken in."""

import json
import os
import shutil
import time
import zipfile
from hashlib import sha256

import pytest
import tinyjobs

from nfbench import store as store_module
from nfbench.core.errors import CorruptArtifact, NFBenchError
from nfbench.pins import pin, pins
from nfbench.store import Artifact, Store
from nfbench.trust.caching import (
    clear,
    clearing,
    export,
    holdings,
    referred_to,
    require_whole,
    runs_below,
    spoilt,
    take_in,
)


def filled(folder, chains=2):
    """A cache of toys."""
    store, jobs = Store(folder), tinyjobs.toys(chains=chains, length=2, kind="craft", end="time")
    values = tinyjobs.expected(jobs)
    for key, job in jobs.items():
        store.put(job, Artifact({}, {"value": values[key]}), {"seconds": 1.0})
    return store


def results(path, *digests):
    """A run that was computed from these artifacts."""
    path.mkdir(parents=True)
    (path / "results.jsonl").write_text(json.dumps({"inputs": list(digests)}) + "\n")
    return path


@pytest.fixture
def store(tmp_path):
    return filled(tmp_path / "cache")


def test_holdings_are_counted_by_kind(store):
    found = {one.kind: one for one in holdings(store)}
    assert (found["craft"].count, found["time"].count) == (5, 1)
    files = [p for p in store.root.rglob("*") if p.name in ("manifest.json", "tensors.safetensors")]
    assert sum(one.bytes for one in found.values()) == sum(p.stat().st_size for p in files)


def test_a_damaged_artifact_is_found(store):
    assert not list(spoilt(store))
    key = next(iter(store))
    path = store.root / "v1" / key[:2] / key / "manifest.json"
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    assert not list(spoilt(store))  # provenance is no part of the digest
    path.write_text(path.read_text().replace('"value": "', '"value": "0'))
    ((found, reason),) = spoilt(store)
    assert found == key
    assert "does not have the digest" in reason


def test_a_changed_recipe_is_found(store):
    key = next(k for k in store if store.manifest(k)["job"]["recipe"]["toy"] == "root")
    path = store.root / "v1" / key[:2] / key / "manifest.json"
    path.write_text(path.read_text().replace('"root"', '"toor"'))
    assert "another key" in dict(spoilt(store))[key]


def by_toy(store):
    return {str(store.manifest(k)["job"]["recipe"]["toy"]): k for k in store}


def test_what_a_run_refers_to_stays_with_all_that_it_was_made_from(store, tmp_path):
    keys = by_toy(store)
    run = results(tmp_path / "run", store.manifest(keys["[0, 1]"])["sha256"])
    kept = referred_to(store, [run])
    assert kept == {keys["root"], keys["[0, 0]"], keys["[0, 1]"]}
    what = clearing(store, kept, older=0, now=time.time() + 10)
    assert set(what.unused) == set(keys.values()) - kept
    clear(store, what)
    assert set(store) == kept


def test_the_timing_of_what_a_run_refers_to_stays(store, tmp_path):
    keys = by_toy(store)
    digests = [store.manifest(keys[f"[{i}, 1]"])["sha256"] for i in (0, 1)]
    run = results(tmp_path / "run", *digests)
    assert keys["end"] in referred_to(store, [run])


def test_without_being_told_and_before_its_time_nothing_is_unused(store):
    assert clearing(store, None, older=0, now=time.time() + 10).unused == []
    assert clearing(store, set(), older=100, now=time.time() + 10).unused == []
    assert len(clearing(store, set(), older=0, now=time.time() + 10).unused) == 6


def test_what_a_run_needs_is_kept_as_long_as_the_run_is_there(store, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    pin(store, run, ["a", "b"])
    pin(store, run, ["b", "c"])
    assert pins(store) == [{"b", "c"}]
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")  # whose disks can't be seen from here
    pin(store, tmp_path / "there", ["d"])
    monkeypatch.undo()
    shutil.rmtree(run)
    assert pins(store) == [{"d"}]


def test_boards_keep_what_they_refer_to_compressed_or_not(store, tmp_path):
    import gzip

    keys = by_toy(store)
    board = results(tmp_path / "boards" / "mine", store.manifest(keys["[0, 1]"])["sha256"])
    packed = gzip.compress((board / "results.jsonl").read_bytes())
    (board / "results.jsonl.gz").write_bytes(packed)
    (board / "results.jsonl").unlink()
    assert runs_below(tmp_path) == [board]
    assert keys["[0, 1]"] in referred_to(store, runs_below(tmp_path))


def test_leftovers_of_killed_processes_go_and_those_of_live_ones_stay(store):
    home = store.root / "v1"
    key = next(iter(store))
    scratch = home / key[:2] / f".{key}-123-abcd"
    scratch.mkdir()
    (scratch / "tensors.safetensors").write_bytes(b"x" * 100)
    store.unfinished.mkdir()
    done, begun = (store.unfinished / f"{name}.safetensors" for name in (key, "f" * 32))
    done.touch()
    begun.touch()
    old = time.time() - 1000
    os.utime(scratch, (old, old))
    what = clearing(store, None, older=500)
    assert what.rubbish == [scratch, done]
    assert what.bytes == 100
    clear(store, what)
    assert not scratch.exists()
    assert begun.exists()
    assert len(list(store)) == 6


def test_what_one_machine_exports_another_takes_in(store, tmp_path):
    archive = tmp_path / "a.nfbench.zip"
    assert export(store, set(store), archive) == 6
    other = filled(tmp_path / "other", chains=1)
    assert take_in(other, archive) == (3, 6)  # the root and one chain are there, the end is another
    for key in store:
        assert other.files(key) == store.files(key)
    assert take_in(other, archive) == (0, 6)
    assert not list(other.root.glob(".import-*"))


def test_a_damaged_artifact_is_not_exported(store, tmp_path):
    key = next(iter(store))
    (store.root / "v1" / key[:2] / key / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(CorruptArtifact, match=key):
        export(store, set(store), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "artifacts/../../evil", "v1/00/manifest.json"])
def test_an_archive_that_leads_elsewhere_is_refused(store, tmp_path, name):
    archive = tmp_path / "a.zip"
    export(store, set(store), archive)
    with zipfile.ZipFile(archive) as packed:
        members = {one: packed.read(one) for one in packed.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    manifest["members"][name] = {"sha256": sha256(b"evil").hexdigest(), "size": 4}
    with zipfile.ZipFile(archive, "w") as packed:
        for one, data in {**members, name: b"evil", "manifest.json": json.dumps(manifest)}.items():
            packed.writestr(one, data)
    other = Store(tmp_path / "deep" / "down" / "other")
    with pytest.raises(NFBenchError, match="no archive may hold"):
        take_in(other, archive)
    assert not list(other)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["job"].update(needs=[["x"]]),
        lambda m: m["job"].update(needs="x" * 32),
        lambda m: m.update(info=[]),
        lambda m: m.update(provenance=None),
        lambda m: m.pop("job"),
        lambda m: m["job"].update(recipe=None),
    ],
)
def test_a_manifest_that_lies_is_refused(store, spoil):
    key = next(iter(store))
    files = store.files(key)
    manifest = json.loads(files["manifest.json"])
    spoil(manifest)
    with pytest.raises(CorruptArtifact, match=key):
        require_whole(key, {**files, "manifest.json": json.dumps(manifest).encode()})


def test_what_can_not_be_parsed_is_refused(store):
    key = next(iter(store))
    files = store.files(key)
    for text in (b"[" * 100_000, b"\xff", b"3"):
        with pytest.raises(CorruptArtifact, match=key):
            require_whole(key, {**files, "manifest.json": text})
    nonsense = b"no tensors"
    manifest = json.loads(files["manifest.json"])
    manifest["sha256"] = store_module.digest_of(nonsense, manifest["info"])
    with pytest.raises(CorruptArtifact, match="tensors"):
        require_whole(
            key, {"manifest.json": json.dumps(manifest).encode(), "tensors.safetensors": nonsense}
        )


def test_an_artifact_under_another_key_is_refused(store, tmp_path, monkeypatch):
    first, second = list(store)[:2]
    real = store.files
    monkeypatch.setattr(store, "files", lambda key: real(second if key == first else key))
    monkeypatch.setattr("nfbench.trust.caching.require_whole", lambda key, files: None)
    export(store, {first}, tmp_path / "a.zip")
    monkeypatch.undo()
    other = Store(tmp_path / "other")
    with pytest.raises(CorruptArtifact, match="another key"):
        take_in(other, tmp_path / "a.zip")
    assert not list(other)
