"""What people type for numbers and settings: `8/255`, `l2=0.5`, `neuralfp.fingerprints=20`."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from typing import Any, get_args

from nfbench.core.errors import UsageError
from nfbench.core.values import Norm

_NEXT_SETTING = re.compile(r",\s*(?=[\w-]+\.[\w.-]+\s*=)")
"""A comma and, behind it, what looks like another `plugin.hyperparameter=`."""


def parse_eps(values: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """`0.1` or `8/255` for L-infinity, `l2=0.5` for another norm; several of a norm are a ladder."""
    parsed: dict[str, tuple[float, ...]] = {}
    for value in values:
        norm, _, number = value.rpartition("=")
        norm = norm.strip().lower() or "linf"
        if norm not in get_args(Norm):
            raise UsageError(f"--eps {value}: unknown norm {norm!r}; use linf, l2, l1 or l0")
        radius = _radius(value, number.strip(), norm)
        parsed[norm] = tuple(sorted({*parsed.get(norm, ()), radius}))
    return parsed


def _radius(value: str, number: str, norm: str) -> float:
    if number in ("inf", "none", "unbounded"):
        return math.inf
    try:
        radius = _ratio(number)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--eps {value}: expected a number such as 0.1 or 8/255") from None
    if not 0 < radius < math.inf:
        raise UsageError(f"--eps {value}: a radius must be positive, in pixel units of [0, 1]")
    if norm == "linf" and 1 < radius < math.inf:
        raise UsageError(f"--eps {value}: pixels lie in [0, 1]; did you mean {radius:g}/255?")
    return radius


def parse_settings(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`neuralfp.fingerprints=20` and the like, as nested dictionaries; values are TOML or strings."""
    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        plugin, dot, knob = path.strip().rpartition(".")
        if not (equals and dot and plugin and knob):
            raise UsageError(f"--set {assignment}: expected plugin.hyperparameter=value")
        settings.setdefault(plugin, {})[knob] = _literal(assignment, text.strip())
    return settings


def _ratio(text: str) -> float:
    """`0.1` or `8/255`. Raises ValueError or ZeroDivisionError."""
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def _literal(assignment: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    several = _NEXT_SETTING.split(assignment)
    if len(several) > 1:
        each = " ".join(f"--set {one}" for one in several)
        raise UsageError(f"--set {assignment}: --set takes one setting each: {each}")
    try:
        return _ratio(text)
    except (ValueError, ZeroDivisionError):
        return text
