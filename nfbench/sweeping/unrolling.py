"""The points of a sweep: what varies, unrolled into requests for runs, each of them checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.runner.options import Options
from nfbench.sweeping.typed import Knob, knob, typed

if TYPE_CHECKING:
    from nfbench.runner.spec import Spec

MOST_POINTS = 1000


class Axis(NamedTuple):
    """One hyperparameter that varies."""

    label: str
    """As it was typed."""
    name: str
    """`plugin.hyperparameter`, without aliases."""

    def said(self, values: Mapping[str, Any]) -> str:
        """Its value at a point, as `fingerprints=5`."""
        return f"{self.label}={text_of(values[self.name])}"


@dataclass(frozen=True, eq=False)
class Point:
    """One combination of values, and the run that measures it."""

    values: Mapping[str, Any]
    """By the axes' names, as plain data that the plugins have accepted."""
    options: Options
    spec: Spec


class Unrolled(NamedTuple):
    """A sweep before any work."""

    axes: tuple[Axis, ...]
    points: list[Point]


def text_of(value: object) -> str:
    """A hyperparameter's value for people: numbers in six digits."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    return str(value)


def points(
    options: Options, vary: Sequence[str], registry: Registry
) -> list[tuple[dict[str, Any], Options]]:
    """Every combination of what `vary` says, the last one varying fastest, and a run for each.

    Args:
        options: the run at all points, but for what varies.
        vary: `plugin.hyperparameter=value,value,…`, or the hyperparameter alone where one plugin has it.
        registry: the plugins there are.

    Returns:
        The values by `plugin.hyperparameter`, without aliases, and the request with these settings.

    Raises:
        NFBenchError: naming the first hyperparameter or value of any point that is wrong.
    """
    return [(dict(point.values), point.options) for point in unroll(options, vary, registry).points]


def unroll(options: Options, vary: Sequence[str], registry: Registry) -> Unrolled:
    """As `points`, with the axes, and with each point resolved; equal points are there once.

    Raises:
        NFBenchError: as `points`.
    """
    from nfbench.runner.spec import resolve

    given = typed(vary)
    base = resolve(options, registry)
    knobs = [knob(one.name, base) for one in given]
    _require_apart(knobs)
    count = prod(len(one.texts) for one in given)
    if count > MOST_POINTS:
        raise UsageError(f"--vary asks for {count} points, {MOST_POINTS} are allowed")
    found: dict[str, Point] = {}
    for texts in product(*(one.texts for one in given)):
        own = _with(options, knobs, texts)
        spec = resolve(own, registry)
        values = {one.name: _value(knob(one.name, spec)) for one in knobs}
        found.setdefault(json.dumps(values), Point(values, own, spec))
    axes = tuple(Axis(one.name, its.name) for one, its in zip(given, knobs, strict=True))
    return Unrolled(axes, list(found.values()))


def _require_apart(knobs: Sequence[Knob]) -> None:
    names = [one.name for one in knobs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--vary: {name} is there twice; list all its values in one --vary")


def _with(options: Options, knobs: Sequence[Knob], texts: Sequence[str]) -> Options:
    """`options` with these values, which win over whatever else sets the same hyperparameters."""
    from nfbench.runner.literals import parse_settings

    settings = {plugin: dict(own) for plugin, own in options.settings.items()}
    for (recipe, field), text in zip(knobs, texts, strict=True):
        plain = type(recipe).canonical(settings.get(recipe.name, {}))
        (parsed,) = parse_settings([f"{recipe.name}.{field}={text}"]).values()
        settings[recipe.name] = plain | parsed
    return replace(options, settings=settings)


def _value(one: Knob) -> Any:
    """What a recipe has made of a value, as plain data."""
    return one.recipe.model_dump(mode="json")[one.field]
