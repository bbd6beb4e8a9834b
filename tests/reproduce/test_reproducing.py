"""`nfbench reproduce` and `nfbench claims`, as they are typed, on the digits."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from nfbench.cli.main import app
from nfbench.core.errors import CheckFailed, CorruptArtifact, DataMissing, UsageError
from nfbench.report.run import read
from nfbench.reproduce.keeping import find
from nfbench.reproduce.paper import papers
from nfbench.reproduce.performing import Performer
from nfbench.reproduce.rendering import document, page_of
from nfbench.reproduce.scaling import settle


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def reproduce(place):
    """Call the command with one cache and one folder for all tests of this module."""

    def call(*arguments):
        where = ["--cache-dir", str(place / "cache"), "--out", str(place / "runs")]
        return CliRunner().invoke(app, ["reproduce", *map(str, arguments), *where])

    return call


@pytest.fixture(scope="module")
def table11(reproduce):
    return reproduce("table11", "--scale", "smoke", "--json")


def test_a_table_says_ours_and_theirs_and_that_digits_are_no_verdict(table11):
    assert table11.exit_code == 0
    rows = json.loads(table11.stdout)
    assert [row["id"] for row in rows] == [
        "table11.mnist.neuralfp.fgsm",
        "table11.cifar10.neuralfp.fgsm",
    ]
    for row, reported in zip(rows, (0.9996, 0.9992), strict=True):
        assert row["reported"] == reported
        assert 0 <= row["ours"]["low"] <= row["ours"]["value"] <= row["ours"]["high"] <= 1
        assert row["verdict"] == "not tested"
        assert row["why"].startswith("digits stand in for")
        assert [sizes["limit"] for sizes in row["sizes"].values()] == [60]


def test_our_number_is_that_of_the_run(table11, place):
    run = read(place / "runs" / "neuralfp" / "mnist-blackbox@smoke-digits" / "run")
    (cell,) = [cell for cell in run.cells if cell.threat_model.name == "blackbox"]
    assert cell.attack.name == "fgsm"
    assert cell.defense.params["fingerprints"] == 10
    assert cell.defense.params["eps"] == 0.03
    assert cell.eps == 0.4
    (row, _) = json.loads(table11.stdout)
    assert row["ours"]["value"] == cell.metrics["auroc_returned"].value
    told = run.info["reproduces"]
    assert (told["experiment"], told["scale"], told["stand_in"]) == ("mnist-blackbox", "smoke", "digits")


def test_the_same_command_again_has_nothing_to_do(table11, reproduce):
    again = reproduce("table11", "--scale", "smoke", "--json")
    assert "nothing to do" in again.stderr
    assert json.loads(again.stdout) == json.loads(table11.stdout)


def test_the_table_on_a_terminal_has_every_claim_and_the_sizes(table11, reproduce):
    shown = reproduce("table11", "--scale", "smoke")
    assert "table11.mnist.neuralfp.fgsm" in shown.stdout
    assert "99.96" in shown.stdout
    assert "mnist-blackbox, smoke: limit 60" in shown.stdout


def test_a_dry_run_says_what_would_run_and_runs_nothing(reproduce, place):
    before = sorted((place / "runs").rglob("*")) if (place / "runs").exists() else []
    shown = reproduce("table6.mnist", "--scale", "smoke", "--dry-run")
    assert shown.exit_code == 0
    assert "mnist-adaptive-cw (smoke): 1 runs" in shown.stdout
    assert (sorted((place / "runs").rglob("*")) if before else []) == before


def test_the_list_has_every_table_and_figure(reproduce):
    shown = reproduce("--list", "--json")
    ids = {row["id"] for row in json.loads(shown.stdout)}
    assert {"table2.mnist.neuralfp.fgsm", "figure10", "appendixK.mnist.found", "epfl.figure6"} <= ids


def test_an_interruption_keeps_what_is_finished_and_says_so(tmp_path, monkeypatch):
    def ran(self, settled, point, *_):
        self.interrupted = settled.name == "cifar10-blackbox"

    monkeypatch.setattr(Performer, "_perform", ran)
    where = ["--cache-dir", str(tmp_path / "c"), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, ["reproduce", "table11", "--scale", "smoke", "--json", *where])
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr
    assert {row["why"] for row in json.loads(result.stdout)} == {"interrupted before it ran"}


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        (["tabel4"], UsageError, "did you mean 'table4'"),
        (["table4", "--scale", "smok"], UsageError, "did you mean 'smoke'"),
        (["table11", "--scale", "smoke", "--dataset", "mnits"], UsageError, "mnits"),
        ([], UsageError, "--list"),
        (["table5", "--scale", "full"], DataMissing, "--data-dir"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(arguments, error, complaint, reproduce):
    result = reproduce(*arguments)
    assert isinstance(result.exception, error)
    assert complaint in str(result.exception)
    assert "\n" not in str(result.exception)


def test_missing_data_of_one_row_do_not_cost_the_others(reproduce, tmp_path):
    result = reproduce("table5", "table11.mnist", "--scale", "full", "--data-dir", tmp_path, "--dry-run")
    assert result.exit_code == 0
    assert "needs --data-dir" in result.stdout or "can't read" in result.stdout


@pytest.fixture(scope="module")
def kept(place, table11):
    """A folder of claims with a run in it: that of the digits, said to be what they stand in for."""
    source = place / "pretended"
    run = place / "runs" / "neuralfp" / "mnist-blackbox@smoke-digits" / "run"
    target = source / "neuralfp" / "mnist-blackbox@laptop" / "run"
    shutil.copytree(run, target)
    info = json.loads((target / "run.json").read_text())
    digest = settle(papers()[0], "mnist-blackbox", "laptop").digest
    info["reproduces"] |= {"scale": "laptop", "stand_in": "", "digest": digest}
    (target / "run.json").write_text(json.dumps(info))
    home = place / "leaderboards"
    result = CliRunner().invoke(app, ["claims", "--from", str(source), "--leaderboards", str(home)])
    assert result.exit_code == 0, result.exception
    return home


def test_a_run_that_is_kept_is_judged_and_the_page_says_how(kept):
    page = (kept / "claims.md").read_text()
    row = next(line for line in page.splitlines() if "table11.mnist.neuralfp.fgsm " in line)
    assert "99.96" in row
    assert "laptop" in row
    assert "clean accuracy here" in row or "contradicted" in row or "inconclusive" in row
    assert "`nfbench reproduce table11.mnist.neuralfp.fgsm --scale laptop --data-dir DIR`" in row


def test_a_run_of_what_an_experiment_was_before_it_changed_is_not_judged(kept, tmp_path):
    shutil.copytree(kept / "claims", tmp_path / "claims")
    file = next(tmp_path.rglob("run.json"))
    info = json.loads(file.read_text())
    info["reproduces"]["digest"] = "0" * 12
    file.write_text(json.dumps(info))
    rows = {row.claim.id: row.verdict for row in page_of(tmp_path / "claims")}
    found = rows["table11.mnist.neuralfp.fgsm"]
    assert (found.word, found.why) == ("not tested", "mnist-blackbox has changed since it was run")


def test_every_claim_has_a_verdict_or_a_reason(kept):
    rows = json.loads((kept / "claims.json").read_text())
    assert len(rows) > 190
    assert all(row["why"] for row in rows)
    assert all(row["command"] for row in rows if row["scale"])


def test_the_page_is_a_function_of_the_runs_alone(kept):
    first, second = (document(page_of(kept / "claims"), kept) for _ in range(2))
    assert first == second
    assert all(path.read_text() == text for path, text in first.items())


def test_an_edited_page_fails_the_check(kept):
    arguments = ["claims", "--check", "--leaderboards", str(kept)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    page = kept / "claims.md"
    text = page.read_text()
    page.write_text(text.replace("99.96", "99.97", 1))
    try:
        assert isinstance(CliRunner().invoke(app, arguments).exception, CheckFailed)
    finally:
        page.write_text(text)


def test_smoke_and_stand_ins_are_not_kept(place, table11, tmp_path):
    result = CliRunner().invoke(
        app, ["claims", "--from", str(place / "runs"), "--leaderboards", str(tmp_path)]
    )
    assert isinstance(result.exception, UsageError)
    assert "nothing to keep" in str(result.exception)


def test_damaged_results_are_told(kept, tmp_path):
    shutil.copytree(kept / "claims", tmp_path / "claims")
    next(tmp_path.rglob("vectors.safetensors")).write_bytes(b"x")
    with pytest.raises(CorruptArtifact, match="damaged"):
        find(tmp_path / "claims")
