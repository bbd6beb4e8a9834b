"""`list`, `show` and `plan`: what there is, and what would be done."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from nfbench.core.errors import UnknownPlugin
from nfbench.core.recipe import did_you_mean
from nfbench.core.registry import KINDS, Offer, Registry

if TYPE_CHECKING:
    from nfbench.runner.plan import Plan
    from nfbench.store import Store


def show_offers(offers: Iterable[Offer]) -> None:
    """A table of plugins."""
    table = Table("kind", "name", "what it is", "from")
    for offer in offers:
        table.add_row(offer.kind, offer.name, offer.summary, f"{offer.distribution} {offer.version}")
    Console().print(table)


def locate(registry: Registry, name: str) -> list[Offer]:
    """The plugins of a name, of whatever kind.

    Raises:
        NFBenchError: if there is none, or it can't be loaded.
    """
    if ":" in name:
        found = []
        for kind in KINDS:
            try:
                found.append(registry.find(kind, name))
            except Exception as error:  # of another kind, or can't be loaded; said below
                last = error
        if not found:
            raise last
        return found
    kinds = [k for k in KINDS if name in registry.offers[k] or (k, name) in registry.broken]
    if ("plugin", name) in registry.broken and not kinds:
        registry.find("defense", name)
    if not kinds:
        known = [n for k in KINDS for n in registry.names(k)]
        raise UnknownPlugin(
            f"no plugin is called {name!r}{did_you_mean(name, known)} (nfbench list shows all)"
        )
    return [registry.find(kind, name) for kind in kinds]


def show_plugin(registry: Registry, name: str, *, as_json: bool) -> None:
    """Everything a user can set on a plugin."""
    described = [_describe(offer) for offer in locate(registry, name)]
    if as_json:
        sys.stdout.write(json.dumps(described, indent=1) + "\n")
        return
    console = Console()
    for one in described:
        console.print(f"[bold]{one['name']}[/bold] ({one['kind']}, {one['plugin']} {one['version']})")
        console.print(one["doc"], highlight=False, markup=False)
        if one["paper"]:
            console.print(one["paper"])
        table = Table("hyperparameter", "default", "type", "meaning")
        for knob in one["hyperparameters"]:
            table.add_row(knob["name"], str(knob["default"]), knob["type"], knob["doc"])
        console.print(table if one["hyperparameters"] else "no hyperparameters")


def _describe(offer: Offer) -> dict[str, Any]:
    cls = offer.load()
    docs = _field_docs(cls)
    knobs = [
        {
            "name": name,
            "default": "(required)"
            if info.is_required()
            else info.get_default(call_default_factory=True),
            "type": _type(info.annotation),
            "doc": docs.get(name, ""),
        }
        for name, info in cls.model_fields.items()
    ]
    doc = " ".join((cls.__doc__ or "").split())
    plain = json.loads(json.dumps(knobs, default=str))
    return {
        "kind": offer.kind,
        "name": offer.name,
        **offer.provenance(),
        "doc": doc,
        "paper": cls.paper,
        "hyperparameters": plain,
    }


def _type(annotation: Any) -> str:
    text = str(annotation) if "[" in str(annotation) or "|" in str(annotation) else annotation.__name__
    return text.replace("typing.", "").replace("NoneType", "None")


def _field_docs(cls: type) -> dict[str, str]:
    """The string under each field, from the source of the class and its bases."""
    import ast
    import inspect
    import textwrap

    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue
        body = getattr(tree, "body", [])
        for field, doc in pairwise(body):
            named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            text = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
            if named and text and isinstance(doc.value.value, str):
                docs[field.target.id] = " ".join(doc.value.value.split())
    return docs


def show_plan(plan: Plan, store: Store, *, as_json: bool) -> None:
    """Jobs to run, jobs shared, and cells that can't be."""
    missing = [job for key, job in plan.jobs.items() if key not in store]
    by_kind = Counter(job.kind for job in plan.jobs.values())
    left = Counter(job.kind for job in missing)
    skipped = [cell for cell in plan.cells if cell.reason]
    if as_json:
        text = {
            "plan": plan.digest,
            "cells": [{"cell": c.name, "job": c.score, "reason": c.reason} for c in plan.cells],
            "jobs": [
                {"key": k, "kind": j.kind, "label": j.label, "done": k in store}
                for k, j in plan.jobs.items()
            ],
            "saved": plan.saved,
        }
        sys.stdout.write(json.dumps(text, indent=1) + "\n")
        return
    console = Console()
    table = Table("jobs", "all", "to run", title=f"{len(plan.cells)} cells", title_justify="left")
    for kind, count in by_kind.items():
        table.add_row(kind, str(count), str(left[kind]))
    table.add_row("total", str(len(plan.jobs)), str(len(missing)), style="bold")
    console.print(table)
    console.print(f"{plan.saved} further jobs are saved by sharing", highlight=False)
    for cell in skipped:
        console.print(f"skipped {cell.name}: {cell.reason}", highlight=False, markup=False)
