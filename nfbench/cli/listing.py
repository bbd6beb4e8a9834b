"""`list`, `show` and `plan`: what there is, and what would be done."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from rich.text import Text

from nfbench.cli.console import grid, headed, plain_console
from nfbench.cli.settings import defaults_of, lines_of, settings_of
from nfbench.core.errors import UnknownPlugin
from nfbench.core.offers import KINDS, Offer
from nfbench.core.recipe import did_you_mean
from nfbench.core.registry import Registry

if TYPE_CHECKING:
    from nfbench.runner.plan import Plan
    from nfbench.store import Store


def show_offers(offers: Iterable[Offer]) -> None:
    """A table of plugins."""
    rows = [[o.kind, o.name, o.summary, f"{o.distribution} {o.version}"] for o in offers]
    names = {"kind", "name", "from"}
    header, console = ["kind", "name", "what it is", "from"], plain_console()
    console.print(grid(header, rows, names=names, width=console.width))


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
    console = plain_console()
    header = ["hyperparameter", "default", "type", "meaning"]
    for one in described:
        owner = f"({one['kind']}, {one['plugin']} {one['version']})"
        console.print(headed(one["name"], "bold", owner))
        console.print(one["doc"], soft_wrap=False)
        if one["paper"]:
            console.print(one["paper"])
        rows = [[k["name"], str(k["default"]), k["type"], k["doc"]] for k in one["hyperparameters"]]
        table = grid(header, rows, names=header[:1], width=console.width)
        console.print(table if rows else "no hyperparameters")
        if one.get("defaults"):
            console.print("What a run on it uses unless told otherwise:")
            console.print("\n".join(lines_of(one["defaults"])))
        elif "defaults" in one:
            console.print("What a run on it uses is read from its files")


def _describe(offer: Offer) -> dict[str, Any]:
    cls = offer.load()
    docs = _field_docs(cls)
    for alias, name in cls.aliases.items():
        docs[name] = f"{docs.get(name, '')} Also called {alias}.".strip()
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
    described = {
        "kind": offer.kind,
        "name": offer.name,
        **offer.provenance(),
        "doc": doc,
        "paper": cls.paper,
        "hyperparameters": plain,
    }
    return described | ({"defaults": defaults_of(cls)} if offer.kind == "dataset" else {})


def _type(annotation: Any) -> str:
    """A type as people read it: without bounds, choices as they are typed."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " | ".join(map(_type, parts))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_type, parts))}]"
    if annotation in (None, type(None), Ellipsis):
        return "..." if annotation is Ellipsis else "None"
    return str(getattr(annotation, "__name__", annotation))


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
    """What it was resolved to, jobs to run, jobs shared, and cells that can't be."""
    missing = [job for key, job in plan.jobs.items() if key not in store]
    by_kind = Counter(job.kind for job in plan.jobs.values())
    left = Counter(job.kind for job in missing)
    skipped = [cell for cell in plan.cells if cell.reason]
    if as_json:
        text = {
            "plan": plan.digest,
            "settings": settings_of(plan.spec),
            "cells": [{"cell": c.name, "job": c.score, "reason": c.reason} for c in plan.cells],
            "jobs": [
                {"key": k, "kind": j.kind, "label": j.label, "done": k in store}
                for k, j in plan.jobs.items()
            ],
            "saved": plan.saved,
        }
        sys.stdout.write(json.dumps(text, indent=1) + "\n")
        return
    console = plain_console()
    console.print("\n".join(lines_of(settings_of(plan.spec))))
    console.print(Text(f"{len(plan.cells)} cells", style="italic"))
    header = ["jobs", "all", "to run"]
    rows = [[kind, str(n), str(left[kind])] for kind, n in by_kind.items()]
    table = grid(header, rows, names=header, width=console.width)
    table.add_row("total", str(len(plan.jobs)), str(len(missing)), style="bold")
    console.print(table)
    console.print(f"{plan.saved} further jobs are saved by sharing")
    for cell in skipped:
        console.print(f"skipped {cell.name}: {cell.reason}")
