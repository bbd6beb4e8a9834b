"""Everything the papers have, at the smallest scale: each experiment, study and figure ends."""

import json

import pytest
from typer.testing import CliRunner

from nfbench.cli.main import app
from nfbench.report.run import read
from nfbench.reproduce.figures.base import FIGURES
from nfbench.reproduce.paper import papers


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    where = ["--out", str(out), "--cache-dir", str(out / "cache")]
    result = CliRunner().invoke(
        app, ["reproduce", "all", "--scale", "smoke", "--json", "--quiet", *where]
    )
    return out, result


def test_everything_runs_to_its_end(everything):
    _, result = everything
    assert result.exit_code == 0, result.stderr


def test_every_claim_has_a_number_or_the_reason_why_not(everything):
    rows = {row["id"]: row for row in json.loads(everything[1].stdout)}
    claims = {claim.id: claim for paper in papers() for claim in paper.claims}
    assert rows.keys() == claims.keys()
    assert all(row["why"] for row in rows.values())
    silent = [
        i for i, row in rows.items() if not claims[i].not_tested and row["why"].startswith("not run")
    ]
    assert not silent


def test_digits_never_pass_for_the_papers_data(everything):
    claims = {claim.id: claim for paper in papers() for claim in paper.claims}
    judged = [row for row in json.loads(everything[1].stdout) if row["verdict"] != "not tested"]
    assert judged
    assert all(not claims[row["id"]].dataset for row in judged)


def test_every_figure_is_drawn_with_the_numbers_it_shows(everything):
    folder = everything[0] / "figures"
    for name in FIGURES:
        assert (folder / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        saved = json.loads((folder / f"{name}.json").read_text())
        assert saved["data"]
        assert saved["made_by"]["scale"] == "smoke"


def test_the_figure_beyond_the_papers_has_the_rates_of_its_runs(everything):
    out, _ = everything
    shown = json.loads((out / "figures" / "beyond.json").read_text())["data"]
    rates = {}
    for name in ("mnist-static", "mnist-adaptive", "mnist-breaker"):
        for cell in read(out / "neuralfp" / f"{name}@smoke-digits" / "run").cells:
            rates[cell.threat_model.name, cell.attack.name] = cell.metrics["sr_at_5_fpr"].value
    drawn = zip(shown["threat_model"], shown["attack"], shown["value"], strict=True)
    assert {(threat, attack): value for threat, attack, value in drawn} == pytest.approx(rates, abs=1e-5)
