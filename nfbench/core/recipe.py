"""Recipes: a plugin together with its hyperparameters, immutable and validated when built."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self, get_args

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import UsageError

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Gt(0), Lt(1)]
Count = Annotated[int, Ge(1)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known words, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


class Recipe(BaseModel):
    """Base of every plugin class. Fields are hyperparameters; two equal recipes do the same thing.

    A misspelt or out-of-range hyperparameter is refused when the recipe is built, before any work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    """What commands and leaderboards call it: lower-case, unique within its kind."""
    paper: ClassVar[str] = ""
    """Where it comes from: URL of the paper it implements."""
    version: ClassVar[int] = 1
    """Part of every job key; raise it when equal hyperparameters give other results than before."""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names that hyperparameters may be set by, to their own; nothing is stored under them."""

    def spec(self) -> dict[str, Any]:
        """The recipe as plain data: `{"name": ..., "version": ..., <hyperparameter>: ...}`."""
        return {"name": self.name, "version": self.version, **self.model_dump(mode="json")}

    @classmethod
    def canonical(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters by their own names; of two names for the same one the later counts.

        What defaults and users set is merged after this, never before: else one would not override
        the other.
        """
        own = {n: n if n in cls.model_fields else cls.aliases.get(n, n) for n in params}
        return {own[name]: value for name, value in params.items()}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """A validated recipe; aliases are resolved, and `none` stands for None where that is allowed.

        Raises:
            UsageError: naming the hyperparameter that is unknown or out of range.
        """
        optional = {n for n, f in cls.model_fields.items() if type(None) in get_args(f.annotation)}
        plain = cls.canonical(params)
        given = {n: None if v == "none" and n in optional else v for n, v in plain.items()}
        try:
            return cls(**given)
        except ValidationError as error:
            raise UsageError(_explain(cls, error)) from None


def _explain(cls: type[Recipe], error: ValidationError) -> str:
    """Pydantic's first complaint as one line."""
    detail = error.errors()[0]
    field = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = ", ".join(sorted(cls.model_fields)) or "none"
        hint = did_you_mean(field, [*cls.model_fields, *cls.aliases])
        return f"{cls.name} has no hyperparameter {field!r}{hint} (it has: {known})"
    if detail["type"] == "missing":
        return f"{cls.name} needs a value for {field!r}: --set {cls.name}.{field}=…"
    where = f"{cls.name}.{field}" if field else cls.name
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where} = {detail['input']!r}: {message[0].lower()}{message[1:]}"
