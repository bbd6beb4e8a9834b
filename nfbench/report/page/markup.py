"""Markup from values: what is not markup already is escaped, so that no name can become a tag."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_UNSHOWN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, turns of the writing direction, and halves of characters."""
_VOID = {"img", "input", "meta", "br"}
_LEAF = {"path", "line", "rect", "circle", "use"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Any text as markup that shows it."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_UNSHOWN.sub("\ufffd", str(text))))


def el(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. `None` children and attributes are left out.

    Attributes are named as in Python: `class_`, `data_value`; True stands for a bare one.
    """
    head = "".join(map(_attribute, attributes.items()))
    if name in _VOID:
        return Html(f"<{name}{head}>")
    if name in _LEAF and not children:
        return Html(f"<{name}{head}/>")
    inside = "".join(escaped(child) for child in children if child is not None)
    return Html(f"<{name}{head}>{inside}</{name}>")


def _attribute(item: tuple[str, object]) -> str:
    name, value = item[0].rstrip("_").replace("_", "-"), item[1]
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(between.join(escaped(part) for part in parts))
