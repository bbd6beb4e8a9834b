"""Submitting a run, and verifying what was submitted."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from safetensors.numpy import load
from trusted import artifact_of, members, run_into

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.report.run import read
from nfbench.trust import Means, Rerun, read_verification, submit, verify


def test_an_archive_is_re_scored_without_the_cache_it_came_from(made, registry):
    found = verify(made.archive, Means(registry, None, "cpu"), date="2026-11-21")
    assert (found.level, found.cells, found.finished, found.exact) == ("re-scored", 8, 8, True)
    beside = json.loads(made.archive.with_name("run.verification.json").read_text())
    assert beside["date"] == "2026-11-21"
    assert beside["results_sha256"] == sha256((made.run / "results.jsonl").read_bytes()).hexdigest()


def test_a_run_directory_is_re_scored_from_its_cache(made):
    assert read_verification(made.run).level == "self-reported"
    assert verify(made.run, made.means).level == "re-scored"
    assert read_verification(made.run).level == "re-scored"


def test_a_run_directory_without_its_artifacts_is_self_reported(made, registry):
    found = verify(made.run, Means(registry, None, "cpu"))
    assert found.level == "self-reported"
    assert "not re-scored" in found.notes[0]
    with pytest.raises(UsageError, match="cache"):
        verify(made.run, Means(registry, None, "cpu"), rerun=Rerun(0.1))


def test_a_cache_that_is_named_and_not_there_is_refused_and_not_made(made, registry, tmp_path):
    with pytest.raises(UsageError, match="there is no cache"):
        verify(made.run, Means(registry, tmp_path / "nowhere", "cpu"))
    assert not (tmp_path / "nowhere").exists()
    assert not (made.run / "verification.json").exists()


def test_a_check_that_could_do_less_takes_no_level_away(made, registry, tmp_path):
    verify(made.run, made.means, date="2026-11-20")
    before = (made.run / "verification.json").read_bytes()
    (tmp_path / "empty").mkdir()
    for cache in (None, tmp_path / "empty"):
        found = verify(made.run, Means(registry, cache, "cpu"), date="2026-11-21")
        assert found.level == "self-reported"
        assert "re-scored: it stays" in found.notes[-1]
        assert (made.run / "verification.json").read_bytes() == before
    with (made.run / "results.jsonl").open("ab") as file:
        file.write(b"\n")  # other results, of which nothing better is known
    verify(made.run, Means(registry, None, "cpu"))
    assert (made.run / "verification.json").read_bytes() != before


def test_a_file_is_no_place_for_an_archive(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write"):
        submit(made.run, made.means, tmp_path / "file" / "x.zip")


def test_a_file_of_a_run_directory_is_not_the_directory(made):
    lines = made.run / "results.jsonl"
    for ask in (lambda: verify(lines, made.means), lambda: submit(lines, made.means)):
        with pytest.raises(UsageError, match=f"give its directory, {made.run}"):
            ask()


def test_an_archive_serves_a_run_directory_in_place_of_the_cache(made, registry):
    means = Means(registry, None, "cpu", archive=made.archive)
    assert verify(made.run, means).level == "re-scored"


def test_what_is_repeated_from_nothing_agrees_to_the_last_bit(made, registry):
    found = verify(made.archive, Means(registry, None, "cpu"), rerun=Rerun(0.2, seed=3))
    assert (found.level, found.exact, len(found.rerun), found.rerun_seed) == ("re-run", True, 2, 3)
    assert set(found.rerun) < {cell.cell for cell in read(made.run).cells}


def test_two_archives_of_one_run_are_the_same_bytes(made, tmp_path):
    again = submit(made.run, made.means, tmp_path / "again.nfbench.zip")
    assert again.path.read_bytes() == made.archive.read_bytes()
    assert again.cells == 8


def test_the_manifest_lists_size_and_digest_of_every_member_and_nothing_is_pickled(made):
    contents = members(made.archive)
    manifest = json.loads(contents.pop("manifest.json"))
    assert manifest["members"] == {
        name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in contents.items()
    }
    assert manifest["distributions"].keys() == {"nfbench"}
    for name, data in contents.items():
        if name.endswith(".safetensors"):
            load(data)
        else:
            assert (
                [json.loads(line) for line in data.decode().splitlines()]
                if "jsonl" in name
                else (json.loads(data))
            )


def test_archived_images_lie_around_digits_of_the_original_set(made):
    from sklearn.datasets import load_digits

    digits = load_digits().images.astype(np.float32) / 16  # (N, 8, 8)
    contents = members(made.archive)
    for objective in ("margin", "cross-entropy"):
        try:
            images = load(contents[artifact_of(contents, kind="craft", objective=objective)])["images"]
        except AssertionError:
            continue
        away = np.abs(images[:, 0, None] - digits).max((2, 3)).min(1)
        assert (away <= 0.25 + 1e-6).all()
        assert (away > 0.1).any()
        return
    raise AssertionError("no images")


def test_only_finished_run_directories_can_be_submitted(made, tmp_path, registry):
    with pytest.raises(UsageError, match="no run directory"):
        submit(tmp_path, made.means)
    with pytest.raises(UsageError, match="--cache-dir"):
        submit(made.run, replace(made.means, cache=tmp_path / "nowhere"))
    lines = (made.run / "results.jsonl").read_text().splitlines()
    failed = [json.loads(line) | {"status": "failed"} for line in lines]
    (made.run / "results.jsonl").write_text("\n".join(map(json.dumps, failed)) + "\n")
    with pytest.raises(UsageError, match="no finished cell"):
        submit(made.run, made.means)


def test_a_cache_that_lacks_an_artifact_is_refused_by_name_of_the_cell(made, tmp_path):
    shutil.copytree(made.cache, tmp_path / "cache")
    digests = read(made.run).cells[0].inputs
    for manifest in list((tmp_path / "cache").rglob("manifest.json")):
        if json.loads(manifest.read_text())["sha256"] == digests[-1]:
            shutil.rmtree(manifest.parent)
    with pytest.raises(UsageError, match=f"{read(made.run).cells[0].cell}.*fit kd"):
        submit(made.run, replace(made.means, cache=tmp_path / "cache"))


def test_a_cache_with_another_artifact_under_the_key_is_refused(made, tmp_path, registry):
    shutil.copytree(made.cache, tmp_path / "cache")
    lines = [json.loads(line) for line in (made.run / "results.jsonl").read_text().splitlines()]
    lines[0]["inputs"][-1] = "0" * 64
    (made.run / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    with pytest.raises(CorruptArtifact, match="other artifacts"):
        submit(made.run, replace(made.means, cache=tmp_path / "cache"))


def test_cells_that_were_skipped_are_neither_packed_nor_in_the_way(tmp_path, registry):
    threats = ("partial-whitebox", "decision-queries")
    run = run_into(
        tmp_path,
        registry,
        defense=("max-softmax",),
        attacks=("fgsm",),
        threat_model=threats,
        settings={"training": {"epochs": 1}},
    )
    means = Means(registry, tmp_path / "cache", "cpu")
    assert [cell.status for cell in read(run).cells] == ["done", "skipped"]
    found = verify(submit(run, means).path, Means(registry, None, "cpu"))
    assert (found.level, found.cells, found.finished) == ("re-scored", 2, 1)
