"""The page: well-formed, self-contained, and every number the record's."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from pages import Page, made

from nfbench.core.errors import UsageError
from nfbench.records import MARK, Value
from nfbench.report import board
from nfbench.report.board import UNDEFENDED, worst
from nfbench.report.cells import budget
from nfbench.report.evidence import LEVELS, Evidence
from nfbench.report.leaderboard import markdown
from nfbench.report.page import cells, render
from nfbench.report.page.columns import parts_of
from nfbench.report.settled import settled
from nfbench.trust.breaks import Break

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><!-- ' & \u202e \x00 \ud800",
)


@pytest.fixture(scope="module")
def run():
    return made()


@pytest.fixture(scope="module")
def text(run):
    return render(run)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def submission(source):
    """A break that somebody may have put beside results."""
    return Break.model_construct(
        row="kd--pgd",
        date="2026-02-03",
        source=source,
        images=10,
        improved=7,
        sr_at_5_fpr=(0.25, 0.5),
        auroc_worst=(0.75, None),
    )


def changed(run, number, **fields):
    """The run with one cell changed."""
    found = list(run.cells)
    found[number] = found[number].model_copy(update=fields)
    return replace(run, cells=found)


def test_it_is_well_formed_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0][0]["lang"] == "en"
    assert [len(page.all(name)) for name in ("main", "h1", "header", "nav")] == [1, 1, 1, 1]


def test_every_table_has_a_caption_and_every_head_a_scope(page):
    for number, (tag, _) in enumerate(page.elements):
        if tag == "table":
            assert page.elements[number + 1][0] == "caption"
    assert {attributes.get("scope") for attributes, _ in page.all("th")} == {"col", "row"}


def test_every_picture_says_what_it_shows(page):
    assert page.all("img")
    assert all(attributes["alt"] for attributes, _ in page.all("img"))
    charts = [i for i, (tag, a) in enumerate(page.elements) if tag == "svg" and a.get("role") == "img"]
    assert charts
    for number in charts:
        assert [tag for tag, _ in page.elements[number + 1 : number + 3]] == ["title", "desc"]
    rest = [a for a, _ in page.all("svg") if a.get("role") != "img"]
    assert all(attributes["aria-hidden"] == "true" for attributes in rest)


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


def test_every_link_leads_to_a_place_on_the_page(page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    targets = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert not {t for t in targets if not t.startswith("#") or t[1:] not in ids}


def test_nothing_is_loaded_from_anywhere(page, text):
    for _, attributes in page.elements:
        for name in ("src", "srcset", "data", "action", "background", "poster"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not page.all("link", "iframe", "object", "embed", "base")
    style = "".join(text for _, text in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    scripts = "".join(text for _, text in page.all("script"))
    assert not re.search(r"fetch|XMLHttpRequest|import\(|https?:|WebSocket|eval", scripts)


def test_only_its_own_scripts_may_run(page):
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert len(page.all("script")) == 2
    for _, script in page.all("script"):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_and_never_becomes_markup(name):
    run = made(defenses=(name, "kd"), attacks=(name, "pgd"), threats=(name, "adaptive-whitebox"))
    run = changed(run, 0, status="failed", reason=name, metrics={})
    run = changed(run, 1, status="flagged", flags=[name], reason=name, caveat=name)
    run = changed(replace(run, info={**run.info, "title": name, "command": name, "summary": [name]}), 2)
    text = render(run, evidence=Evidence(name, name, (name,), (submission(name),)))
    text.encode()
    page, plain = Page(text), Page(render(made()))
    kinds = {tag for tag, _ in page.elements}
    assert kinds <= {tag for tag, _ in plain.elements} | {"sup", "a"}
    assert len(page.all("script")) == 2
    assert all(a["src"].startswith("data:image/png") for a, _ in page.all("img"))
    assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]
    shown = re.sub("[\x00\u202e\ud800]", "\ufffd", name)
    assert page.all("h1")[0][1] == shown
    assert "alert(1)</script><script>" not in text.replace("\n", "").split("</head>")[1].replace(
        "&lt;", ""
    )


def test_the_same_run_gives_the_same_bytes(text):
    assert render(made()) == text


def test_sixty_cells_fit_into_a_megabyte():
    run = made(("a", "b", "c"), ("fgsm", "pgd", "cw", "apgd", "dual"), images=300, size=28)
    assert len(run.cells) == 60
    page = render(run)
    assert page.count("<img") >= 60
    assert len(page.encode()) <= 1_000_000


def test_the_table_of_cells_has_every_number_of_the_record(run, page):
    shown = {"sr_at_5_fpr", "auroc_worst", "undefended_error", "gain", "success_rate", "rauc"}
    for cell in run.cells:
        (row,) = page.rows(cell=cell.cell)
        found = {a["data-metric"]: (a, text) for a, text in row if "data-metric" in a}
        assert found.keys() == shown | {"robust_accuracy_at_5"}
        for name, (attributes, said) in found.items():
            value = cell.metrics[name]
            numbers = [float(attributes[f"data-{part}"]) for part in ("value", "low", "high")]
            assert numbers == [value.value, value.low, value.high]
            assert said == f"{value.value:.3f}[{value.low:.3f}, {value.high:.3f}]"
        spent = {a["data-amount"]: float(a["data-value"]) for a, _ in row if "data-amount" in a}
        assert spent == {"images": 40, **cell.cost, **cell.timing}


@pytest.mark.parametrize("statistic", ["auroc_worst", "papers"])
def test_the_leaderboards_have_every_number_of_the_tables(run, statistic):
    page = Page(render(run, statistic=statistic))
    numbers = {a["data-value"] for a, _ in page.all("td") if "data-value" in a}
    aurocs = {a["data-value"] for a, _ in page.all("span") if a.get("class") == "auroc"}
    for table in settled(run, statistic):
        for entries in table.rows.values():
            for entry in entries:
                assert entry.sr5 is None or repr(entry.sr5) in numbers
                assert entry.auroc is None or repr(entry.auroc) in aurocs


def test_a_row_of_a_leaderboard_stands_in_the_order_of_its_columns(run, page):
    for table in settled(run, "auroc_worst"):
        expected = {parts_of(c): e.sr5 for c, e in zip(table.columns, table.rows["kd"], strict=True)}
        found = [
            {
                (a.get("data-attack", ""), a["data-budget"]): float(a["data-value"])
                for a, _ in row
                if "data-budget" in a
            }
            for row in page.rows(defense="kd")
        ]
        assert expected in found


def test_the_ranking_shows_the_mean_of_the_worst_cases(run, page):
    row = page.rows(defense="lid")[0]
    for (attributes, _), threat in zip(row[1:3], ("blackbox", "adaptive-whitebox"), strict=True):
        own = [c for c in run.cells if (c.row, c.threat_model.name) == ("lid", threat)]
        balls = dict.fromkeys(map(budget, own))
        rates = [worst(run, [c for c in own if budget(c) == ball]).sr5 for ball in balls]
        assert float(attributes["data-value"]) == pytest.approx(sum(rates) / len(rates), abs=1e-6)


def test_flagged_failed_and_skipped_cells_are_shown_with_their_reason_and_not_ranked(run):
    run = changed(run, 4, status="flagged", flags=["the surrogate misleads"])  # kd, adaptive-whitebox
    run = changed(run, 5, status="flagged", flags=["the surrogate misleads"])
    run = changed(run, 0, status="failed", reason="NaN scores", metrics={})
    run = changed(run, 1, status="skipped", reason="needs gradients", metrics={})
    page = Page(render(run))
    reasons = [text for _, text in page.all("td")]
    assert {"the surrogate misleads", "NaN scores", "needs gradients"} <= set(reasons)
    links = {text for a, text in page.all("a") if a["href"] == "#flagged"}
    assert {"failed", "skipped", f"{MARK} flagged", MARK} <= links
    flagged = [(a, t) for a, t in page.all("td") if MARK in t and "data-attack" in a]
    assert flagged
    assert not [a for a, _ in flagged if "best" in a.get("class", "")]


def test_a_bound_is_told_as_one(run):
    values = dict(run.cells[0].metrics)
    values["auroc_worst"] = Value(value=0.5, flag="upper bound: images were left alone")
    page = Page(render(changed(run, 0, metrics=values)))
    (row,) = page.rows(cell=run.cells[0].cell)
    assert ("≤0.500", "upper bound: images were left alone") in [(t, a.get("title")) for a, t in row]
    assert any(text.startswith("≤ ") for a, text in page.all("span") if a.get("class") == "auroc")


def test_a_number_that_is_missing_is_a_dash(run):
    values = {**run.cells[0].metrics, "rauc": Value(value=None, flag="no threshold")}
    page = Page(render(changed(run, 0, metrics=values)))
    (row,) = page.rows(cell=run.cells[0].cell)
    (found,) = [(a, t) for a, t in row if a.get("data-metric") == "rauc"]
    assert found[1] == "–"
    assert "data-value" not in found[0]


def test_a_board_too_large_for_a_row_a_cell_says_so(run, monkeypatch):
    monkeypatch.setattr(cells, "MOST", 3)
    assert "16 cells are too many" in render(run)


def test_a_run_without_any_number_is_still_a_page(run):
    lost = [
        c.model_copy(update={"status": "failed", "reason": "no memory", "metrics": {}})
        for c in run.cells
    ]
    page = Page(render(replace(run, cells=lost, samples={}, images={})))
    assert "no memory" in {text for _, text in page.all("td")}


def test_the_undefended_row_is_the_last_whatever_is_sorted(page):
    for number, (tag, _) in enumerate(page.elements):
        if tag == "th" and page.texts.get(number) == UNDEFENDED and "tfoot" not in page.inside[number]:
            assert "heat" in [a.get("class") for t, a in page.elements[:number] if t == "table"][-1]


def test_an_unknown_statistic_is_refused(run):
    with pytest.raises(UsageError, match="auroc_worst"):
        render(run, statistic="auroc_wrst")


def test_reports_are_made_without_torch():
    code = (
        "import sys, nfbench.report.page, nfbench.report.figures, nfbench.report.latex; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tables_are_made_once_for_all_that_shows_them(run, monkeypatch):
    made_, calls = replace(run), []
    real = board._table
    monkeypatch.setattr(board, "_table", lambda *given: calls.append(given[1]) or real(*given))
    render(made_)
    markdown(made_)
    assert calls == ["blackbox", "adaptive-whitebox"]


def test_provenance_is_told(page):
    facts = {
        row[0][1]: row[1][1] for row in page.rows() if len(row) == 2 and row[0][0].get("scope") == "row"
    }
    assert facts["source revision"] == "abc123, with uncommitted changes"
    assert facts["artifacts made by"] == "abc123 on cpu, def456 on gpu-0"
    assert facts["data SHA-256"] == "d" * 64
    assert facts["trust"] == f"self-reported: {LEVELS['self-reported']}."
    (spec,) = [text for _, text in page.all("pre")]
    assert "</script><script>alert(1)</script>" in spec
