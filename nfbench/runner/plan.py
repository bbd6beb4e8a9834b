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
from nfbench.runner.leaving import left_out
from nfbench.runner.networks import build_network
from nfbench.runner.spec import Chosen, OwnModel, Spec, load_factory
from nfbench.runner.surrogates import Surrogate, surrogate_of, unfollowable
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
    timing: Key | None = None
    undefended: Key | None = None
    """The same attack on the same architecture trained without the defense."""
    crafts: tuple[Key, ...] = ()
    surrogate: Surrogate = ""
    """What the attack follows where the detector has no gradient."""
    reason: str = ""

    @property
    def name(self) -> str:
        """Unique within a run, and fit for a file name."""
        norm = self.attack.recipe.norm
        size = f"{norm}-{self.eps:.6g}" if math.isfinite(self.eps) else f"{norm}-unbounded"
        parts = [self.defense.name, self.defender, self.attack.name, self.threat_model.name, size]
        return "--".join(part for part in (*parts, f"seed{self.seed}") if part)

    @property
    def filling(self) -> list[Key]:
        """The jobs whose artifacts it shows."""
        return [key for key in (self.undefended, self.score, self.timing) if key is not None]


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

    @property
    def wanted(self) -> list[Key]:
        """The jobs that fill cells, each once."""
        return list(dict.fromkeys(key for cell in self.cells for key in cell.filling))

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
    attacks = [(attack, eps) for attack in spec.attacks for eps in spec.ladder(attack.recipe)]
    matrix = product(spec.seeds, _variants(spec), spec.threat_models, attacks)
    for seed, (defense, defender), threat_model, (attack, eps) in matrix:
        if left_out(spec.skip, defense.name, attack.name, threat_model.name):
            continue
        teacher = _teacher(spec, defense, defender, attack)
        changes: dict[str, Any] = {"secret": defense.recipe.secret}
        if defense.recipe.secret is None:
            changes["secret"] = seed_of("secret", seed) % 2**31
        if teacher is not None:
            changes["learns_from"] = teacher.name
        chosen = replace(defense, recipe=defense.recipe.model_copy(update=changes))
        follows = surrogate_of(defense.recipe.gradient, attack.recipe, threat_model.recipe)
        cell = Cell(chosen, attack, threat_model, seed, eps, defender, teacher, surrogate=follows)
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
    if reason := threat.mismatch(attack) or unfollowable(defense.name, defense.gradient, attack, threat):
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
    if not teacher.minimises and math.isinf(spec.teaching_eps(teacher)):
        return f"{defense} learns from {teacher.name}, which needs a bound: give --eps {teacher.norm}=…"
    return ""


def _unroll(plan: Plan, cell: Cell) -> Cell:
    builder = Builder(plan.spec, cell.seed, plan.add)
    attack, threat, reference = cell.attack, cell.threat_model, plan.spec.reference
    classifier = builder.train(cell.defense)
    examples = [] if cell.teacher is None else [builder.examples(cell.teacher, classifier)]
    fit = builder.fit(cell.defense, classifier, *examples)
    clean = builder.clean(cell.defense, classifier, fit)
    static = reference.recipe.objectives(attack.recipe)[0]
    undefended = builder.craft(attack, reference, static, cell.eps, builder.train(None))
    victim = (classifier, fit, clean)
    rungs = [_tries(builder, cell, eps, victim) for eps in _rungs(plan.spec, cell)]  # own radius first
    names = tuple(name for rung in rungs for name, _ in rung)
    crafts = tuple(craft for rung in rungs for _, craft in rung)
    needs = (*victim, *crafts)
    score = builder.score(cell.defense, attack, threat, names, cell.eps, *needs, own=len(rungs[0]))
    timing = builder.time(cell.defense, *victim)
    return replace(
        cell, objectives=names, crafts=crafts, undefended=undefended, score=score, timing=timing
    )


def _rungs(spec: Spec, cell: Cell) -> list[float]:
    """The radii whose results count: also smaller ones where the attacker can tell what is best."""
    threat = cell.threat_model.recipe
    if not threat.chooses or threat.query_limit is not None:  # each radius has its own queries
        return [cell.eps]
    return [eps for eps in reversed(spec.ladder(cell.attack.recipe)) if eps <= cell.eps]


def _tries(
    builder: Builder, cell: Cell, eps: float, victim: tuple[Key, Key, Key]
) -> list[tuple[str, Key]]:
    """The craft jobs of one radius, each with the name of its objective."""
    attack, threat, reference = cell.attack, cell.threat_model, builder.spec.reference
    recipe, classifier = threat.recipe, victim[0]
    known: tuple[Key, ...] = victim if recipe.adaptive else (classifier,)
    if cell.surrogate == "distilled":
        known = (*victim, builder.distil(cell.defense, *victim[:2]))
    if recipe.transfers:
        known = replicas(builder, cell, classifier)
    mine = cell.defense if recipe.adaptive else None
    names = recipe.objectives(attack.recipe)
    tries = [
        (n, builder.craft(attack, threat, n, eps, *known, defense=mine, surrogate=cell.surrogate))
        for n in names
    ]
    if recipe.chooses and recipe.access >= reference.recipe.access:
        for name in reference.recipe.objectives(attack.recipe):  # who knows the detector may ignore it
            craft = builder.craft(attack, reference, name, eps, classifier)
            tries.append((f"{reference.name} {name}", craft))
    smaller = f" within {eps:.4g}" if eps < cell.eps else ""
    return [(name + smaller, craft) for name, craft in tries]


def replicas(builder: Builder, cell: Cell, classifier: Key) -> tuple[Key, ...]:
    """What the attacker makes for himself: classifiers, or the victim's and detectors fitted to it.

    Replicas of a co-trained classifier come with another secret and another seed; other detectors are
    fitted to the victim's classifier, which the attacker knows, on half of the training images each.
    """
    threat, defense = cell.threat_model.recipe, cell.defense
    defended = threat.detector == "other-secret"
    keys: list[Key] = [classifier] if defended else []
    for number in range(threat.replica_count):
        seed = seed_of("replica", cell.seed, number) % 2**31
        other = Builder(builder.spec, seed, builder.add)
        if not defended:
            keys.append(other.train(None, replica=True))
            continue
        secret = seed_of("secret", seed) % 2**31
        theirs = replace(defense, recipe=defense.recipe.model_copy(update={"secret": secret}))
        if defense.recipe.cotrains:
            known, maker, half = other.train(theirs, replica=True), other, None
        else:
            known, maker, half = classifier, builder, seed
        examples = [] if cell.teacher is None else [maker.examples(cell.teacher, known)]
        fit = maker.fit(theirs, known, *examples, half=half)
        keys += [known, fit, maker.clean(theirs, known, fit)]
        if cell.surrogate == "distilled":
            keys.append(maker.distil(theirs, known, fit))
    return tuple(keys)
