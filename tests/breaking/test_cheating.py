"""Attackers who look where they should not: every threat model there is withholds what it says.

Two ways to try. One searches whatever hangs on the objective for the parts of the victim. The other
plays the same game against two systems that differ only in what is withheld: if anything at all that
the attacker is told differs, something leaked.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from spying import COUNT, EPS, QUESTIONS, System, forms, infiltrate, split, told
from torch import nn

from nfbench.core.defense import Observation
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.registry import Registry
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access, Budget, Images
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.guides import guides

REGISTRY = Registry.load()
ALL = pytest.mark.parametrize("name", REGISTRY.names("threat-model"))
PARTS = (nn.Module, nn.Parameter, Victim, Alarm, Recorder)


def threat_model(name: str, **settings: Any) -> ThreatModel:
    return REGISTRY.find("threat-model", name).load()(**settings)


def reachable(root: object, depth: int = 6) -> Iterator[object]:
    """Everything that public attributes, items and the graphs of tensors lead to."""
    seen, front = {id(root): root}, [root]
    for _ in range(depth):
        found = [part for one in front for part in _parts(one) if id(part) not in seen]
        seen |= {id(part): part for part in found}
        front = found
    yield from seen.values()


def _parts(one: object) -> Iterable[object]:
    if isinstance(one, torch.Tensor):
        return [one.grad_fn]
    if hasattr(one, "next_functions"):
        return [*(node for node, _ in one.next_functions), getattr(one, "variable", None)]
    if isinstance(one, dict):
        return one.values()
    if isinstance(one, (list, tuple, set)):
        return one
    if not type(one).__module__.startswith("nfbench"):
        return []
    values = [getattr(one, name, None) for name in dir(one) if not name.startswith("_")]
    return [value for value in values if not callable(value) or isinstance(value, nn.Module)]


@ALL
def test_no_public_attribute_leads_to_a_part_of_the_victim(name):
    def plot(objective: Objective, x: Images) -> None:
        for form in forms(objective):
            found = [part for part in reachable(form) if isinstance(part, PARTS)]
            assert not found, f"{type(form).__name__} leads to {found[0]!r}"

    infiltrate(threat_model(name), System.made(), plot)


def storages(*modules: nn.Module) -> set[int]:
    return storages_in(t for m in modules for t in (*m.parameters(), *m.buffers()))


def storages_in(parts: Iterable[object]) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in parts if isinstance(p, torch.Tensor)}


@ALL
def test_no_answer_s_graph_leads_to_what_is_withheld(name):
    threat, system = threat_model(name), System.made()
    victim = system.victim
    withheld = storages(victim.detector) - storages(victim.classifier)
    if threat.detector == "victim" and threat.access is Access.GRADIENT:
        withheld = set()
    if threat.classifier != "victim" or threat.access < Access.GRADIENT:
        withheld |= storages(victim.classifier)

    def plot(objective: Objective, x: Images) -> None:
        for form, question in product(forms(objective), QUESTIONS):
            for candidates in (x.clone(), x.clone().requires_grad_()):
                answer = told(question, form, candidates)
                assert not (storages_in(reachable(answer, depth=40)) & withheld)

    infiltrate(threat, system, plot)


def test_the_search_finds_what_is_granted_and_what_is_left_lying_about():
    system = System.made()
    assert any(part is system.victim.detector for part in reachable(system.victim))
    x = split().x.clone().requires_grad_()
    answer = reachable(system.victim.observe(x), depth=40)
    assert storages(system.victim.detector) <= storages_in(answer)


@ALL
def test_a_gradient_beyond_what_is_granted_raises(name):
    threat = threat_model(name)
    if threat.access is Access.GRADIENT:
        return

    def plot(objective: Objective, x: Images) -> None:
        for form in forms(objective):
            assert told(lambda o, x: o.gradient(x), form, x).startswith("UnknownToAttacker")
            candidates = x.clone().requires_grad_()
            for question in (QUESTIONS[0], QUESTIONS[4], QUESTIONS[5]):
                answer = told(question, form, candidates)
                for value in answer if isinstance(answer, Observation) else [answer]:
                    if isinstance(value, torch.Tensor) and value.requires_grad:
                        with pytest.raises(UnknownToAttacker):
                            value.sum().backward()
            assert candidates.grad is None

    infiltrate(threat, System.made(), plot)


def transcript(threat: ThreatModel, system: System) -> list[Any]:
    """All answers to all questions, at the images and at points of the ball, in a fixed order."""
    lines: list[Any] = []
    generator = torch.Generator().manual_seed(0)

    def plot(objective: Objective, x: Images) -> None:
        for form in forms(objective):
            for where in (x, (x + EPS * (2 * torch.rand(x.shape, generator=generator) - 1)).clamp(0, 1)):
                lines.extend(told(question, form, where) for question in QUESTIONS)

    # Guides are looked at apart; here both attackers have the same ones.
    around = guides(System.made().known_to(threat), split(60, seed=7), 0, threat.access)
    infiltrate(threat, system, plot, around)
    return [part for line in lines for part in (line if isinstance(line, tuple) else [line])]


def differences(one: list[Any], other: list[Any]) -> int:
    def same(a: Any, b: Any) -> bool:
        return (
            torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
        )

    return sum(not same(a, b) for a, b in zip(one, other, strict=True))


@ALL
def test_what_is_withheld_changes_nothing_that_the_attacker_is_told(name):
    threat, system = threat_model(name), System.made()
    other = system.changed(threat)
    if other is not None:
        assert differences(transcript(threat, system), transcript(threat, other)) == 0


@ALL
def test_what_is_granted_does_change_it(name):
    threat, system = threat_model(name), System.made()
    other = System.made(secret=3)
    other.victim.classifier.network.scale = 2.0  # the same images are attacked
    if threat.transfers:
        other = System(system.victim, (*system.replicas[1:], other.victim))
    assert differences(transcript(threat, system), transcript(threat, other)) > 20


@ALL
def test_the_guides_tell_nothing_that_is_withheld(name):
    threat, system = threat_model(name), System.made()
    other, train = system.changed(threat), split(60, seed=7)
    if other is not None:
        one, two = (guides(s.known_to(threat), train, 0, threat.access) for s in (system, other))
        assert torch.equal(one.index, two.index)


@ALL
def test_decisions_are_the_class_and_one_bit(name):
    threat = threat_model(name)
    if threat.access is not Access.DECISION:
        return

    def plot(objective: Objective, x: Images) -> None:
        for form in forms(objective):
            logits, score, *others = form.query(x)
            assert logits.sum(1).tolist() == [1.0] * len(x)
            assert set(logits.unique().tolist()) == {0, 1}
            assert set(score.unique().tolist()) <= {0, 1}
            assert others == [None] * len(others)
            assert len(form.margin(x).unique()) <= 4  # of what is wrong or not, and rejected or not

    infiltrate(threat, System.made(), plot)


@ALL
@pytest.mark.parametrize("trick", ["query", "probe", "repeat", "loss", "margin", "runner_up", "recast"])
def test_no_trick_gets_more_answers_than_are_granted(name, trick):
    if threat_model(name).query_limit is None:
        return
    threat, limit = threat_model(name, queries=5), 5
    tricks = {
        "query": lambda o, x: o.query(x),
        "probe": lambda o, x: o.query(x, record=False),
        "repeat": lambda o, x: o.query(x[[0] * 3], torch.tensor([0, 0, 0]), record=False),
        "loss": lambda o, x: o.begin().loss(x),
        "margin": lambda o, x: o.towards((o.labels + 1) % 3).margin(x),
        "runner_up": lambda o, x: o.runner_up(x),
        "recast": lambda o, x: o.recast(type(o)).query(x),
    }

    def plot(objective: Objective, x: Images) -> None:
        answers = [told(tricks[trick], objective, x) for _ in range(9)]
        refused = [isinstance(a, str) and "queries an image are answered" in a for a in answers]
        assert refused == [k >= (1 if trick == "repeat" else limit) for k in range(9)]
        assert objective.queries_left(torch.tensor([0])) <= 2

    assert int(infiltrate(threat, System.made(), plot)["forward"].max()) <= limit


@ALL
def test_moving_the_image_while_nobody_looks_gains_nothing(name):
    threat = threat_model(name)

    def plot(objective: Objective, x: Images) -> None:
        original = x.clone()
        for shift in (0.5, -0.5, 0.9, -0.9):
            x.copy_((original + shift).clamp(0, 1))
            with torch.no_grad():
                objective.query(x.clone())
        x.copy_(original)

    images = infiltrate(threat, System.made(), plot)["images"]
    assert len(images) == COUNT
    assert Budget("linf", EPS).contains(split().x, images).all()


@ALL
def test_changing_the_labels_gains_nothing(name):
    threat = threat_model(name)

    def plot(objective: Objective, x: Images) -> None:
        objective.labels.copy_((objective.labels + 1) % 3)
        with torch.no_grad():
            objective.query((x + 0.01).clamp(0, 1))  # what no honest attack would be credited for

    found = infiltrate(threat, System.made(), plot)
    honest = split()
    assert torch.equal(found["label"], honest.y)
    assert torch.equal(found["images"], honest.x)
