"""Versions of the result files: the published schema, older files, newer ones, and garbage."""

import json
import runpy
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError
from nfbench.reading import strict_json, tensors_of
from nfbench.records import SCHEMA, CellRecord
from nfbench.schema import record_of, records_of

ROOT = Path(__file__).parents[1]
PLUGIN = {"name": "kd", "params": {}, "plugin": "nfbench", "version": "0.1.0"}
LINE = {
    "schema_version": SCHEMA,
    "cell": "kd--pgd",
    "defense": PLUGIN,
    "attack": PLUGIN | {"name": "pgd"},
    "threat_model": PLUGIN | {"name": "adaptive-whitebox"},
    "adaptive": True,
    "objectives": ["margin"],
    "norm": "linf",
    "eps": 0.1,
    "dataset": {"name": "digits"},
    "model": {"name": "digits-mlp"},
    "seed": 0,
    "status": "done",
    "metrics": {"auroc_worst": {"value": 0.5, "low": 0.4, "high": 0.6}},
}


def published():
    return json.loads((ROOT / "docs" / "schema" / f"results-{SCHEMA}.json").read_text())


def test_the_published_schema_is_the_one_of_the_code():
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert generate["SCHEMA_FILE"].read_text() == generate["schema"]()
    jsonschema.Draft202012Validator.check_schema(published())


def test_what_is_written_follows_the_published_schema():
    written = json.loads(record_of(LINE, "line 1").model_dump_json())
    jsonschema.validate(written, published())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written | {"eps": "wide"}, published())


def test_every_field_is_described():
    lines = (ROOT / "docs" / "results.md").read_text()
    for name in CellRecord.model_fields:
        assert f"`{name}`" in lines, name


@pytest.mark.parametrize(
    ("described", "commit", "dirty"), [("abc-dirty", "abc", True), ("abc", "abc", False), ("", "", None)]
)
def test_schema_1_is_read_and_known_as_such(described, commit, dirty):
    old = LINE | {"schema_version": 1, "environment": {"git": described, "python": "3.11"}}
    found = record_of(old, "line 1")
    assert found.schema_version == 1
    assert found.environment == {"python": "3.11", "git_commit": commit, "git_dirty": dirty}
    assert found.origins == []


def test_a_newer_schema_is_one_clear_line():
    with pytest.raises(UsageError, match=r"under schema 99, .* reads up to 2: install a newer one"):
        record_of(LINE | {"schema_version": SCHEMA + 97}, "line 1")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ({"schema_version": "2"}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"schema_version": 0}, "schema_version"),
        ({"norm": "l7"}, "norm"),
        ({"metrics": {"x": {"value": "high"}}}, "metrics.x.value"),
        ({"defense": None}, "defense"),
    ],
)
def test_a_wrong_field_is_named(harm, why):
    with pytest.raises(CorruptArtifact, match=why):
        record_of(LINE | harm, "line 1")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "a\\b", "", ".hidden", "x" * 300, "a\nb"]
)
def test_a_name_that_leads_out_of_a_directory_is_none(name):
    with pytest.raises(CorruptArtifact, match="no name of a cell"):
        records_of(json.dumps(LINE | {"cell": name}).encode(), "results")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'"\xff"',
        b"{",
        b"",
        b'"' + b"x" * (5 * 2**20) + b'"',
    ],
)
def test_json_that_is_none_by_the_book_is_refused(text):
    with pytest.raises(CorruptArtifact, match="here"):
        strict_json(text, "here")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(LINE)), JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_gives_a_record_or_a_clear_line(harm):
    text = json.dumps(LINE | harm).encode()
    said = ""
    try:
        (found,) = records_of(text, "results")
    except NFBenchError as error:
        said = str(error)
    assert "\n" not in said
    assert said or found.schema_version in range(1, SCHEMA + 1)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_no_results_and_no_tensors(data):
    with pytest.raises(NFBenchError):
        records_of(data, "results")
    with pytest.raises(CorruptArtifact):
        tensors_of(data, "vectors")


@given(st.integers(0, len(json.dumps(LINE)) - 1))
@settings(max_examples=60, deadline=None)
def test_a_truncated_line_is_refused(length):
    with pytest.raises(NFBenchError):
        records_of(json.dumps(LINE).encode()[:length], "results")
