"""The whole page, put together from its sections."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from nfbench.report.board import UNDEFENDED, Table
from nfbench.report.evidence import NOTHING, Evidence
from nfbench.report.leaderboard import STRONGEST, require_statistic
from nfbench.report.page import boards, broken, charts, lanes, provenance, words
from nfbench.report.page.alarms import alarms, worth
from nfbench.report.page.cells import costs, every_cell, latencies, troubled
from nfbench.report.page.gallery import gallery
from nfbench.report.page.glossary import glossary
from nfbench.report.page.heatmap import heatmaps, ramp
from nfbench.report.page.markup import Html, el
from nfbench.report.page.places import places
from nfbench.report.page.plot import grid, legend, marker_shapes
from nfbench.report.page.ranking import ranking
from nfbench.report.page.sections import Section, filters, navigation, switched
from nfbench.report.run import Run
from nfbench.report.settled import settled


def render(
    run: Run,
    *,
    statistic: str = "auroc_worst",
    evidence: Evidence = NOTHING,
) -> str:
    """The whole page, the same bytes for the same run.

    Args:
        run: records and per-image vectors; `run.images`, if there, fills the gallery.
        statistic: which AUROC the tables show.
        evidence: how far the numbers were checked, and what was broken.

    Raises:
        UsageError: for a statistic that there is not.
    """
    require_statistic(statistic)
    sections = [s for s in _sections(run, statistic, evidence) if s.content]
    head, tail = _asset("theme.js"), _asset("page.js")
    body = el(
        "body",
        el("a", "Skip to the tables", href="#main", class_="skip"),
        marker_shapes(),
        el("header", provenance.header(run, evidence), _theme_button()),
        navigation(sections),
        el("main", filters(run), *(s.html for s in sections), id="main", tabindex=-1),
        el("script", Html(tail)),
    )
    title = el("title", run.info.get("title", "nfbench"))
    styles, script = el("style", Html(_asset("page.css"))), el("script", Html(head))
    top = el("head", *_meta(head, tail), title, styles, script)
    return f"<!doctype html>\n{el('html', top, body, lang='en')}\n"


def _sections(run: Run, statistic: str, evidence: Evidence) -> list[Section]:
    found: Sequence[Table] = settled(run, statistic)
    where = places(run, found)
    defenses = [d for d in dict.fromkeys(d for t in found for d in t.rows) if d != UNDEFENDED]
    numbers = {name: i for i, name in enumerate(defenses)}
    order = {name: i for i, name in enumerate(dict.fromkeys(c.attack.name for c in run.cells))}
    key = legend(numbers)
    note = "" if all(t.chosen for t in found) else STRONGEST.replace("\n", " ")
    return [
        Section("ranking", "Ranking", words.RANKING, [ranking(run, found)]),
        Section("tables", "Leaderboards", f"{words.TABLES} {note}", boards.leaderboards(run, found)),
        Section("heat", "Heat-map", words.HEAT, [
            ramp(), *switched(heatmaps(found), "budget", "statistic")]),
        Section("ladder", "The knowledge ladder", words.LADDER, _keyed(
            key, charts.ladder(where, numbers))),
        Section("radius", "Against the radius", words.RADIUS, _keyed(
            key, charts.against_radius(where, numbers))),
        Section("roc", "ROC", words.ROC, _keyed(key, switched(charts.roc(where, numbers), "budget"))),
        Section("scores", "Scores", words.SCORES, _keyed(
            charts.kinds_of_scores(), switched(charts.histograms(where), "budget", "threat"))),
        Section("worst", "Worst attacks", words.WORST, [
            *switched(lanes.lanes(where, order), "budget", "threat"), *_some(lanes.stages(run))]),
        Section("gallery", "Gallery", words.GALLERY, _some(gallery(run))),
        Section("alarms", "False alarms", words.ALARMS, _some(alarms(run)) + _some(worth(run))),
        Section("cost", "Cost", "", [costs(run), *_some(latencies(run))]),
        Section("cells", "All cells", words.CELLS, [every_cell(run, statistic)]),
        Section("flagged", "Flagged and missing", "", _some(troubled(run))),
        Section("broken", "Checked and broken", words.BROKEN, broken.broken(evidence)),
        Section("provenance", "Provenance", "", [provenance.provenance(run, evidence)]),
        Section("glossary", "Glossary", "", [glossary(run, statistic)]),
    ]  # fmt: skip


def _keyed(key: Html, panels: Sequence[Html]) -> list[Html]:
    """Figures under their legend; nothing if there are none."""
    return [key, *([grid(panels)] if panels[0].startswith("<figure") else panels)] if panels else []


def _some(part: Html | None) -> list[Html]:
    return [] if part is None else [part]


def _theme_button() -> Html:
    return el("button", "Dark", type="button", id="theme", aria_pressed="false", hidden=True)


def _meta(*scripts: str) -> list[Html]:
    """Nothing is loaded, and no script runs but the page's own, whatever a name in the run says."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {hashes}"
    )
    return [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name_="color-scheme", content="light dark"),
    ]


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
