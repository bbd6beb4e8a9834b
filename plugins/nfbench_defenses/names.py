"""Names of layers as people type them: `7` is a name too, and `3,7` are two."""

from typing import Annotated

from pydantic import BeforeValidator


def _name(given: object) -> object:
    return str(given) if type(given) is int else given


def _names(given: object) -> object:
    if isinstance(given, str | int):
        return tuple(str(given).split(","))
    return tuple(map(_name, given)) if isinstance(given, list | tuple) else given


Layer = Annotated[str, BeforeValidator(_name)]
Layers = Annotated[tuple[str, ...], BeforeValidator(_names)]
