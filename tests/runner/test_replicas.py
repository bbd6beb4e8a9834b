"""Attackers without the victim: what they are handed, and how their results meet it."""

from dataclasses import replace

import pytest
import torch

from nfbench.core.draws import seed_of
from nfbench.core.values import Access
from nfbench.runner.guides import PER_CLASS, guides
from nfbench.runner.plan import make_plan
from nfbench.runner.spec import resolve
from nfbench.testing.fixtures import linear_images, planted_victim

TRANSFER = ("blackbox", "limited-knowledge")


@pytest.fixture
def plan(tiny, registry):
    def make(*defenses, threats=TRANSFER, **changes):
        options = tiny(defense=defenses, attacks=("fgsm",), threat_model=threats, **changes)
        return make_plan(resolve(options, registry))

    return make


def crafts(plan, defense, threat):
    return [plan.jobs[k] for c in plan.cells for k in c.crafts if _is(c, defense, threat)]


def _is(cell, defense, threat):
    return (cell.defense.name, cell.threat_model.name) == (defense, threat)


def test_a_blackbox_attack_is_made_once_for_all_defenses_on_undefended_replicas(plan):
    made = plan("max-softmax", "neuralfp")
    one, two = (crafts(made, d, "blackbox") for d in ("max-softmax", "neuralfp"))
    assert [j.key for j in one] == [j.key for j in two]
    trained = [made.jobs[key] for key in one[0].needs]
    assert [j.kind for j in trained] == ["train"] * 3
    assert all(j.recipe["defense"] is None for j in trained)
    seeds = {j.recipe["seed"] for j in trained}
    assert len(seeds) == 3
    assert 0 not in seeds  # none is the victim's


def test_who_lacks_the_secret_has_the_victims_classifier_and_replicas_with_other_secrets(plan):
    made = plan("neuralfp")
    (cell,) = (c for c in made.cells if c.threat_model.name == "limited-knowledge")
    (craft,) = crafts(made, "neuralfp", "limited-knowledge")
    victim, *others = craft.needs
    assert victim == made.jobs[cell.score].needs[0]
    kinds = [made.jobs[key].kind for key in others]
    assert kinds == ["train", "fit", "clean"] * 3
    secrets = {made.jobs[key].recipe["defense"]["secret"] for key in others[::3]}
    assert len(secrets) == 3
    assert cell.defense.recipe.secret not in secrets
    assert not set(others) & set(made.jobs[cell.score].needs)  # the victim's detector is not there


def test_a_detector_on_a_shared_classifier_is_refitted_on_other_halves_of_the_data(plan):
    made = plan("kd")
    (craft,) = crafts(made, "kd", "limited-knowledge")
    victim, *others = craft.needs
    fits = [made.jobs[key] for key in others[1::3]]
    assert set(others[::3]) == {victim}
    assert len({fit.recipe["half"] for fit in fits}) == 3
    (cell,) = (c for c in made.cells if c.threat_model.name == "limited-knowledge")
    assert "half" not in made.jobs[made.jobs[cell.score].needs[1]].recipe


def test_results_of_replicas_are_not_chosen_on_the_victim(plan):
    made = plan("kd", eps=("0.1", "0.2"), threats=(*TRANSFER, "adaptive-whitebox"))
    for threat in TRANSFER:
        own = [c for c in made.cells if c.threat_model.name == threat]
        assert [len(c.crafts) for c in own] == [1, 1]
    adaptive = [c for c in made.cells if c.threat_model.name == "adaptive-whitebox"]
    assert [len(c.crafts) for c in adaptive] == [2, 4]  # with the smaller radius'


def test_the_seed_of_a_replica_is_not_that_of_another_run(plan):
    made = plan("max-softmax", seed=(0, 1))
    (first, second) = (
        {made.jobs[k].recipe["seed"] for k in c.crafts and made.jobs[c.crafts[0]].needs}
        for c in made.cells
        if c.threat_model.name == "blackbox"
    )
    assert not first & second
    assert seed_of("replica", 0, 0) % 2**31 in first


def test_attacks_on_replicas_run_and_are_scored_on_what_the_victim_gets_right(tiny, go):
    threats = ("blackbox", "partial-whitebox", "limited-knowledge", "adaptive-whitebox")
    done = go(tiny(defense=("kd",), attacks=("fgsm",), threat_model=threats))
    cells = {c.threat_model.name: c for c in done.run.cells}
    assert all(c.finished for c in cells.values()), [c.reason for c in cells.values()]
    indices = [done.run.samples[c.cell]["index"].tolist() for c in cells.values()]
    assert all(index == indices[0] for index in indices)
    assert not cells["blackbox"].adaptive
    assert cells["limited-knowledge"].adaptive


def test_guides_are_right_accepted_and_at_most_so_many_a_class():
    victim, train = planted_victim(), linear_images(300)
    chosen = guides(victim, train, 0)
    seen = victim.observe(chosen.x)
    assert len(chosen) > 4
    assert torch.equal(seen.logits.argmax(1), chosen.y)
    assert (seen.score <= victim.alarm.median).all()
    assert chosen.y.bincount().max() <= PER_CLASS
    assert torch.equal(guides(victim, train, 0).index, chosen.index)
    by_decision = guides(victim, train, 0, Access.DECISION)
    assert len(by_decision) > len(chosen)
    assert (victim.observe(by_decision.x).score <= victim.alarm.threshold).all()
    blind = guides(replace(victim, detector=None, alarm=None), train, 0)
    assert len(blind) >= len(by_decision)
