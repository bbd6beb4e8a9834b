"""Repeating cells from nothing, and code that results name."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from trusted import members, repack, run_into

from nfbench.core.errors import CorruptArtifact, UsageError, VerificationMismatch
from nfbench.records import CellRecord
from nfbench.report.run import read
from nfbench.runner.options import Options
from nfbench.session import plan_of
from nfbench.store import Artifact, Store
from nfbench.trust import Means, Rerun, submit, verify
from nfbench.trust.comparing import (
    require_same_vectors,
    require_within_intervals,
    same_arithmetic,
    spared,
)
from nfbench.trust.rescoring import sample

SMALL = {
    "defense": ("max-softmax",),
    "attacks": ("fgsm",),
    "threat_model": ("partial-whitebox",),
    "settings": {"training": {"epochs": 1}},
}


@pytest.fixture
def made_up(tmp_path, registry):
    """A run that is right in every number, of weights that no training gave."""
    plan = plan_of(Options(**SMALL, limit=40, eps=("0.25",)), registry)
    (train,) = {job.key for job in plan.jobs.values() if job.kind == "train"}
    run_into(tmp_path, registry, name="honest", cache="honest-cache", **SMALL)
    store = Store(tmp_path / "honest-cache")
    weights = {k: v + 0.05 * torch.ones_like(v) for k, v in store.get(train).tensors.items()}
    forged = Artifact(weights, store.get(train).info)
    Store(tmp_path / "cache").put(plan.jobs[train], forged, store.manifest(train)["provenance"])
    return run_into(tmp_path, registry, **SMALL)


def test_a_made_up_result_passes_re_scoring_and_fails_when_it_is_repeated(made_up, registry):
    means = Means(registry, made_up.parent / "cache", "cpu")
    archive = submit(made_up, means).path
    assert verify(archive, Means(registry, None, "cpu")).level == "re-scored"
    with pytest.raises(VerificationMismatch, match=r"--seed0: metrics\.\w+\.\w+ is .* in the results"):
        verify(archive, Means(registry, None, "cpu"), rerun=Rerun(0.02))


def test_a_seed_chooses_the_same_cells_and_another_seed_others(made):
    cells = read(made.run).cells
    chosen = {tuple(sample(cells, 0.25, seed)) for seed in range(20)}
    assert sample(cells, 0.25, 7) == sample(cells, 0.25, 7)
    assert len(chosen) > 5
    assert {len(names) for names in chosen} == {2}
    assert len(sample(cells, 0.001, 0)) == 1
    assert len(sample(cells, 1.0, 0)) == len(cells)


def test_other_versions_and_other_devices_are_not_held_to_the_last_bit(made):
    here = read(made.run).cells[0].environment
    assert same_arithmetic(here, here)
    for change in (
        {"device": "cuda (X)"},
        {"cpu_capability": "NONE"},
        {"packages": here["packages"] | {"torch": "1.0"}},
        {"nfbench": "9"},
    ):
        assert not same_arithmetic(here | change, here)
    gpu = here | {"device": "cuda (X)"}
    assert not same_arithmetic(gpu, gpu)


def test_elsewhere_few_images_may_differ_and_at_home_none():
    def vectors(*changed):
        scores = np.linspace(0, 1, 200, dtype=np.float32)
        scores[list(changed)] += 1
        return {"evasion_score": scores, "calibration_score": np.linspace(0, 1, 40)}

    for count, spare in ((2, 0.01), (20, 0.1)):
        require_same_vectors("cell", vectors(*range(count)), vectors(), spare=spare, all_of_them=True)
    for count, spare in ((1, 0.0), (3, 0.01)):
        with pytest.raises(
            VerificationMismatch, match=r"cell: evasion_score\[0\] is 1.0 in the results"
        ):
            require_same_vectors(
                "cell", vectors(*range(count)), vectors(), spare=spare, all_of_them=True
            )
    assert spared(exact=True, minimises=True) == 0 < spared(exact=False, minimises=False)


def record_with(record, name, value):
    metrics = {**record.metrics, name: record.metrics[name].model_copy(update={"value": value})}
    return record.model_copy(update={"metrics": metrics})


def test_elsewhere_a_repeated_metric_must_lie_in_the_interval_of_the_record(made):
    said: CellRecord = read(made.run).cells[0]
    interval = said.metrics["auroc_returned"]
    require_within_intervals(said, record_with(said, "auroc_returned", interval.low))
    require_within_intervals(said, record_with(said, "auroc_returned", interval.high))
    outside = interval.low - 0.01 if interval.low > 0.01 else interval.high + 0.01
    with pytest.raises(VerificationMismatch, match=r"metrics\.auroc_returned"):
        require_within_intervals(said, record_with(said, "auroc_returned", outside))


@pytest.mark.parametrize("kind", ["defense", "attacks", "threat_model", "dataset", "model"])
def test_code_that_results_name_is_not_imported(made, registry, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_code.py").write_text("open('ran', 'w').close()\nclass Thing: pass\n")
    contents = members(made.archive)
    info = json.loads(contents["run.json"])
    named = "evil_code:Thing"
    info["options"][kind] = named if isinstance(info["options"][kind], str) else [named]
    repack(made.archive, contents | {"run.json": json.dumps(info).encode()})
    with pytest.raises(UsageError, match=r"evil_code:Thing.*--allow-code"):
        verify(made.archive, Means(registry, None, "cpu"))
    assert not (tmp_path / "ran").exists()
    assert "evil_code" not in sys.modules


ENDLESS = {
    "seed": list(range(100_001)),
    "eps": [f"linf={n / 1e6}" for n in range(1, 20_000)],
    "attacks": ["fgsm"] * 50_000,
    "limit": 2**31,
    "train_limit": -1,
    "skip": ["x@y"] * 1001,
}


@pytest.mark.parametrize("field", ENDLESS)
def test_a_request_without_end_is_refused_before_it_is_unrolled(made, registry, monkeypatch, field):
    def unrolled(spec):
        raise AssertionError("the plan was made")

    monkeypatch.setattr("nfbench.trust.means.make_plan", unrolled)
    info = json.loads((made.run / "run.json").read_text())
    info["options"][field] = ENDLESS[field]
    (made.run / "run.json").write_text(json.dumps(info))
    with pytest.raises(CorruptArtifact, match=rf"100000 are allowed|options\.{field}"):
        verify(made.run, made.means)


def test_patterns_that_stand_for_too_many_cells_are_refused_before_they_are_unrolled(made, monkeypatch):
    monkeypatch.setattr("nfbench.runner.recorded.MOST_CELLS", 20)
    info = json.loads((made.run / "run.json").read_text())
    info["options"] |= {"defense": ["*"], "attacks": ["fgsm"], "threat_model": ["*"], "settings": {}}
    (made.run / "run.json").write_text(json.dumps(info))
    with pytest.raises(CorruptArtifact, match="20 are allowed"):
        verify(made.run, made.means)


def test_a_network_of_ones_own_is_checked_by_who_allows_its_code(tmp_path, registry, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = (
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    (tmp_path / "their_net.py").write_text(source)
    run = run_into(
        tmp_path, registry, model="their_net:net", **SMALL | {"settings": {"training": {"epochs": 3}}}
    )
    means = Means(registry, tmp_path / "cache", "cpu")
    with pytest.raises(UsageError, match="--allow-code"):
        verify(run, means)
    assert verify(run, replace(means, allow_code=True)).level == "re-scored"
