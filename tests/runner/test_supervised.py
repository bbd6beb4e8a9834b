"""Detectors that learn from attacks: what is crafted for them, and that nothing overlaps."""

import json
from collections import Counter
from itertools import pairwise

import pytest
import supervised
import torch

from nfbench import UsageError
from nfbench.core.recorder import LOOKS
from nfbench.core.registry import Registry
from nfbench.runner.jobs import draws_seed
from nfbench.runner.measuring import scores
from nfbench.session import plan_of
from nfbench.store import Store
from nfbench.testing.fixtures import linear_classifier, linear_images
from nfbench_datasets.digits import Digits

WHITE = ("whitebox-defense",)
BOTH = ("partial-whitebox", "adaptive-whitebox")


@pytest.fixture
def known():
    return Registry.load(supervised.plugin())


@pytest.fixture
def apprentice(tiny):
    def make(settings=None, **changes):
        usual = {"defense": ("apprentice",), "attacks": ("fgsm", "pgd"), "train_limit": 30}
        return tiny(settings, **(usual | changes))

    return make


def training_crafts(plan):
    return {k: j for k, j in plan.jobs.items() if j.kind == "craft" and j.recipe["split"] == "train"}


def test_a_blackbox_defense_learns_from_one_attack_whatever_it_is_tested_on(apprentice, known):
    plan = plan_of(apprentice(), known)
    ((key, job),) = training_crafts(plan).items()
    assert job.recipe["attack"]["name"] == "fgsm"
    assert job.recipe["limit"] == 30
    fits = [j for j in plan.jobs.values() if j.kind == "fit"]
    assert [fit.needs[1:] for fit in fits] == [(key,)]
    assert {c.defender for c in plan.cells} == {"blackbox-defense"}


def test_a_training_and_a_test_image_of_one_index_get_different_draws(apprentice, known):
    jobs = plan_of(apprentice(attacks=("pgd",), defender=WHITE), known).jobs.values()
    crafts = {job.recipe["split"]: draws_seed(job.recipe) for job in jobs if job.kind == "craft"}
    assert crafts["test"] == 0
    assert crafts["train"] != crafts["test"]


def test_a_whitebox_defense_learns_from_each_attack_it_is_tested_on(apprentice, known):
    plan = plan_of(apprentice(defender=WHITE), known)
    taught = {j.recipe["attack"]["name"]: k for k, j in training_crafts(plan).items()}
    assert taught.keys() == {"fgsm", "pgd"}
    for cell in plan.cells:
        fit = plan.jobs[plan.jobs[cell.score].needs[1]]
        assert fit.needs[1:] == (taught[cell.attack.name],)
        assert cell.defense.recipe.learns_from == cell.attack.name
        assert "--whitebox-defense--" in cell.name


def test_training_images_are_attacked_once_for_all_detectors_and_defenders(apprentice, known):
    alone = plan_of(apprentice(), known)
    both = plan_of(apprentice(defender=("all",), threat_model=BOTH), known)
    assert len(both.cells) == 4 * len(alone.cells)
    assert len(training_crafts(both)) == 2
    assert training_crafts(alone).keys() < training_crafts(both).keys()
    names = [cell.name for cell in both.cells]
    assert len(set(names)) == len(names)


def test_a_detector_of_clean_images_alone_has_no_defender(apprentice, known):
    plan = plan_of(apprentice({"apprentice": {"learns_from": None}}, defender=("all",)), known)
    assert {cell.defender for cell in plan.cells} == {""}
    assert len(plan.cells) == 2
    assert not training_crafts(plan)


def test_the_attack_learnt_from_need_not_be_tested_and_has_its_settings(apprentice, known):
    options = apprentice(
        {"apprentice": {"learns_from": "bim-b"}, "bim-b": {"steps": 3}}, attacks=("fgsm",)
    )
    ((_, job),) = training_crafts(plan_of(options, known)).items()
    assert (job.recipe["attack"]["name"], job.recipe["attack"]["steps"]) == ("bim-b", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": {"apprentice": {"learns_from": "fgms"}}},
            "apprentice.learns_from = 'fgms'.*'fgsm'",
        ),
        ({"defender": ("whitebox",)}, "--defender whitebox: expected .*did you mean 'whitebox-defense'"),
        ({"train_limit": 0}, "--train-limit must be at least 1, got 0"),
    ],
)
def test_what_can_not_be_learnt_from_is_refused_in_one_line(apprentice, known, changes, message):
    with pytest.raises(UsageError, match=message):
        plan_of(apprentice(**changes), known)


def test_an_attack_without_a_bound_can_not_be_learnt_from(apprentice, known):
    plan = plan_of(apprentice(attacks=("cw",), eps=("unbounded",)), known)
    assert [c.reason for c in plan.cells] == [
        "apprentice learns from fgsm, which needs a bound: give --eps linf=…"
    ]


def test_what_is_learnt_from_is_attacked_training_images_and_no_test_image(
    apprentice, known, go, tmp_path
):
    done = go(apprentice(defender=("all",), attacks=("fgsm", "jsma")), given=known)
    assert [c.status for c in done.run.cells] == ["done"] * 4, [c.reason for c in done.run.cells]
    splits, store = Digits().splits(None), Store(tmp_path / "cache")
    held_out = torch.cat([splits.calibration.x, splits.test.x]).flatten(1)
    fits = [k for k, j in done.plan.jobs.items() if j.kind == "fit"]
    assert len(fits) == 2  # learning from fgsm is the same for both defenders
    for key in fits:
        learnt = store.get(key).tensors
        assert 10 < len(learnt["examples"]) <= 30
        assert set(learnt["examples"].tolist()) <= set(splits.train.index.tolist())
        assert not torch.isin(
            learnt["clean"], torch.cat([splits.calibration.index, splits.test.index])
        ).any()
        assert float(torch.cdist(learnt["images"].flatten(1), held_out).min()) > 0
        assert float(learnt["noised"].mean()) == pytest.approx(float(learnt["moved"].mean()), rel=0.03)
        assert float(learnt["moved"].max()) > 0.5


def test_results_say_what_the_detector_learnt_from(apprentice, known, go, tmp_path):
    done = go(apprentice(defender=WHITE), given=known)
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    record = next(r for r in map(json.loads, lines) if r["attack"]["name"] == "pgd")
    assert record["defender"] == "whitebox-defense"
    assert record["defense"]["params"]["learns_from"] == "pgd"
    (note,) = record["notes"]
    assert note.startswith("learnt from pgd on ")
    page = (tmp_path / "run" / "leaderboard.md").read_text()
    assert "| apprentice (whitebox-defense) |" in page
    assert done.run.info["spec"]["train_limit"] == 30


def test_an_attack_that_fails_on_every_training_image_fails_its_cells_in_one_line(apprentice, known, go):
    done = go(apprentice(attacks=("fgsm",), eps=("0.0001",)), given=known)
    (cell,) = done.run.cells
    assert cell.status == "failed"
    assert "can't learn from fgsm: it fools the classifier on none of the" in cell.reason
    assert "\n" not in cell.reason


def test_overlapping_data_is_refused_by_the_run(apprentice, known, go, monkeypatch):
    splits = Digits().splits(None)
    rows = torch.arange(50)
    leaking = splits._replace(test=splits.train.take(torch.arange(100)))
    monkeypatch.setattr(Digits, "splits", lambda self, data_dir: leaking)
    monkeypatch.setattr(Digits, "digest", lambda self, data_dir: f"leaking {len(rows)}")
    (cell, _) = go(apprentice(), given=known).run.cells
    assert cell.status == "failed"
    assert "100 of 500 calibration and test images are also training images" in cell.reason


def test_a_paired_detector_sees_each_image_with_its_original_in_whole_minibatches():
    detector = supervised.Distance(linear_classifier())
    x = linear_images(10).x
    assert torch.equal(scores(detector, x), torch.zeros(10))
    moved = x.clone()
    moved[:, 0, 0, 0] += torch.arange(10) / 100
    assert torch.allclose(scores(detector, moved, x), torch.arange(10) / 100, atol=1e-6)
    with pytest.raises(UsageError, match="scores 4 images at once, beside their originals, and got 3"):
        scores(detector, x[:3])


def test_a_paired_detector_is_flagged_and_never_attacked_knowingly(tiny, known, go, tmp_path):
    options = tiny(defense=("cheat",), threat_model=BOTH)
    done = go(options, given=known)
    static, adaptive = done.run.cells
    assert (static.status, adaptive.status) == ("done", "skipped")
    assert adaptive.reason.startswith("cheat can't be attacked knowingly: sees the clean original")
    assert static.metrics["auroc_returned"].value == 1.0
    assert static.metrics["fpr_on_jpeg_at_5"].value == 1.0
    assert static.metrics["auroc_noisy"].value < 1.0
    assert "cheat † sees the clean original" in (tmp_path / "run" / "leaderboard.md").read_text()


def test_reported_scores_are_of_draw_0_and_every_query_of_an_attack_of_another(tiny, known, go):
    supervised.asked.clear()
    done = go(tiny(defense=("gambler",), attacks=("bim-b",), threat_model=BOTH[1:]), given=known)
    assert [c.status for c in done.run.cells] == ["done"], done.run.cells[0].reason
    asked = Counter(supervised.asked)
    queries = [draw for draw in supervised.asked if 0 < draw < 1_000_000]
    assert all(later == 1 or sooner < later <= sooner + LOOKS for sooner, later in pairwise(queries))
    assert max(queries) > 10
    assert asked[0] >= 8
    clean = done.run.samples[done.run.cells[0].cell]["clean_score"]
    assert float(clean.max()) < 1  # any other draw adds at least one


def test_a_classifier_that_a_defense_can_not_protect_skips_its_cells(tiny, known, go):
    done = go(tiny(defense=("picky", "max-softmax")), given=known)
    reasons = {c.defense.name: (c.status, c.reason) for c in done.run.cells}
    assert reasons["picky"] == ("skipped", "picky needs a classifier with recurrent layers")
    assert reasons["max-softmax"][0] == "done"


def test_a_layer_that_is_not_there_is_refused_before_any_work(tiny, known):
    with pytest.raises(UsageError, match="picky: no layer 'nope'"):
        plan_of(tiny({"picky": {"layer": "nope"}}, defense=("picky",)), known)
