"""Hostile archives: one clear line, nothing written elsewhere, nothing executed."""

import json
import stat
import zipfile
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError, VerificationMismatch
from nfbench.trust.archive import pack, unpack

GOOD = {"results.jsonl": b"{}\n", "run.json": b"{}", "samples/a--b.safetensors": bytes(64)}


def signed(contents):
    listed = {
        name: {"sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()
    }
    return json.dumps({"format": 1, "members": listed}).encode()


def zipped(path, entries, manifest=None, kind=zipfile.ZIP_DEFLATED):
    """A zip with these (name or ZipInfo, bytes), and a manifest that lists them all."""
    contents = {getattr(name, "filename", name): data for name, data in entries}
    with zipfile.ZipFile(path, "w", kind) as packed:
        packed.writestr("manifest.json", signed(contents) if manifest is None else manifest)
        for name, data in entries:
            packed.writestr(name, data)
    return path


def everything_below(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def refused(tmp_path, archive, error=NFBenchError, **limits):
    """The message of a refusal, in one line, that leaves nothing anywhere."""
    before = everything_below(tmp_path)
    with pytest.raises(error) as caught:
        unpack(archive, tmp_path / "in" / "to", **limits)
    written = {name for name in everything_below(tmp_path) - before if name not in ("in", "in/to")}
    assert all(name.startswith("in/to/") for name in written)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_packed_is_what_is_unpacked(tmp_path):
    digest = pack(tmp_path / "a.zip", sorted(GOOD.items()), {"nfbench": "1"})
    manifest = unpack(tmp_path / "a.zip", tmp_path / "to")
    assert {name: (tmp_path / "to" / name).read_bytes() for name in GOOD} == GOOD
    assert manifest["nfbench"] == "1"
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert sha256(packed.read("manifest.json")).hexdigest() == digest
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


BAD_NAMES = [
    "../x",
    "samples/../../x.safetensors",
    "/etc/passwd",
    "C:/x",
    "C:\\x",
    "samples\\x.safetensors",
    "samples/.safetensors",
    "samples/..safetensors",
    "samples/a/b.safetensors",
    "samples/a\n.safetensors",
    "samples/",
    "run.json/",
    "run.py",
    "artifacts/../x/manifest.json",
    "artifacts/0123456789abcdef0123456789abcde/manifest.json",
    "artifacts/0123456789abcdef0123456789abcdef/code.py",
    "manifest.json/x",
    "results.jsonl ",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_archive_may_hold_is_refused(tmp_path, name):
    archive = zipped(tmp_path / "a.zip", [*GOOD.items(), (zipfile.ZipInfo(name), b"x")])
    assert "no archive may hold" in refused(tmp_path, archive, CorruptArtifact)


def test_a_name_cut_short_by_a_zero_byte_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", [*GOOD.items(), ("samples/c_x.safetensors", b"x")])
    data = archive.read_bytes().replace(b"samples/c_x.safetensors", b"samples/c\0x.safetensors")
    archive.write_bytes(data)
    assert "no archive may hold" in refused(tmp_path, archive, CorruptArtifact)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_special_files_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("samples/link.safetensors")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    archive = zipped(tmp_path / "a.zip", [*GOOD.items(), (entry, b"/etc/passwd")])
    assert "link or a special file" in refused(tmp_path, archive, CorruptArtifact)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", [*GOOD.items(), ("run.json", b"other")])
    assert "twice" in refused(tmp_path, archive, CorruptArtifact)


def test_other_ways_of_packing_and_encryption_are_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", list(GOOD.items()), kind=zipfile.ZIP_LZMA)
    assert "packed in another way" in refused(tmp_path, archive, CorruptArtifact)
    archive = zipped(tmp_path / "b.zip", list(GOOD.items()))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refused(tmp_path, archive, CorruptArtifact)


def test_a_member_larger_than_it_says_is_not_unpacked(tmp_path):
    bomb = {**GOOD, "run.json": bytes(50_000_000)}
    small = {**GOOD, "run.json": b"{}"}
    archive = zipped(tmp_path / "a.zip", list(bomb.items()), manifest=signed(small))
    assert archive.stat().st_size < 100_000
    assert "run.json can't be read" in refused(tmp_path, archive, CorruptArtifact)


def test_members_larger_than_all_that_is_allowed_are_not_unpacked(tmp_path):
    archive = zipped(tmp_path / "a.zip", [("run.json", bytes(50_000))])
    assert "more than 40000 bytes" in refused(tmp_path, archive, CorruptArtifact, most=40_000)


def test_a_member_packed_beyond_measure_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("nfbench.trust.archive.SMALL", 2**20)
    fine, bomb = bytes(2**20), bytes(2**21)
    assert unpack(zipped(tmp_path / "a.zip", [("run.json", fine)]), tmp_path / "fine")
    archive = zipped(tmp_path / "b.zip", [("run.json", bomb)])
    assert "packed to less than 1/200" in refused(tmp_path, archive, CorruptArtifact)
    stored = zipped(tmp_path / "c.zip", [("run.json", bomb)], kind=zipfile.ZIP_STORED)
    assert unpack(stored, tmp_path / "stored")


def test_a_member_larger_than_one_may_be_is_neither_packed_nor_unpacked(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", [("run.json", bytes(1001))])
    monkeypatch.setattr("nfbench.trust.archive.MAX_MEMBER", 1000)
    assert "larger than 1000 bytes" in refused(tmp_path, archive, CorruptArtifact)
    with pytest.raises(UsageError, match=r"run\.json has 1001 bytes"):
        pack(tmp_path / "b.zip", [("run.json", bytes(1001))], {})


MANIFESTS = [
    (b"", "JSON"),
    (b"[]", "does not list members"),
    (b'{"format": 1, "members": {"run.json": 5}}', "does not list members"),
    (b'{"format": 1, "members": {"run.json": {"sha256": "x", "size": -1}}}', "does not list members"),
    (b'{"format": 1, "members": {"run.json": {"sha256": "x", "size": 1e400}}}', "too large"),
    (b'{"format": 1, "members": {"run.json": {"sha256": "x", "size": true}}}', "does not list members"),
    (b'{"format": 1, "format": 2, "members": {}}', "twice"),
    (b'{"format": 2, "members": {}}', "format 2"),
    (b'{"format": 1, "members": {}}', "not in manifest.json"),
    (b'{"format": 1, "x": ' + b"[" * 100_000, "JSON"),
    (b'{"format": 1, "x": NaN, "members": {}}', "NaN"),
    (b"\xff\xfe", "JSON"),
]


@pytest.mark.parametrize(("manifest", "said"), MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, manifest, said):
    archive = zipped(tmp_path / "a.zip", list(GOOD.items()), manifest=manifest)
    assert said in refused(tmp_path, archive)


def test_a_zip_without_a_manifest_and_no_zip_at_all_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("run.json", b"{}")
    assert "nfbench submit" in refused(tmp_path, tmp_path / "a.zip", CorruptArtifact)
    (tmp_path / "b.zip").write_bytes(b"")
    assert "no archive that can be read" in refused(tmp_path, tmp_path / "b.zip", CorruptArtifact)
    assert "no file" in refused(tmp_path, tmp_path / "c.zip", UsageError)


def test_an_archive_cut_short_anywhere_is_refused(tmp_path):
    pack(tmp_path / "whole.zip", sorted(GOOD.items()), {})
    whole = (tmp_path / "whole.zip").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "a.zip").write_bytes(whole[:size])
        refused(tmp_path, tmp_path / "a.zip")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@given(data=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused(place, data):
    (place / "a.zip").write_bytes(data)
    refused(place, place / "a.zip")


@given(where=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_changes_what_is_unpacked(place, where, bit):
    pack(place / "whole.zip", sorted(GOOD.items()), {})
    data = bytearray((place / "whole.zip").read_bytes())
    data[where % len(data)] ^= 1 << bit
    (place / "a.zip").write_bytes(data)
    try:
        unpack(place / "a.zip", place / "to")
    except NFBenchError:
        return
    assert {name: (place / "to" / name).read_bytes() for name in GOOD} == GOOD


def test_a_name_that_can_not_be_packed_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(UsageError, match="rename"):
        pack(tmp_path / "a.zip", [("samples/a/b.safetensors", b"")], {})
    assert not list(tmp_path.iterdir())
    archive = zipped(tmp_path / "b.zip", list(GOOD.items()), manifest=signed({}))
    with pytest.raises(VerificationMismatch, match=r"not in manifest\.json"):
        unpack(archive, tmp_path / "to")
