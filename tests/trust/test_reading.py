"""Readers of what strangers wrote: strict, bounded, and clear about what is wrong."""

import gzip
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from trusted import change_tensors

from nfbench import reading
from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError
from nfbench.reading import results_bytes, strict_json, tensors_of
from nfbench.report import compact
from nfbench.report.run import read
from nfbench.schema import records_of
from nfbench.trust import Rerun, verify
from nfbench.trust.opening import open_target
from nfbench.trust.verification import (
    Verification,
    digests,
    read_verification,
    write_verification,
)

BAD_JSON = [
    (b"", "Expecting value"),
    (b"{", "Expecting"),
    (b'{"a": NaN}', "NaN is not allowed"),
    (b'{"a": -Infinity}', "-Infinity is not allowed"),
    (b'{"a": 1e999}', "1e999 is too large"),
    (b'{"a": 1, "a": 2}', "'a' appears twice"),
    (b"\xff", "utf-8"),
    (b"[" * 100_000, "recursion"),
    (b"9" * 5000, "digits"),
]


@pytest.mark.parametrize(("text", "said"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_what_is_not_json_by_the_book_is_refused(text, said):
    with pytest.raises(CorruptArtifact, match="the file is no valid JSON") as caught:
        strict_json(text, "the file")
    assert said in str(caught.value)


def test_a_key_that_repeats_among_very_many_is_found_at_once():
    """Two million comparisons would do; a quadratic search would take ten thousand million."""
    keys = ",".join(f'"{n}":1' for n in range(200_000))
    with pytest.raises(CorruptArtifact, match="'199999' appears twice"):
        strict_json(f'{{{keys},"199999":1}}'.encode(), "the file")


def test_a_line_without_end_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(reading, "MAX_LINE", 2**20)
    with pytest.raises(CorruptArtifact, match="longer than 1 MiB"):
        strict_json(b" " * (2**20 + 1), "the file")


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_lines_and_tensors_are_read_or_refused(data):
    for parse in (records_of, tensors_of):
        try:
            parse(data, "here")
        except NFBenchError as error:
            assert "\n" not in str(error)  # noqa: PT017  # most are refused, some happen to be right


NAMES = ["../a", "a/b", "a\0", "", ".a", "/a", "a" * 300, "C:a", "a\\b", 5]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_cell_whose_name_is_no_name_of_a_file_is_refused(original, name):
    line = json.loads((original.run / "results.jsonl").read_text().splitlines()[0])
    with pytest.raises(CorruptArtifact, match=r"results\.jsonl, line 1"):
        records_of(json.dumps(line | {"cell": name}).encode(), "results.jsonl")


SCHEMAS = [(0, CorruptArtifact), ("1", CorruptArtifact), (None, CorruptArtifact), (9999, UsageError)]


@pytest.mark.parametrize(("schema", "error"), SCHEMAS)
def test_a_line_of_no_schema_or_of_a_newer_one_is_named(original, schema, error):
    lines = (original.run / "results.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"schema_version": schema})
    with pytest.raises(error, match=r"results\.jsonl, line 2"):
        records_of("\n".join(lines).encode(), "results.jsonl")


def test_a_line_that_is_there_twice_is_named(original):
    line = (original.run / "results.jsonl").read_bytes().splitlines()[0]
    with pytest.raises(CorruptArtifact, match=r"line 2.*twice"):
        records_of(line + b"\n" + line, "results.jsonl")


def header(**facts):
    text = json.dumps(facts).encode()
    return struct.pack("<Q", len(text)) + text


LIARS = [
    b"",
    bytes(8),
    struct.pack("<Q", 2**63) + b"{}",
    header(a={"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}),
    header(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}) + bytes(8),
    header(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + bytes(4),
    header(a={"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}),
    header(a={"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 8]}) + bytes(8),
    header(a={"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}) + bytes(1),
    save({"a": np.ones(4)})[:-1],
]


@pytest.mark.parametrize("data", LIARS, ids=range(len(LIARS)))
def test_a_safetensors_header_that_lies_is_refused(data):
    with pytest.raises(CorruptArtifact, match="here is no safetensors file"):
        tensors_of(data, "here")


def test_packed_results_are_read_and_bounded(tmp_path, monkeypatch):
    (tmp_path / "results.jsonl.gz").write_bytes(gzip.compress(b"x" * 100_000))
    assert results_bytes(tmp_path) == b"x" * 100_000
    monkeypatch.setattr(reading, "MAX_RESULTS", 1000)
    with pytest.raises(CorruptArtifact, match="larger than"):
        results_bytes(tmp_path)


def test_results_without_a_line_and_a_file_in_place_of_a_directory_are_named(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b"\n")
    with pytest.raises(CorruptArtifact, match="it has no cells"):
        results_bytes(tmp_path)
    with pytest.raises(UsageError, match=f"give its directory, {tmp_path}"):
        results_bytes(tmp_path / "results.jsonl")


def test_the_reason_of_an_error_is_one_line():
    assert reading.reason(ValueError("a\n b\tc")) == "ValueError: a b c"
    assert len(reading.reason(ValueError("x" * 999), 50)) == 50


@pytest.mark.parametrize("data", [b"x", gzip.compress(b"xyz" * 50)[:-3], b"\x1f\x8b" + bytes(30)])
def test_damaged_packed_results_are_refused(tmp_path, data):
    (tmp_path / "results.jsonl.gz").write_bytes(data)
    with pytest.raises(CorruptArtifact, match=str(tmp_path)):
        results_bytes(tmp_path)


def rewrite(path, change):
    """Pass a file of JSON through a function."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


CHANGES = {
    "results": lambda run: (run / "results.jsonl").write_bytes(
        (run / "results.jsonl").read_bytes() + b"\n"
    ),
    "vectors": lambda run: halved(next((run / "samples").iterdir()), "evasion_score"),
    "facts in run.json": lambda run: rewrite(run / "run.json", lambda i: i | {"title": "Ours"}),
    "pictures": lambda run: halved(run / "gallery.safetensors", "0.adversarial"),
    "breaks": lambda run: (run / "breaks.jsonl").write_text("{}"),
}


def halved(path, name):
    """Halve one array of a safetensors file."""
    path.write_bytes(change_tensors(path.read_bytes(), **{name: lambda v: v / 2}))


@pytest.mark.parametrize("what", CHANGES)
def test_a_verification_speaks_only_of_all_that_it_was_made_of(made, what):
    run = read(made.run)
    said = Verification(**digests(run, made.run), level="re-run", cells=1, finished=1)
    write_verification(made.run / "verification.json", said)
    assert read_verification(made.run) == said == read_verification(made.run, run)
    CHANGES[what](made.run)
    found = read_verification(made.run)
    assert found.level == "self-reported"
    assert found.notes == [f"the {what} were changed after they were verified: verify them again"]


def test_digests_of_a_run_are_those_of_the_boards_folder_made_of_it(made, tmp_path, monkeypatch):
    for most in (compact.MOST_IMAGES, 2000, 100):  # all pictures, one of each cell, none
        monkeypatch.setattr(compact, "MOST_IMAGES", most)
        folder = tmp_path / str(most)
        compact.write(read(made.run), folder)
        assert digests(read(folder), folder) == digests(read(made.run), made.run)


def test_a_verification_of_an_older_format_counts_for_nothing(made):
    old = {"format": 1, "results_sha256": reading.digest(results_bytes(made.run)), "level": "re-run"}
    (made.run / "verification.json").write_text(json.dumps(old))
    found = read_verification(made.run)
    assert found.level == "self-reported"
    assert "verify them again" in found.notes[0]


def test_a_verification_of_another_level_than_there_is_is_refused(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b"one\n")
    (tmp_path / "verification.json").write_text('{"results_sha256": "x", "level": "beyond doubt"}')
    with pytest.raises(CorruptArtifact, match="verify again"):
        read_verification(tmp_path)


def test_what_can_not_be_verified_as_asked_is_refused(tmp_path):
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="--rerun"):
            verify(tmp_path, None, rerun=Rerun(share))
    for day in ("yesterday", "20261121", "2026-13-01", "2026-11-21T10:00"):
        with pytest.raises(UsageError, match="--date"):
            verify(tmp_path, None, date=day)
    with pytest.raises(UsageError, match="there is no"):
        open_target(tmp_path / "none", tmp_path / "in")
