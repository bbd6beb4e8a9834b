"""The tables of an HTML page as texts, for comparing two pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass(frozen=True)
class Found:
    """A table: its caption and the text of its cells, headers among them, row by row."""

    caption: str
    rows: Sequence[Sequence[str]]


@dataclass
class _Open:
    caption: list[str] = field(default_factory=list)
    rows: list[list[list[str]]] = field(default_factory=list)


class _Tables(HTMLParser):
    """Collects text; what is not in a table is not looked at."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[_Open] = []
        self.depth = 0
        self.into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.found.append(_Open())
            self.depth += 1
        elif self.depth and tag == "tr":
            self.found[-1].rows.append([])
        elif self.depth and tag == "caption":
            self.into = self.found[-1].caption
        elif self.depth and tag in ("td", "th") and self.found[-1].rows:
            self.into = []
            self.found[-1].rows[-1].append(self.into)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "caption", "tr", "table"):
            self.into = None
        if tag == "table":
            self.depth = max(self.depth - 1, 0)

    def handle_data(self, data: str) -> None:
        if self.into is not None:
            self.into.append(data)


def tables_of(page: str) -> list[Found]:
    """Every table of a page, in order."""
    parser = _Tables()
    parser.feed(page)
    return [
        Found(_text(one.caption), [[_text(cell) for cell in row] for row in one.rows])
        for one in parser.found
    ]


def _text(parts: Sequence[str]) -> str:
    return " ".join("".join(parts).split())
