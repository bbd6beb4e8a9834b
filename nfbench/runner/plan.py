"""The plan: a spec unrolled into a DAG of content-addressed jobs, before any of them runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import product
from typing import Any

from nfbench.core.attack import Attack
from nfbench.core.defense import Defense
from nfbench.core.draws import seed_of
from nfbench.core.threat import ThreatModel
from nfbench.runner.spec import Chosen, OwnModel, Spec
from nfbench.store import Job, JobKind, Key


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix: the job whose vectors fill it, or why it stays empty."""

    defense: Chosen[Defense]
    attack: Chosen[Attack]
    threat_model: Chosen[ThreatModel]
    seed: int
    eps: float
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
        parts = [self.defense.name, self.attack.name, self.threat_model.name, size, f"seed{self.seed}"]
        return "--".join(parts)


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
    """Unroll `spec`. Equal jobs are merged: detectors share classifiers and static attacks."""
    plan = Plan(spec)
    matrix = product(spec.seeds, spec.defenses, spec.threat_models, spec.attacks)
    for seed, defense, threat_model, attack in matrix:
        secret = defense.recipe.secret
        if secret is None:
            secret = seed_of("secret", seed) % 2**31
        recipe = defense.recipe.model_copy(update={"secret": secret})
        chosen = Chosen(recipe, defense.offer, defense.source)
        eps = spec.budget_eps(attack.recipe)
        cell = Cell(chosen, attack, threat_model, seed, eps)
        reason = _mismatch(spec, cell)
        plan.cells.append(replace(cell, reason=reason) if reason else _unroll(plan, cell))
    return plan


def _mismatch(spec: Spec, cell: Cell) -> str:
    attack, defense = cell.attack.recipe, cell.defense.recipe
    if reason := cell.threat_model.recipe.mismatch(attack):
        return reason
    if not attack.minimises and math.isinf(cell.eps):
        return f"{attack.name} needs a bound: give --eps {attack.norm}=…"
    if defense.cotrains and isinstance(spec.model, OwnModel) and spec.model.weights_sha256:
        return f"{defense.name} trains its own classifier, which --weights forbids"
    return ""


def _unroll(plan: Plan, cell: Cell) -> Cell:
    builder = _Builder(plan, cell.seed)
    classifier = builder.train(cell.defense)
    fit = builder.fit(cell.defense, classifier)
    clean = builder.clean(cell.defense, classifier, fit)
    known = (classifier, fit, clean) if cell.threat_model.recipe.adaptive else (classifier,)
    objectives = cell.threat_model.recipe.objectives(cell.attack.recipe)
    crafts = tuple(builder.craft(cell, name, *known) for name in objectives)
    return replace(
        cell,
        objectives=objectives,
        crafts=crafts,
        undefended=builder.undefended(cell),
        score=builder.score(cell, objectives, classifier, fit, clean, *crafts),
    )


@dataclass(frozen=True)
class _Builder:
    """Adds the jobs of one cell; the seed is theirs."""

    plan: Plan
    seed: int

    @property
    def _data(self) -> dict[str, Any]:
        spec = self.plan.spec
        return {"dataset": spec.dataset.identity(), "digest": spec.data_digest, "seed": self.seed}

    def train(self, defense: Chosen[Defense] | None) -> Key:
        spec = self.plan.spec
        cotrains = defense is not None and defense.recipe.cotrains
        recipe = self._data | {
            "model": spec.model.identity(),
            "training": spec.training.model_dump(mode="json"),
            "defense": defense.identity() if defense is not None and cotrains else None,
        }
        label = f"train {spec.model.name}" + (f" with {defense.name}" if defense and cotrains else "")
        rows = spec.training.epochs * spec.facts.defaults.train_images
        if defense is not None and cotrains:
            rows *= defense.recipe.rows_per_image
        return self.plan.add("train", recipe, label=f"{label} (seed {self.seed})", weight=3 * rows)

    def fit(self, defense: Chosen[Defense], classifier: Key) -> Key:
        recipe = self._data | {"defense": defense.identity()}
        label = f"fit {defense.name}"
        return self.plan.add("fit", recipe, classifier, label=label, weight=1000)

    def clean(self, defense: Chosen[Defense], classifier: Key, fit: Key) -> Key:
        recipe = self._data | {"defense": defense.identity(), "limit": self.plan.spec.limit}
        label, weight = f"score clean images with {defense.name}", 1000 * defense.recipe.rows_per_image
        return self.plan.add("clean", recipe, classifier, fit, label=label, weight=weight)

    def craft(self, cell: Cell, objective: str, *known: Key) -> Key:
        threat, attack = cell.threat_model.recipe, cell.attack.recipe
        recipe = self._data | {
            "attack": cell.attack.identity(),
            "threat_model": cell.threat_model.identity(),
            "objective": objective,
            "eps": cell.eps if math.isfinite(cell.eps) else None,
            "limit": self.plan.spec.limit,
            "defense": cell.defense.identity() if threat.adaptive else None,
        }
        label = f"{attack.name} · {threat.name}"
        if threat.adaptive:
            label += f" · {objective} · {cell.defense.name}"
        rows = cell.defense.recipe.rows_per_image if threat.adaptive else 1
        weight = 3.0 * self.plan.spec.limit * attack.passes * rows
        return self.plan.add("craft", recipe, *known, label=label, weight=weight)

    def undefended(self, cell: Cell) -> Key:
        """The attack on a classifier trained without the defense, which no detector watches."""
        reference = self.plan.spec.reference
        alone = replace(cell, threat_model=reference)
        objective = reference.recipe.objectives(cell.attack.recipe)[0]
        return self.craft(alone, objective, self.train(None))

    def score(self, cell: Cell, objectives: tuple[str, ...], *needs: Key) -> Key:
        recipe = self._data | {
            "defense": cell.defense.identity(),
            "adaptive": cell.threat_model.recipe.adaptive,
            "objectives": list(objectives),
            "norm": cell.attack.recipe.norm,
            "eps": cell.eps if math.isfinite(cell.eps) else None,
        }
        label = f"score {cell.attack.name} · {cell.threat_model.name} · {cell.defense.name}"
        weight = 300 * cell.defense.recipe.rows_per_image * len(objectives)
        return self.plan.add("score", recipe, *needs, label=label, weight=weight)
