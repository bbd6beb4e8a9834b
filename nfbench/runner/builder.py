"""The jobs that one cell of the matrix is made of: what each makes, and from which others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from nfbench.core.attack import Attack
from nfbench.core.defense import Defense
from nfbench.core.threat import ThreatModel
from nfbench.runner.distil import ROWS
from nfbench.runner.latency import BATCH, REPEATS
from nfbench.runner.spec import Chosen, OwnModel, Spec
from nfbench.runner.surrogates import Surrogate
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

    def train(self, defense: Chosen[Defense] | None, *, replica: bool = False) -> Key:
        """The classifier, co-trained where the defense asks for that and shared by all others.

        A replica of a network with given weights is trained from scratch: nobody has those weights.
        """
        spec = self.spec
        model = spec.model
        if replica and isinstance(model, OwnModel):
            model = replace(model, weights=None, weights_sha256="")
        cotrains = defense is not None and defense.recipe.cotrains
        recipe = self._data | {
            "model": model.identity(),
            "training": spec.training.identity(),
            "defense": defense.identity() if defense is not None and cotrains else None,
        }
        label = f"train {spec.model.name}" + (f" with {defense.name}" if defense and cotrains else "")
        images = spec.facts.defaults.train_images
        rows = spec.training.epochs * min(images, spec.training.images or images)
        if defense is not None and cotrains:
            rows *= defense.recipe.rows_per_image
        return self.add("train", recipe, label=f"{label} (seed {self.seed})", weight=3 * rows)

    def examples(self, attack: Chosen[Attack], classifier: Key) -> Key:
        """The static attack on training images, for supervised detectors to learn from."""
        reference = self.spec.reference
        objective = reference.recipe.objectives(attack.recipe)[0]
        eps = self.spec.teaching_eps(attack.recipe)
        return self.craft(attack, reference, objective, eps, classifier, part="train")

    def fit(
        self, defense: Chosen[Defense], classifier: Key, *examples: Key, half: int | None = None
    ) -> Key:
        """The detector; fitted on a random `half` of the training images if that is given a seed."""
        recipe = self._data | {"defense": defense.identity()}
        if half is not None:
            recipe["half"] = half
        label = f"fit {defense.name}" + (f" on {defense.recipe.learns_from}" if examples else "")
        weight = 1000.0 * defense.recipe.rows_per_image
        return self.add("fit", recipe, classifier, *examples, label=label, weight=weight)

    def clean(self, defense: Chosen[Defense], classifier: Key, fit: Key) -> Key:
        recipe = self._data | {"defense": defense.identity(), "limit": self.spec.limit}
        label, weight = f"score clean images with {defense.name}", 3000 * defense.recipe.rows_per_image
        return self.add("clean", recipe, classifier, fit, label=label, weight=weight)

    def time(self, defense: Chosen[Defense], *victim: Key) -> Key:
        """How long the detector takes beside its bare classifier."""
        recipe = self._data | {"defense": defense.identity()}
        weight = BATCH * (REPEATS + 1) * (1.0 + defense.recipe.rows_per_image)
        return self.add("time", recipe, *victim, label=f"time {defense.name}", weight=weight)

    def distil(self, defense: Chosen[Defense], classifier: Key, fit: Key) -> Key:
        """A differentiable imitation of the detector, one for all attacks."""
        recipe = self._data | {"defense": defense.identity()}
        return self.add("distil", recipe, classifier, fit, label=f"distil {defense.name}", weight=ROWS)

    def craft(  # noqa: PLR0913  # what, of whom, and who knows what
        self,
        attack: Chosen[Attack],
        threat_model: Chosen[ThreatModel],
        objective: str,
        eps: float,
        *known: Key,
        defense: Chosen[Defense] | None = None,
        part: Literal["train", "test"] = "test",
        surrogate: Surrogate = "",
    ) -> Key:
        """An attack by somebody who has the artifacts `known`; all its victims share it."""
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
        if replicas := threat_model.recipe.replica_count:
            recipe["replicas"] = replicas
        if surrogate:
            recipe["surrogate"] = surrogate
        label = f"{attack.name} · {threat_model.name}{self._at(attack, eps)}"
        label += " · training images" * (part == "train")
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
        eps: float,
        *needs: Key,
        own: int,
    ) -> Key:
        """What the craft jobs among `needs` are worth; the first `own` of them are of this radius."""
        recipe = self._data | {
            "defense": defense.identity(),
            "adaptive": threat_model.recipe.adaptive,
            "objectives": list(objectives),
            "own": own,
            "norm": attack.recipe.norm,
            "eps": eps if math.isfinite(eps) else None,
        }
        label = f"score {attack.name} · {threat_model.name} · {defense.name}{self._at(attack, eps)}"
        weight = 300 * defense.recipe.rows_per_image * (len(objectives) + 1)
        return self.add("score", recipe, *needs, label=label, weight=weight)

    def _at(self, attack: Chosen[Attack], eps: float) -> str:
        """The radius, for a label, where an attack gets several."""
        several = len(self.spec.ladder(attack.recipe)) > 1
        return f" · eps {eps:.4g}" if several and math.isfinite(eps) else ""
