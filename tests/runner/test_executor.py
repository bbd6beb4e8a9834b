"""Running a plan: what is reused, what a failure takes with it, and what survives an interruption."""

import errno
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import troublemakers

from nfbench import hookimpl
from nfbench import store as store_module
from nfbench.core.errors import NFBenchError, UsageError
from nfbench.core.registry import Registry
from nfbench.runner import jobs as jobs_module
from nfbench.store import Store

BOTH = ("partial-whitebox", "adaptive-whitebox")


@pytest.fixture(scope="module")
def troubled():
    return Registry.load(troublemakers.plugin())


def status(finished):
    return {cell.cell.split("--linf")[0]: cell.status for cell in finished.run.cells}


def numbers(finished):
    """Everything measured, and nothing of when and where."""
    return [(c.cell, timeless(c.metrics), c.counts, c.cost, c.inputs) for c in finished.run.cells]


def timeless(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("latency")}


def test_a_second_run_does_nothing_and_gives_the_same(go, tiny, notes):
    first = go(tiny(threat_model=BOTH))
    ran = len(notes.labels)
    second = go(tiny(threat_model=BOTH))
    assert (first.outcome.ran, first.outcome.reused) == (ran, 0)
    assert (second.outcome.ran, second.outcome.reused) == (0, ran)
    assert len(notes.labels) == ran == notes.promised
    assert numbers(first) == numbers(second)


def test_what_a_wider_matrix_shares_is_reused(go, tiny):
    go(tiny())
    wider = go(tiny(attacks=("fgsm", "bim-b"), settings={"bim-b": {"steps": 2}}))
    assert wider.outcome.reused == 6  # train, fit, clean, craft, score, time
    assert wider.outcome.ran == 2  # craft, score


def test_the_cache_knows_neither_run_directory_nor_place(go, tiny, notes, tmp_path):
    go(tiny())
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert go(tiny(), cache="moved", out="elsewhere").outcome.ran == 0


def test_one_seed_gives_the_same_bytes_in_another_cache(go, tiny, tmp_path):
    options = tiny(
        {"pgd": {"steps": 2}, "neuralfp": {"fingerprints": 2}},
        defense=("neuralfp", "random"),
        attacks=("pgd",),
        threat_model=BOTH,
    )
    torch.manual_seed(1)
    first = go(options, cache="one")
    torch.manual_seed(2)
    second = go(options, cache="two")
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    assert first.plan.jobs.keys() == second.plan.jobs.keys()
    for key, job in first.plan.jobs.items():
        if job.kind == "time":  # of a clock, not of a recipe
            continue
        assert one.manifest(key)["sha256"] == two.manifest(key)["sha256"], job.label
    assert numbers(first) == numbers(second)


def test_another_seed_gives_another_classifier(go, tiny, tmp_path):
    finished = go(tiny(seed=(0, 1)))
    store = Store(tmp_path / "cache")
    trained = [key for key, job in finished.plan.jobs.items() if job.kind == "train"]
    assert len({store.manifest(key)["sha256"] for key in trained}) == len(trained) == 2


@pytest.mark.parametrize("name", troublemakers.ATTACKS)
def test_an_attack_that_breaks_its_contract_fails_alone(go, tiny, troubled, notes, tmp_path, name):
    finished = go(tiny(attacks=("fgsm", name)), given=troubled)
    good, bad = finished.run.cells
    assert (good.status, bad.status) == ("done", "failed")
    assert re.search(troublemakers.ATTACKS[name][1], bad.reason)
    assert bad.reason.startswith(f"{name} · partial-whitebox: ")
    assert "\n" not in bad.reason
    assert notes.failures == [bad.reason]
    assert "Traceback (most recent call last)" in (tmp_path / "run" / "failures.txt").read_text()
    assert bad.reason in (tmp_path / "run" / "leaderboard.md").read_text().replace("\\", "")


@pytest.mark.parametrize("name", troublemakers.DEFENSES)
def test_a_detector_that_breaks_its_contract_blocks_what_needs_it(go, tiny, troubled, notes, name):
    finished = go(tiny(defense=(name, "max-softmax"), threat_model=BOTH), given=troubled)
    bad = [c for c in finished.run.cells if c.defense.name == name]
    good = [c for c in finished.run.cells if c.defense.name != name]
    assert {c.status for c in good} == {"done"}
    assert {(c.status, c.reason) for c in bad} == {("failed", notes.failures[0])}
    assert len(notes.failures) == len(finished.outcome.tracebacks) == 1
    assert re.search(troublemakers.DEFENSES[name][1], bad[0].reason)


def test_failures_are_forgotten_once_the_run_succeeds(go, tiny, tmp_path, monkeypatch, notes):
    monkeypatch.setitem(jobs_module._RUN, "craft", troublemakers.stumble)
    assert status(go(tiny())) == {"max-softmax--fgsm--partial-whitebox": "failed"}
    assert (tmp_path / "run" / "failures.txt").is_file()
    monkeypatch.undo()
    again = go(tiny())
    assert status(again) == {"max-softmax--fgsm--partial-whitebox": "done"}
    assert not (tmp_path / "run" / "failures.txt").exists()
    assert "train" not in " ".join(notes.labels[-2:])


def test_an_interruption_keeps_what_is_finished_and_the_next_run_goes_on(go, tiny, troubled, registry):
    options = tiny(attacks=("fgsm", "ctrl-c", "bim-b"), settings={"bim-b": {"steps": 2}})
    stopped = go(options, given=troubled)
    assert stopped.outcome.interrupted
    assert [c.status for c in stopped.run.cells] == ["done", "skipped", "skipped"]
    assert stopped.run.cells[1].reason == "interrupted before it ran"
    onwards = go(replace(options, attacks=("fgsm", "bim-b")))
    assert not onwards.outcome.interrupted
    assert [c.status for c in onwards.run.cells] == ["done", "done"]
    assert onwards.outcome.reused == stopped.outcome.ran


def damage(store, key, file):
    path = store.root / "v1" / key[:2] / key / file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if file.endswith("s") else data[: len(data) // 2])


@pytest.mark.parametrize("file", ["tensors.safetensors", "manifest.json"])
def test_a_damaged_score_is_reported_and_made_again(go, tiny, notes, tmp_path, file):
    before = go(tiny())
    score = before.plan.cells[0].score
    damage(Store(tmp_path / "cache"), score, file)
    after = go(tiny())
    assert [w for w in notes.warnings if f"artifact {score} is damaged" in w and "making it again" in w]
    assert after.outcome.ran == 1
    assert numbers(after) == numbers(before)


@pytest.mark.parametrize("kind", ["train", "craft"])
def test_a_damaged_manifest_of_an_input_is_made_again(go, tiny, notes, tmp_path, kind):
    before = go(tiny())
    key = next(key for key, job in before.plan.jobs.items() if job.kind == kind)
    damage(Store(tmp_path / "cache"), key, "manifest.json")
    after = go(tiny())
    assert len(notes.warnings) == after.outcome.ran == 1
    assert numbers(after) == numbers(before)


def test_a_damaged_input_of_a_missing_job_is_made_again(go, tiny, notes, tmp_path):
    before = go(tiny())
    train = next(key for key, job in before.plan.jobs.items() if job.kind == "train")
    damage(Store(tmp_path / "cache"), train, "tensors.safetensors")
    wider = go(tiny(attacks=("fgsm", "bim-b"), settings={"bim-b": {"steps": 2}}))
    assert len(notes.warnings) == 1
    assert wider.outcome.ran == 3  # the classifier again, craft, score
    assert numbers(wider)[0] == numbers(before)[0]


def test_damage_that_cannot_be_mended_fails_the_cell(go, tiny, tmp_path, monkeypatch):
    before = go(tiny())
    damage(Store(tmp_path / "cache"), before.plan.cells[0].score, "tensors.safetensors")
    monkeypatch.setitem(jobs_module._RUN, "score", troublemakers.stumble)
    (cell,) = go(tiny()).run.cells
    assert cell.status == "failed"
    assert "stumbled" in cell.reason


def full(kind, monkeypatch):
    """A disk that has no room for the artifacts of one kind of job."""
    real = store_module.write_synced

    def write(path, data):
        if path.name == "manifest.json" and json.loads(data)["job"]["kind"] == kind:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store_module, "write_synced", write)


@pytest.mark.parametrize("kind", ["train", "craft", "score"])
def test_a_full_disk_is_one_line_and_nothing_is_lost(go, tiny, notes, tmp_path, monkeypatch, kind):
    options = tiny(attacks=("fgsm", "bim-b"), settings={"bim-b": {"steps": 2}})
    full(kind, monkeypatch)
    stopped = go(options)
    monkeypatch.undo()
    assert len(notes.failures) == 1
    assert (
        "No space left on device; what is finished is kept, make room and run again" in notes.failures[0]
    )
    assert {c.status for c in stopped.run.cells} == {"failed"}
    assert {c.reason for c in stopped.run.cells} == set(notes.failures)
    assert not list((tmp_path / "cache").rglob(".*"))
    onwards = go(options)
    assert {c.status for c in onwards.run.cells} == {"done"}
    assert onwards.outcome.reused == stopped.outcome.ran


def test_a_full_disk_under_the_run_directory_loses_no_artifact(go, tiny, monkeypatch):
    real = store_module.write_synced

    def write(path, data):
        if "results.jsonl" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store_module, "write_synced", write)
    with pytest.raises(
        NFBenchError, match=r"can't write the run directory .*: No space left on device; every"
    ):
        go(tiny())
    monkeypatch.undo()
    assert go(tiny()).outcome.ran == 0


def test_an_older_cache_is_left_alone_with_a_warning(go, tiny, notes, tmp_path):
    (tmp_path / "cache" / "v0" / "ab").mkdir(parents=True)
    finished = go(tiny())
    assert [c.status for c in finished.run.cells] == ["done"]
    assert notes.warnings == [
        f"{tmp_path / 'cache' / 'v0'} was written by another version of nfbench and is not used"
    ]
    assert (tmp_path / "cache" / "v0" / "ab").is_dir()


def test_places_that_cannot_be_written_are_refused_before_any_work(go, tiny, notes, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't write to --out"):
        go(tiny(), out="file/run")
    with pytest.raises(UsageError, match="can't write to the cache"):
        go(tiny(), cache="file/cache")
    assert not notes.labels


def test_whoever_watches_jobs_cannot_stop_them(go, tiny, notes):
    seen = []

    class Watcher:
        @hookimpl
        def nfbench_job_finished(self, kind, key, seconds):
            seen.append(kind)
            raise ValueError("not interested")

    finished = go(tiny(), given=Registry.load(Watcher()))
    assert seen == ["train", "craft", "fit", "clean", "score", "time"]
    assert [c.status for c in finished.run.cells] == ["done"]
    assert len(notes.warnings) == 6
    assert "ValueError: not interested" in notes.warnings[0]


def test_too_few_correct_calibration_images_are_refused_with_advice(go, tiny, monkeypatch):
    monkeypatch.setattr(jobs_module, "CALIBRATION_LEAST", 1000)
    (cell,) = go(tiny()).run.cells
    assert re.search(
        r"only \d+ calibration images are classified correctly; .* train longer", cell.reason
    )


def test_skipped_cells_are_recorded_with_their_reason(go, tiny):
    (cell,) = go(tiny(eps=("unbounded",))).run.cells
    assert (cell.status, cell.eps) == ("skipped", None)
    assert "needs a bound" in cell.reason


def test_a_defense_that_changes_the_classifier_fails(go, tiny):
    from nfbench_defenses.trivial import MaxSoftmax

    class Meddler(MaxSoftmax):
        name = "meddler"

        def fit(self, classifier, data):
            next(classifier.parameters()).data.zero_()
            return {}

    given = Registry.load(SimpleNamespace(nfbench_defenses=lambda: [Meddler]))
    (cell,) = go(tiny(defense=("meddler",)), given=given).run.cells
    assert (cell.status, cell.reason) == ("failed", "fit meddler: meddler: fit changed the classifier")
