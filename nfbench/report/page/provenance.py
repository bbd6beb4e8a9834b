"""Where the numbers come from: command, versions, device, data, and how far they were checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from nfbench.report.evidence import LEVELS, Evidence
from nfbench.report.page.markup import Html, el, join
from nfbench.report.run import Run


def header(run: Run, evidence: Evidence) -> Html:
    """Title, summary, how much there is, and how far it was checked."""
    counts = Counter(cell.status for cell in run.cells)
    seeds = len({cell.seed for cell in run.cells})
    kinds = {
        "defense": len({c.row for c in run.cells}),
        "attack": len({c.attack.name for c in run.cells}),
        "threat model": len({c.threat_model.name for c in run.cells}),
        "seed": seeds,
    }
    facts = [_chip(n, name + "s" * (n != 1)) for name, n in kinds.items()]
    facts += [_chip(counts[s], s, s) for s in ("done", "flagged", "failed", "skipped") if counts[s]]
    level = evidence.level
    badge = el("span", level, class_="trust", title=LEVELS.get(level), data_trust=level)
    summary = el("p", _spans(" ".join(map(str, run.info.get("summary", [])))), class_="summary")
    return join(
        (el("h1", run.info.get("title", "nfbench")), summary, el("p", badge, *facts, class_="chips"))
    )


def _spans(text: str) -> Html:
    """Text in which every second piece between backticks is code."""
    return join(el("code", part) if i % 2 else part for i, part in enumerate(text.split("`")))


def _chip(count: int, text: str, kind: str = "") -> Html:
    return el("span", el("b", count), f" {text}", class_=f"chip {kind}".strip())


def provenance(run: Run, evidence: Evidence) -> Html:
    """The table of where it comes from, and the resolved spec folded away."""
    rows = [
        el("tr", el("th", name, scope="row"), el("td", value))
        for name, value in _facts(run, evidence).items()
        if value not in {"", None}
    ]
    table = el(
        "table", el("caption", "Where these numbers come from"), el("tbody", *rows), class_="facts"
    )
    spec = json.dumps(run.info.get("spec", {}), indent=1, sort_keys=True, ensure_ascii=False)
    folded = el("details", el("summary", "Resolved spec"), el("pre", spec, tabindex=0))
    return join((table, folded))


def _facts(run: Run, evidence: Evidence) -> Mapping[str, object]:
    environment = run.info.get("environment", {})
    packages = environment.get("packages", {})
    origins = _distinct(o for c in run.cells for o in c.origins)
    command = run.info.get("command")
    return {
        "trust": f"{evidence.told}. {evidence.checked}".strip(),
        "command": el("code", command) if command else None,
        "plan": _code([run.info.get("plan")]),
        "nfbench": environment.get("nfbench"),
        "source revision": _revision(environment),
        "python": environment.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
        "plugins": ", ".join(_plugins(run)),
        "device": environment.get("device"),
        "artifacts made by": ", ".join(origins),
        "instruction set": environment.get("cpu_capability"),
        "threads a job": environment.get("threads_per_job"),
        "dataset": ", ".join(_distinct(c.dataset.get("name") for c in run.cells)),
        "data SHA-256": _code(_distinct(c.dataset.get("sha256") for c in run.cells)),
        "model": ", ".join(_distinct(c.model.get("name") for c in run.cells)),
        "seeds": ", ".join(_distinct(c.seed for c in run.cells)),
        "schema": ", ".join(_distinct(c.schema_version for c in run.cells)),
    }  # fmt: skip


def _revision(environment: Mapping[str, Any]) -> Html | None:
    commit = environment.get("git_commit")
    changed = ", with uncommitted changes" if environment.get("git_dirty") else ""
    return join((el("code", commit), changed)) if commit else None


def _plugins(run: Run) -> list[str]:
    used = (p for c in run.cells for p in (c.defense, c.attack, c.threat_model))
    return sorted({f"{p.plugin} {p.version}" for p in used})


def _distinct(values: Iterable[Any]) -> list[str]:
    return [str(v) for v in dict.fromkeys(values) if v is not None]


def _code(values: Iterable[Any]) -> Html | None:
    found = [el("code", v) for v in values if v]
    return join(found, " ") if found else None
