"""Jobs that were interrupted go on, and end as if they had not been."""

import pytest
import torch

from nfbench import checkpoints as module
from nfbench.checkpoints import Checkpoint, Progressed
from nfbench.runner import attacking
from nfbench.runner import train as training_module
from nfbench.runner.options import Options
from nfbench.session import Place, execute
from nfbench.store import Store


@pytest.fixture
def at(tmp_path):
    return Checkpoint(tmp_path / "unfinished" / "key.safetensors", "these versions", every=0.0)


def some():
    return Progressed({"x": torch.arange(3.0), "n": torch.tensor(7)}, {"rows": 3})


def test_what_is_kept_comes_back_until_it_is_cleared(at):
    assert at.load() is None
    at.save(some)
    back = at.load()
    assert torch.equal(back.tensors["x"], torch.arange(3.0))
    assert (int(back.tensors["n"]), back.info) == (7, {"rows": 3})
    at.clear()
    assert at.load() is None


def test_short_jobs_have_none(at):
    Checkpoint(at.path, at.made_by).save(lambda: pytest.fail("too early"))
    assert not at.path.exists()


def test_other_versions_damage_and_full_disks_are_as_good_as_none(at, monkeypatch):
    at.save(some)
    assert Checkpoint(at.path, "others").load() is None
    data = at.path.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b"", b"nonsense"):
        at.path.write_bytes(damaged)
        assert at.load() is None

    def full(path, data):
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    at.save(some)
    assert at.load() is None


class Stop(Exception):
    """An interruption."""


def stop_after(monkeypatch, owner, name, calls):
    """Let a function be called so often, then interrupt."""
    real, count = getattr(owner, name), iter(range(10**9))

    def counted(*args, **kwargs):
        if next(count) >= calls:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


@pytest.fixture
def go(registry, tmp_path, notes, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(attacking, "MAX_IMAGES", 8)

    def run(options, cache):
        place = Place(tmp_path / cache / "run", tmp_path / cache, "cpu")
        return execute(options, place, registry, notes)

    return run


def digests(finished, cache):
    store = Store(cache)
    kinds = {key: job.kind for key, job in finished.plan.jobs.items()}
    return {key: store.manifest(key)["sha256"] for key in kinds if kinds[key] != "time"}


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adadelta"])
@pytest.mark.parametrize("select", ["last", "min-nll"])
def test_a_training_goes_on_after_its_last_epoch(go, tmp_path, monkeypatch, optimizer, select):
    settings = {
        "training": {"epochs": 4, "images": 300, "optimizer": optimizer, "select": select},
        "neuralfp": {"fingerprints": 2},
    }
    options = Options(
        defense=("neuralfp",),
        attacks=("fgsm",),
        threat_model=("partial-whitebox",),
        limit=20,
        settings=settings,
    )
    whole = go(options, "whole")
    epochs = []
    real = training_module._State.progressed
    monkeypatch.setattr(
        training_module._State,
        "progressed",
        lambda self, epoch: epochs.append(epoch) or real(self, epoch),
    )
    for calls in (1, 2):
        with monkeypatch.context() as patch:
            stop_after(patch, training_module._State, "progressed", calls)
            assert go(options, "parts").outcome.interrupted
    finished = go(options, "parts")
    assert digests(finished, tmp_path / "parts") == digests(whole, tmp_path / "whole")
    assert not list((tmp_path / "parts" / "v1" / "unfinished").iterdir())
    assert epochs == [1, 2, 3, 1, 2, 3]  # of two networks, none of their epochs twice


def test_an_attack_goes_on_after_its_last_batch(go, tmp_path, monkeypatch):
    options = Options(
        defense=("neuralfp",),
        attacks=("pgd",),
        threat_model=("adaptive-whitebox",),
        limit=40,
        settings={"training": {"epochs": 1}, "neuralfp": {"fingerprints": 2}, "pgd": {"steps": 3}},
    )
    whole = go(options, "whole")
    batches = []
    real = attacking._craft_batch

    def counted(attempt, victim, batch, *rest):
        batches.append((attempt.objective, attempt.threat_model.name, *batch.index.tolist()))
        return real(attempt, victim, batch, *rest)

    monkeypatch.setattr(attacking, "_craft_batch", counted)
    for calls in (2, 3):
        with monkeypatch.context() as patch:
            stop_after(patch, attacking, "_craft_batch", calls)
            assert go(options, "parts").outcome.interrupted
    finished = go(options, "parts")
    assert digests(finished, tmp_path / "parts") == digests(whole, tmp_path / "whole")
    assert len(batches) > 5
    assert len(set(batches)) == len(batches)


def test_batches_are_halved_when_memory_runs_out(go, tmp_path, monkeypatch):
    options = Options(
        defense=("max-softmax",),
        attacks=("pgd",),
        threat_model=("partial-whitebox",),
        limit=20,
        settings={"training": {"epochs": 1}, "pgd": {"steps": 3}},
    )
    whole = go(options, "whole")
    sizes = []
    real = attacking._craft_batch

    def narrow(attempt, victim, batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(attempt, victim, batch, *rest)

    monkeypatch.setattr(attacking, "_craft_batch", narrow)
    finished = go(options, "narrow")
    assert sizes[:4] == [8, 4, 2, 2]
    assert digests(finished, tmp_path / "narrow") == digests(whole, tmp_path / "whole")


def test_an_image_that_fits_nowhere_fails_its_job_alone(go, monkeypatch):
    options = Options(
        defense=("max-softmax",),
        attacks=("pgd", "fgsm"),
        threat_model=("partial-whitebox",),
        limit=20,
        settings={"training": {"epochs": 1}, "pgd": {"steps": 3}},
    )
    real = attacking._craft_batch

    def narrow(attempt, *rest):
        if attempt.attack.name == "pgd":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(attempt, *rest)

    monkeypatch.setattr(attacking, "_craft_batch", narrow)
    cells = {cell.attack.name: cell for cell in go(options, "none").run.cells}
    assert cells["fgsm"].status == "done"
    assert "CUDA out of memory" in cells["pgd"].reason
