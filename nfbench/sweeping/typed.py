"""What people type for what varies: `fingerprints=5,10,20`, `kd.layers=[1],[1,2]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

from nfbench.core.errors import UsageError
from nfbench.core.recipe import Recipe, did_you_mean
from nfbench.runner.options import Options

if TYPE_CHECKING:
    from nfbench.runner.spec import Spec

_ANOTHER = re.compile(r"[\w-]+(\.[\w.-]+)?\s*=")
"""What looks like the beginning of another `hyperparameter=`."""
_CLOSED = {"[": "]", "{": "}", '"': '"', "'": "'"}
_PART = re.compile(r"""(?:"[^"]*"|'[^']*'|\[[^][]*(?:\[[^][]*\][^][]*)*\]|\{[^{}]*\}|[^,])+""")
"""A value: commas within quotes, or within brackets two deep at most, are part of it."""


class Typed(NamedTuple):
    """One `--vary`: a name, and texts of values."""

    name: str
    texts: tuple[str, ...]


class Knob(NamedTuple):
    """A hyperparameter of a plugin that is part of the run."""

    recipe: Recipe
    field: str

    @property
    def name(self) -> str:
        """As `--set` calls it, whatever alias was typed."""
        return f"{self.recipe.name}.{self.field}"


def typed(vary: Sequence[str]) -> list[Typed]:
    """Names and values as typed.

    Raises:
        UsageError: for what is no `name=value,value,…`.
    """
    if not vary:
        raise UsageError("nothing varies: give --vary hyperparameter=value,value,…, once for each")
    return [_typed(text) for text in vary]


def _typed(text: str) -> Typed:
    name, _, values = text.partition("=")
    texts = tuple(part.strip() for part in _PART.findall(values))
    whole = (
        texts and all(texts) and all(map(_whole, texts)) and ",".join(_PART.findall(values)) == values
    )
    if not (name.strip() and whole):
        raise UsageError(f"--vary {text}: expected hyperparameter=value,value,…")
    if any(map(_ANOTHER.match, texts)):
        raise UsageError(f"--vary {text}: --vary takes one hyperparameter; repeat the flag for more")
    return Typed(name.strip(), texts)


def _whole(text: str) -> bool:
    """Whether what begins with a bracket or a quote ends with one."""
    return text[0] not in _CLOSED or (len(text) > 1 and text[-1] == _CLOSED[text[0]])


def knob(name: str, spec: Spec) -> Knob:
    """The hyperparameter that a name stands for: `plugin.hyperparameter`, or what only one plugin has.

    Defenses come first: of a name that one of them has, other plugins are not asked.

    Raises:
        UsageError: for a name that nothing has, or several plugins have.
    """
    plugin, dot, field = name.rpartition(".")
    defenses: list[Recipe] = [chosen.recipe for chosen in spec.defenses]
    recipes = [*defenses, *_others(spec)]
    if dot:
        return _of(plugin, field, name, recipes)
    if name == "eps":
        raise UsageError(_two_eps(_having("eps", recipes)))
    found = _having(name, defenses) or _having(name, recipes)
    if len(found) > 1:
        each = " or ".join(f"--vary {one.recipe.name}.{name}=…" for one in found)
        raise UsageError(f"--vary {name}: {len(found)} plugins have it; say which: {each}")
    if not found:
        raise UsageError(f"--vary {name}: {_unknown(name, recipes)}")
    return found[0]


def _others(spec: Spec) -> list[Recipe]:
    """Whatever `--set` may name beside defenses; an attack that is also learnt from is there once."""
    teachers = [chosen for chosen in spec.teachers.values() if chosen.name not in _names(spec)]
    chosen = [*spec.attacks, *teachers, *spec.threat_models, spec.dataset, spec.model]
    recipes = [getattr(one, "recipe", None) for one in chosen]
    return [one for one in recipes if one is not None] + [spec.training]


def _names(spec: Spec) -> set[str]:
    return {attack.name for attack in spec.attacks}


def _having(name: str, recipes: Sequence[Recipe]) -> list[Knob]:
    found = [Knob(recipe, _own(recipe, name)) for recipe in recipes]
    return [one for one in found if one.field in type(one.recipe).model_fields]


def _own(recipe: Recipe, name: str) -> str:
    """A hyperparameter's own name, for an alias too."""
    (own,) = type(recipe).canonical({name: None})
    return own


def _of(plugin: str, field: str, name: str, recipes: Sequence[Recipe]) -> Knob:
    called = [recipe for recipe in recipes if recipe.name == plugin]
    if not called:
        hint = did_you_mean(plugin, dict.fromkeys(recipe.name for recipe in recipes))
        raise UsageError(f"--vary {name}: {plugin!r} is not part of this run{hint}")
    found = _having(field, called)
    if not found:
        cls = type(called[0])
        hint = did_you_mean(field, [*cls.model_fields, *cls.aliases])
        known = ", ".join(sorted(cls.model_fields)) or "none"
        raise UsageError(f"--vary {name}: no hyperparameter {field!r}{hint} ({plugin} has: {known})")
    return found[0]


def _two_eps(found: Sequence[Knob]) -> str:
    """Why nobody can tell which `eps` is meant."""
    said = "--vary eps: radii of attacks are a ladder already: --eps 0.1,0.2"
    for one in found:
        others = [alias for alias, own in type(one.recipe).aliases.items() if own == "eps"]
        ways = " or ".join(f"--vary {name}=…" for name in (*others, one.name))
        said += f"; {one.recipe.name}'s own is {ways}"
    return said


def _unknown(name: str, recipes: Sequence[Recipe]) -> str:
    if name.replace("-", "_") in {one.name for one in fields(Options)} - {"settings", "spare"}:
        return f"--{name.replace('_', '-')} is a flag; what varies is a hyperparameter"
    known = {word for recipe in recipes for word in (*type(recipe).model_fields, *recipe.aliases)}
    return f"no plugin of this run has such a hyperparameter{did_you_mean(name, sorted(known))}"
