"""The jobs that one cell of the matrix is made of: what each makes, and from which others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nfbench.core.attack import Attack
from nfbench.core.defense import Defense
from nfbench.core.threat import ThreatModel
from nfbench.runner.spec import Chosen, Spec
from nfbench.store import JobKind, Key


class Add(Protocol):
    """How a plan takes a job in; the key it is known by."""

    def __call__(
        self, kind: JobKind, recipe: Mapping[str, Any], *needs: Key, label: str, weight: float
    ) -> Key: ...


@dataclass(frozen=True)
class Builder:
    """Adds jobs of one seed to a plan. Keys say what an artifact is made from, never for whom."""

    spec: Spec
    seed: int
    add: Add

    @property
    def _data(self) -> dict[str, Any]:
        spec = self.spec
        return {"dataset": spec.dataset.identity(), "digest": spec.data_digest, "seed": self.seed}

    def train(self, defense: Chosen[Defense] | None) -> Key:
        """The classifier, co-trained where the defense asks for that and shared by all others."""
        spec = self.spec
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
        return self.add("train", recipe, label=f"{label} (seed {self.seed})", weight=3 * rows)

    def examples(self, attack: Chosen[Attack], classifier: Key) -> Key:
        """The static attack on training images, for supervised detectors to learn from."""
        reference = self.spec.reference
        objective = reference.recipe.objectives(attack.recipe)[0]
        return self.craft(attack, reference, objective, classifier, part="train")

    def fit(self, defense: Chosen[Defense], classifier: Key, *examples: Key) -> Key:
        recipe = self._data | {"defense": defense.identity()}
        label = f"fit {defense.name}" + (f" on {defense.recipe.learns_from}" if examples else "")
        weight = 1000.0 * defense.recipe.rows_per_image
        return self.add("fit", recipe, classifier, *examples, label=label, weight=weight)

    def clean(self, defense: Chosen[Defense], classifier: Key, fit: Key) -> Key:
        recipe = self._data | {"defense": defense.identity(), "limit": self.spec.limit}
        label, weight = f"score clean images with {defense.name}", 3000 * defense.recipe.rows_per_image
        return self.add("clean", recipe, classifier, fit, label=label, weight=weight)

    def craft(
        self,
        attack: Chosen[Attack],
        threat_model: Chosen[ThreatModel],
        objective: str,
        *known: Key,
        defense: Chosen[Defense] | None = None,
        part: Literal["train", "test"] = "test",
    ) -> Key:
        """An attack by somebody who has the artifacts `known`; all its victims share it."""
        eps = self.spec.budget_eps(attack.recipe)
        limit = self.spec.limit if part == "test" else self.spec.train_limit
        recipe = self._data | {
            "attack": attack.identity(),
            "threat_model": threat_model.identity(),
            "objective": objective,
            "eps": eps if math.isfinite(eps) else None,
            "split": part,
            "limit": limit,
            "defense": defense.identity() if defense is not None else None,
        }
        label = f"{attack.name} · {threat_model.name}" + (" · training images" * (part == "train"))
        rows = 1
        if defense is not None:
            label, rows = f"{label} · {objective} · {defense.name}", defense.recipe.rows_per_image
        weight = 3.0 * limit * attack.recipe.passes * rows
        return self.add("craft", recipe, *known, label=label, weight=weight)

    def score(
        self,
        defense: Chosen[Defense],
        attack: Chosen[Attack],
        threat_model: Chosen[ThreatModel],
        objectives: tuple[str, ...],
        *needs: Key,
    ) -> Key:
        eps = self.spec.budget_eps(attack.recipe)
        recipe = self._data | {
            "defense": defense.identity(),
            "adaptive": threat_model.recipe.adaptive,
            "objectives": list(objectives),
            "norm": attack.recipe.norm,
            "eps": eps if math.isfinite(eps) else None,
        }
        label = f"score {attack.name} · {threat_model.name} · {defense.name}"
        weight = 300 * defense.recipe.rows_per_image * (len(objectives) + 1)
        return self.add("score", recipe, *needs, label=label, weight=weight)
