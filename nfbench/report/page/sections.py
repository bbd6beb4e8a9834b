"""The frame of a page: sections, navigation, filters, and switches between figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nfbench.report.cells import budget
from nfbench.report.page.columns import ball_named
from nfbench.report.page.markup import Html, el, join
from nfbench.report.run import Run


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading."""

    name: str
    title: str
    lead: str
    content: Sequence[Html]

    @property
    def html(self) -> Html:
        heading = el("h2", self.title, id=f"{self.name}-title")
        lead = el("p", self.lead.strip(), class_="lead") if self.lead else None
        return el(
            "section", heading, lead, *self.content, id=self.name, aria_labelledby=f"{self.name}-title"
        )


def navigation(sections: Sequence[Section]) -> Html:
    """Links to the sections."""
    items = (el("li", el("a", s.title, href=f"#{s.name}")) for s in sections)
    return el("nav", el("ul", *items), aria_label="Sections")


def filters(run: Run) -> Html:
    """What narrows every table and figure; shown where there is JavaScript."""
    choices = {
        "defense": (c.row for c in run.cells),
        "attack": (c.attack.name for c in run.cells),
        "threat": (c.threat_model.name for c in run.cells),
        "budget": (ball_named(budget(c)) for c in run.cells),
    }
    fields = [_choice(name, values) for name, values in choices.items()]
    text = el("input", type="search", id="filter-text", placeholder="any word", autocomplete="off")
    fields.append(el("label", "text ", text))
    fields.append(el("button", "Reset", type="reset"))
    said = el("p", id="filter-status", role="status")
    return el("form", *fields, said, id="filters", hidden=True, role="search", aria_label="Filter")


def _choice(name: str, values: Iterable[str]) -> Html:
    options = [el("option", "all", value="")]
    options += [el("option", v, value=v) for v in dict.fromkeys(values)]
    label = "threat model " if name == "threat" else f"{name} "
    return el("label", label, el("select", *options, id=f"filter-{name}", data_filter=name))


def switched(panels: Sequence[Html], *keys: str) -> list[Html]:
    """Figures of which one value of each `data-` key is shown at a time; all where JavaScript is off."""
    if not panels:
        return []
    return [el("div", join(panels), class_="panels switched", data_switch=" ".join(keys))]
