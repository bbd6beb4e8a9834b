"""The plan: which jobs a matrix needs, which of them are shared, and what their keys depend on."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from nfbench import Access
from nfbench.core.registry import Registry
from nfbench.runner.options import Options
from nfbench.session import plan_of
from nfbench_attacks.gradient import FGSM
from nfbench_defenses.trivial import MaxSoftmax
from nfbench_threats.whitebox import PartialWhitebox

BOTH = ("partial-whitebox", "adaptive-whitebox")


class Queries(PartialWhitebox):
    """Answers with scores, without gradients."""

    name = "queries"
    access: ClassVar[Access] = Access.SCORES


def kinds(plan):
    return Counter(job.kind for job in plan.jobs.values())


@pytest.fixture
def matrix(tiny):
    return tiny(defense=("neuralfp", "max-softmax"), attacks=("fgsm", "pgd"), threat_model=BOTH)


@pytest.fixture
def plan_for(registry):
    return lambda options: plan_of(options, registry)


def test_the_jobs_of_a_small_matrix_are_counted(matrix, plan_for):
    plan = plan_for(matrix)
    assert len(plan.cells) == 8
    # Static attacks: 2 on each classifier. Adaptive ones: FGSM has 1 objective, PGD 3, by detector.
    crafts = 2 * 2 + 2 * (1 + 3)
    assert kinds(plan) == {"train": 2, "fit": 2, "clean": 2, "time": 2, "craft": crafts, "score": 8}
    assert plan.saved == plan.requested - 28


def test_a_detector_that_does_not_cotrain_adds_neither_classifier_nor_static_attack(tiny, plan_for):
    one = kinds(plan_for(tiny(attacks=("fgsm", "pgd"), threat_model=BOTH)))
    two = kinds(
        plan_for(tiny(defense=("max-softmax", "random"), attacks=("fgsm", "pgd"), threat_model=BOTH))
    )
    assert one == {"train": 1, "fit": 1, "clean": 1, "time": 1, "craft": 2 + 4, "score": 4}
    assert two - one == {"fit": 1, "clean": 1, "time": 1, "distil": 1, "craft": 4, "score": 4}


def test_the_undefended_reference_is_one_for_all_detectors_and_threat_models(matrix, plan_for):
    cells = plan_for(matrix).cells
    assert all(cell.undefended for cell in cells)
    for attack in ("fgsm", "pgd"):
        assert len({cell.undefended for cell in cells if cell.attack.name == attack}) == 1
    static = next(c for c in cells if c.threat_model.name == BOTH[0] and c.defense.name == "max-softmax")
    assert static.crafts == (static.undefended,)


def test_static_attacks_are_crafted_without_the_detector(matrix, plan_for):
    plan = plan_for(matrix)
    for cell in plan.cells:
        needs = {plan.jobs[n].kind for key in cell.crafts for n in plan.jobs[key].needs}
        assert needs == ({"train"} if cell.threat_model.name == BOTH[0] else {"train", "fit", "clean"})


def test_who_knows_the_detector_may_also_run_the_attack_that_does_not(matrix, plan_for):
    by_name = {c.name: c for c in plan_for(matrix).cells}
    for name, cell in by_name.items():
        if cell.threat_model.name == BOTH[1]:
            static = by_name[name.replace(BOTH[1], BOTH[0])]
            assert cell.crafts[-1:] == static.crafts
            assert cell.objectives[-1] == f"{BOTH[0]} {static.objectives[0]}"


def test_the_scoring_of_a_cell_needs_all_its_objectives(matrix, plan_for):
    plan = plan_for(matrix)
    cell = next(c for c in plan.cells if c.attack.name == "pgd" and c.threat_model.name == BOTH[1])
    assert cell.objectives[:3] == ("margin", "orthogonal", "matching")
    assert plan.jobs[cell.score].needs[-len(cell.crafts) :] == cell.crafts
    assert len(cell.crafts) == len(cell.objectives) == 4


def test_every_need_is_a_job_of_the_plan(matrix, plan_for):
    plan = plan_for(matrix)
    assert all(need in plan.jobs for job in plan.jobs.values() for need in job.needs)
    assert all(key == job.key for key, job in plan.jobs.items())


def test_nothing_is_shared_between_seeds(matrix, plan_for):
    alone, both = plan_for(matrix), plan_for(replace(matrix, seed=(0, 1)))
    assert len(both.jobs) == 2 * len(alone.jobs)
    assert alone.jobs.keys() < both.jobs.keys()
    secrets = {c.seed: c.defense.recipe.secret for c in both.cells}
    assert secrets[0] != secrets[1]


def test_a_given_secret_is_kept(tiny, plan_for):
    plan = plan_for(tiny({"random": {"secret": 7}}, defense=("random",), seed=(0, 1)))
    assert {c.defense.recipe.secret for c in plan.cells} == {7}


def test_cell_names_are_unique_and_fit_for_files(matrix, plan_for):
    names = [c.name for c in plan_for(replace(matrix, seed=(0, 1), attacks=("fgsm", "cw"))).cells]
    assert len(set(names)) == len(names) == 16
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") for name in names)


KEYS = """
import json
from nfbench.core.registry import Registry
from nfbench.runner.options import Options
from nfbench.session import plan_of
options = Options(defense=("neuralfp", "max-softmax"), attacks=("fgsm", "pgd"), limit=20,
                  settings={"training": {"epochs": 1}})
plan = plan_of(options, Registry.load())
print(json.dumps([plan.digest, list(plan.jobs)]))
"""


def test_keys_are_the_same_in_another_process(matrix, plan_for):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", KEYS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    plan = plan_for(matrix)
    assert json.loads(done.stdout) == [plan.digest, list(plan.jobs)]


def by_kind(plan):
    return {kind: {k for k, j in plan.jobs.items() if j.kind == kind} for kind in kinds(plan)}


def changed(before, after):
    """Kinds of which not one key stayed."""
    before, after = by_kind(before), by_kind(after)
    return {kind for kind in before if not before[kind] & after[kind]}


OF_DETECTOR = {"fit", "clean", "time", "score"}
ALL = {"train", "fit", "clean", "time", "craft", "score"}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"settings": {"training": {"epochs": 2}}}, ALL),
        ({"model": "small-conv"}, ALL),
        ({"seed": (3,)}, ALL),
        ({"limit": 21}, {"clean", "time", "craft", "score"}),
        ({"eps": ("0.2",)}, {"craft", "score"}),
        ({"settings": {"training": {"epochs": 1}, "pgd": {"steps": 3}}}, {"craft", "score"}),
        ({"settings": {"training": {"epochs": 1}, "random": {"secret": 5}}}, OF_DETECTOR),
        ({"data_dir": Path("elsewhere")}, set()),
    ],
)
def test_a_change_makes_anew_what_depends_on_it_and_nothing_else(tiny, plan_for, changes, kinds):
    options = tiny(defense=("random",), attacks=("pgd",))
    assert changed(plan_for(options), plan_for(replace(options, **changes))) == kinds


@pytest.mark.parametrize(("cls", "kinds"), [(MaxSoftmax, OF_DETECTOR), (FGSM, {"craft", "score"})])
def test_a_new_version_of_a_recipe_changes_the_keys_of_what_uses_it(
    tiny, plan_for, monkeypatch, cls, kinds
):
    before = plan_for(tiny())
    monkeypatch.setattr(cls, "version", cls.version + 1)
    assert changed(before, plan_for(tiny())) == kinds


def test_other_data_changes_every_key(tiny, registry, plan_for, monkeypatch):
    before = plan_for(tiny())
    cls = registry.find("dataset", "digits").load()
    monkeypatch.setattr(cls, "digest", lambda self, data_dir: "other")
    assert changed(before, plan_for(tiny())) == ALL


def test_an_attack_without_a_bound_is_skipped_with_a_reason(tiny, plan_for):
    plan = plan_for(tiny(eps=("unbounded",)))
    assert [c.reason for c in plan.cells] == ["fgsm needs a bound: give --eps linf=…"]
    assert not plan.jobs


def test_a_gradient_attack_is_skipped_where_gradients_are_withheld(tiny):
    found = Registry.load(SimpleNamespace(nfbench_threat_models=lambda: [Queries]))
    plan = plan_of(tiny(attacks=("fgsm", "spsa"), threat_model=("queries",)), found)
    reasons = {c.attack.name: c.reason for c in plan.cells}
    assert reasons == {"fgsm": "needs gradient access, granted scores", "spsa": ""}


def test_given_weights_exclude_a_defense_that_trains_its_own_classifier(
    tiny, plan_for, tmp_path, monkeypatch
):
    (tmp_path / "own_net_planned.py").write_text(
        "def build():\n    raise RuntimeError('planning needs no network')\n"
    )
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    options = tiny(
        defense=("neuralfp", "random"), model="own_net_planned:build", weights=tmp_path / "w.safetensors"
    )
    reasons = {c.defense.name: c.reason for c in plan_for(options).cells}
    assert reasons == {
        "neuralfp": "neuralfp trains its own classifier, which --weights forbids",
        "random": "",
    }


def test_other_weights_change_the_keys(tiny, plan_for, tmp_path, monkeypatch):
    (tmp_path / "own_net_weighed.py").write_text("def build(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "w.safetensors"
    options = tiny(model="own_net_weighed:build", weights=file)
    file.write_bytes(b"some")
    before = plan_for(options)
    file.write_bytes(b"others")
    assert changed(before, plan_for(options)) == ALL


def test_labels_and_costs_are_for_people(matrix, plan_for):
    jobs = plan_for(matrix).jobs.values()
    assert all(job.label and job.weight > 0 for job in jobs)


def test_plans_of_other_cells_have_other_digests(tiny, plan_for):
    assert plan_for(tiny()).digest != plan_for(tiny(limit=21)).digest
    assert plan_for(tiny()).digest == plan_for(Options(**vars(tiny()))).digest
