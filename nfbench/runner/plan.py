"""The plan: a spec unrolled into a DAG of content-addressed jobs, before any of them runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import product
from typing import Any

import torch

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.defense import Defense
from nfbench.core.draws import seed_of
from nfbench.core.threat import ThreatModel
from nfbench.runner.builder import Builder
from nfbench.runner.networks import build_network
from nfbench.runner.spec import Chosen, OwnModel, Spec, load_factory
from nfbench.store import Job, JobKind, Key


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix: the job whose vectors fill it, or why it stays empty."""

    defense: Chosen[Defense]
    attack: Chosen[Attack]
    threat_model: Chosen[ThreatModel]
    seed: int
    eps: float
    defender: str = ""
    """What the defender knows; empty for a detector that learns from clean images alone."""
    teacher: Chosen[Attack] | None = None
    """The attack that a supervised detector learns from."""
    objectives: tuple[str, ...] = ()
    score: Key | None = None
    undefended: Key | None = None
    """The same attack on the same architecture trained without the defense."""
    crafts: tuple[Key, ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """Unique within a run, and fit for a file name."""
        norm = self.attack.recipe.norm
        size = f"{norm}-{self.eps:.6g}" if math.isfinite(self.eps) else f"{norm}-unbounded"
        parts = [self.defense.name, self.defender, self.attack.name, self.threat_model.name, size]
        return "--".join(part for part in (*parts, f"seed{self.seed}") if part)


@dataclass
class Plan:
    """Jobs by key, the cells they fill, and how many more jobs there would be without sharing."""

    spec: Spec
    jobs: dict[Key, Job] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    requested: int = 0

    @property
    def saved(self) -> int:
        return self.requested - len(self.jobs)

    @property
    def digest(self) -> str:
        """Identifies the run: equal for equal cells."""
        text = "\n".join(f"{cell.name} {cell.score} {cell.undefended}" for cell in self.cells)
        return sha256(text.encode()).hexdigest()[:12]

    def add(
        self, kind: JobKind, recipe: Mapping[str, Any], *needs: Key, label: str, weight: float
    ) -> Key:
        job = Job(kind, recipe, needs, label, weight)
        self.requested += 1
        self.jobs.setdefault(job.key, job)
        return job.key


def make_plan(spec: Spec) -> Plan:
    """Unroll `spec`. Equal jobs are merged: detectors share classifiers and static attacks.

    Raises:
        UsageError: for a hyperparameter that names something the model does not have.
    """
    plan = Plan(spec)
    unfit = _unfit(spec)
    matrix = product(spec.seeds, _variants(spec), spec.threat_models, spec.attacks)
    for seed, (defense, defender), threat_model, attack in matrix:
        teacher = _teacher(spec, defense, defender, attack)
        changes: dict[str, Any] = {"secret": defense.recipe.secret}
        if defense.recipe.secret is None:
            changes["secret"] = seed_of("secret", seed) % 2**31
        if teacher is not None:
            changes["learns_from"] = teacher.name
        chosen = replace(defense, recipe=defense.recipe.model_copy(update=changes))
        eps = spec.budget_eps(attack.recipe)
        cell = Cell(chosen, attack, threat_model, seed, eps, defender, teacher)
        reason = unfit[defense.name] or _mismatch(spec, cell)
        plan.cells.append(replace(cell, reason=reason) if reason else _unroll(plan, cell))
    return plan


def _variants(spec: Spec) -> list[tuple[Chosen[Defense], str]]:
    """Each defense, once for everything its defender may know."""
    return [
        (defense, defender)
        for defense in spec.defenses
        for defender in (spec.defenders if defense.recipe.learns_from is not None else ("",))
    ]


def _teacher(
    spec: Spec, defense: Chosen[Defense], defender: str, attack: Chosen[Attack]
) -> Chosen[Attack] | None:
    if defense.recipe.learns_from is None:
        return None
    return attack if defender == "whitebox-defense" else spec.teachers[defense.recipe.learns_from]


def _unfit(spec: Spec) -> dict[str, str]:
    """Why defenses can't protect the model at all, by name; empty where they can."""
    picky = [d.recipe for d in spec.defenses if type(d.recipe).mismatch is not Defense.mismatch]
    reasons = {d.name: "" for d in spec.defenses}
    if picky:
        classifier = _untrained(spec)
        reasons |= {recipe.name: recipe.mismatch(classifier) for recipe in picky}
    return reasons


def _untrained(spec: Spec) -> Classifier:
    """The model with whatever weights, to ask about its layers."""
    facts, model = spec.facts, spec.model
    with torch.random.fork_rng(devices=[]):
        if isinstance(model, OwnModel):
            factory = model.factory
            network = build_network(load_factory(factory), facts, factory)
        else:
            make = partial(model.recipe.build, facts.shape, facts.num_classes)
            network = build_network(make, facts, model.name)
    return Classifier(network, facts.num_classes).eval()


def _mismatch(spec: Spec, cell: Cell) -> str:
    attack, defense, threat = cell.attack.recipe, cell.defense.recipe, cell.threat_model.recipe
    if reason := threat.mismatch(attack):
        return reason
    if not attack.minimises and math.isinf(cell.eps):
        return f"{attack.name} needs a bound: give --eps {attack.norm}=…"
    if defense.cotrains and isinstance(spec.model, OwnModel) and spec.model.weights_sha256:
        return f"{defense.name} trains its own classifier, which --weights forbids"
    if threat.adaptive and defense.paired:
        return f"{defense.name} can't be attacked knowingly: {defense.caveat}"
    if cell.teacher is not None:
        return _unteachable(spec, cell.defense.name, cell.teacher.recipe)
    return ""


def _unteachable(spec: Spec, defense: str, teacher: Attack) -> str:
    """Why a defense can't learn from an attack."""
    if reason := spec.reference.recipe.mismatch(teacher):
        return f"{defense} learns from {teacher.name}, which {reason}"
    if not teacher.minimises and math.isinf(spec.budget_eps(teacher)):
        return f"{defense} learns from {teacher.name}, which needs a bound: give --eps {teacher.norm}=…"
    return ""


def _unroll(plan: Plan, cell: Cell) -> Cell:
    builder = Builder(plan.spec, cell.seed, plan.add)
    attack, threat, reference = cell.attack, cell.threat_model, plan.spec.reference
    classifier = builder.train(cell.defense)
    examples = [] if cell.teacher is None else [builder.examples(cell.teacher, classifier)]
    fit = builder.fit(cell.defense, classifier, *examples)
    clean = builder.clean(cell.defense, classifier, fit)
    names = threat.recipe.objectives(attack.recipe)
    static = reference.recipe.objectives(attack.recipe)
    if threat.recipe.adaptive:
        known, mine = (classifier, fit, clean), cell.defense
        crafts = [builder.craft(attack, threat, name, *known, defense=mine) for name in names]
        if threat.recipe.access >= reference.recipe.access:  # who knows the detector may ignore it
            names += tuple(f"{reference.name} {name}" for name in static)
            crafts += [builder.craft(attack, reference, name, classifier) for name in static]
    else:
        crafts = [builder.craft(attack, threat, name, classifier) for name in names]
    return replace(
        cell,
        objectives=names,
        crafts=tuple(crafts),
        undefended=builder.craft(attack, reference, static[0], builder.train(None)),
        score=builder.score(cell.defense, attack, threat, names, classifier, fit, clean, *crafts),
    )
