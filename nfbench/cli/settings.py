"""What a run is made with: a dataset's defaults and a spec's settings, as data and as lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from nfbench.core.recipe import Recipe

if TYPE_CHECKING:
    from nfbench.core.dataset import Defaults
    from nfbench.runner.spec import Spec


def defaults_of(cls: type[Recipe]) -> dict[str, Any] | None:
    """What a dataset declares for runs on it; nothing where it reads that from its files."""
    found: Defaults | None = getattr(cls, "defaults", None)
    if found is None:
        return None
    return {
        "model": found.model,
        "training": found.training.model_dump(mode="json"),
        "eps": _finite(found.eps),
        "limit": found.limit,
        "train_limit": found.train_limit,
        "hyperparameters": found.model_dump(mode="json")["plugins"],
    }


def settings_of(spec: Spec) -> dict[str, Any]:
    """What was asked for, as resolved; hyperparameters where they are not the plugin's own defaults.

    Of a norm's attacks those that are not bounded say nothing unless there are no others, then None.
    What supervised defenses learn from is None and empty where there are none.
    """
    attacks = [one.recipe for one in (*spec.attacks, *spec.teachers.values())]
    radii: dict[str, list[float | None]] = {}
    for attack in attacks:
        ladder = [eps if math.isfinite(eps) else None for eps in spec.ladder(attack)]
        if ladder != [None] or attack.norm not in radii:
            radii[attack.norm] = ladder
    chosen = (spec.dataset, spec.model, *spec.defenses, *spec.attacks, *spec.threat_models)
    recipes = [getattr(one, "recipe", None) for one in (*chosen, *spec.teachers.values())]
    changed: dict[str, dict[str, Any]] = {}
    for recipe in recipes:
        if recipe is not None and (own := _changed(recipe)):
            changed.setdefault(recipe.name, {}).update(own)
    return {
        "dataset": spec.dataset.name,
        "model": spec.model.name,
        "training": spec.training.model_dump(mode="json"),
        "eps": radii,
        "limit": spec.limit,
        "train_limit": spec.train_limit if spec.teachers else None,
        "defenders": list(spec.defenders) if spec.teachers else [],
        "seeds": list(spec.seeds),
        "hyperparameters": changed,
    }


def lines_of(settings: Mapping[str, Any]) -> list[str]:
    """One line a setting that matters; hyperparameters are called what `--set` calls them."""
    rows: dict[str, str] = {}
    for key, value in settings.items():
        if key == "eps":
            each = [(norm, r if isinstance(r, list) else [r]) for norm, r in value.items()]
            radii = [f"{norm}={_radius(eps)}" for norm, several in each for eps in several]
            rows[key] = ", ".join(radii)
        elif key in ("training", "hyperparameters"):
            for plugin, knobs in ({key: value} if key == "training" else value).items():
                rows |= {f"{plugin}.{knob}": _text(one) for knob, one in knobs.items()}
        elif value not in (None, []):
            name = key.replace("_", "-").removesuffix("s")
            rows[name] = ", ".join(map(str, value)) if isinstance(value, list) else _text(value)
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _changed(recipe: Recipe) -> dict[str, Any]:
    """Hyperparameters that are not the plugin's own defaults, as plain data."""
    found = recipe.model_dump(mode="json")
    fields = type(recipe).model_fields
    own = {
        name: TypeAdapter(Any).dump_python(
            info.get_default(call_default_factory=True, validated_data={}), mode="json"
        )
        for name, info in fields.items()
        if not info.is_required()
    }
    return {name: value for name, value in found.items() if name not in own or own[name] != value}


def _finite(radii: Mapping[Any, float]) -> dict[str, float | None]:
    return {str(norm): radius if math.isfinite(radius) else None for norm, radius in radii.items()}


def _text(value: object) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _radius(eps: float | None) -> str:
    return "unbounded" if eps is None else f"{eps:.6g}"
