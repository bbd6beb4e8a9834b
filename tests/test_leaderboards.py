"""Leaderboards can be run as they say, and those of the paper's tables have the paper's numbers."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nfbench.boards.boardfile import read_board
from nfbench.boards.checking import check
from nfbench.cli import app
from nfbench.report.run import read
from nfbench.reproduce.rendering import document, page_of

HOME = Path(__file__).parents[1] / "leaderboards"
FILES = sorted(path.stem for path in HOME.glob("*.toml"))
BOARDS = [name for name in FILES if (HOME / name / "run.json").is_file()]
TABLES = [name for name in FILES if name.startswith("table")]
ADAPTIVE = [name for name in TABLES if re.match(r"table6-", name)]
COMMENTED = re.compile(r"^#     (.*)$", re.MULTILINE)


@pytest.fixture
def plans(monkeypatch, tmp_path):
    """The plan of each command that a file tells the reader to type, the whole file's first."""
    monkeypatch.chdir(HOME.parent)
    found = []
    monkeypatch.setattr("nfbench.cli.listing.show_plan", lambda plan, *_, **__: found.append(plan))

    def make(name):
        found.clear()
        for line in commands(name):
            _, verb, *arguments = shlex.split(line)
            assert verb == "run"
            outcome = CliRunner().invoke(app, ["plan", *arguments, "--cache-dir", str(tmp_path)])
            assert outcome.exit_code == 0, f"{line}\n{outcome.output}\n{outcome.exception}"
        return list(found)

    return make


def commands(name):
    """What the comments of a file say: whole commands, and flags that are added to the first."""
    lines = COMMENTED.findall((HOME / f"{name}.toml").read_text())
    return [line if line.startswith("nfbench ") else f"{lines[0]} {line}" for line in lines]


def one(recipes, name):
    (found,) = [chosen.recipe for chosen in recipes if chosen.name == name]
    return found


def fingerprints(plan):
    """N and eps of the defense."""
    defense = one(plan.spec.defenses, "neuralfp")
    return defense.fingerprints, defense.eps


@pytest.mark.parametrize("name", FILES)
def test_the_commands_of_a_leaderboard_can_be_planned(name, plans):
    assert commands(name)[0].startswith(f"nfbench run --config leaderboards/{name}.toml")
    for plan in plans(name):
        assert plan.jobs
        if name in TABLES:
            assert not [cell.reason for cell in plan.cells if cell.reason]


@pytest.mark.parametrize("name", BOARDS)
def test_the_pages_of_a_board_are_what_its_results_render_to(name):
    check(read_board(HOME / f"{name}.toml"))


def test_the_page_of_the_claims_is_what_their_runs_render_to():
    for path, text in document(page_of(HOME / "claims"), HOME).items():
        assert path.read_text() == text, path.name


def test_what_is_committed_of_the_claims_stays_small():
    files = [path for path in (HOME / "claims").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) < 25e6


@pytest.mark.parametrize("name", BOARDS)
def test_the_results_of_a_board_are_of_its_file(name, plans):
    """The same cells: nothing was left out after the fact, and nothing is of another configuration."""
    run = read(HOME / name)
    planned = {cell.name: cell.reason for cell in plans(name)[0].cells}
    made = {cell.cell: cell for cell in run.cells if cell.attack.name != "submitted"}
    assert made.keys() == planned.keys()
    assert {cell for cell in made if made[cell].status == "skipped"} == {
        c for c in planned if planned[c]
    }


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_committed_of_a_board_stays_small(name):
    files = [*(HOME / name).rglob("*"), *HOME.glob(f"{name}.*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 25e6


@pytest.mark.parametrize("name", FILES)
def test_every_leaderboard_is_listed(name):
    assert f"[{name}.toml]({name}.toml)" in (HOME / "README.md").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_paper_have_its_statistic(name):
    assert tomllib.loads((HOME / f"{name}.toml").read_text())["statistic"] == "papers"


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_tables_have_the_paper_s_attacker(name, plans):
    first, *others = plans(name)
    (threat,) = [chosen.recipe for chosen in first.spec.threat_models]
    assert threat.name == "paper-adaptive"
    assert threat.protocol == "paper"
    protocols = [getattr(p.spec.threat_models[0].recipe, "protocol", "") for p in others]
    assert "released-code" in protocols


def test_table_6_has_two_sets_of_fingerprints_on_small_images(plans):
    columns = {}
    for plan in plans("table6-digits"):
        (threat,) = [chosen.recipe for chosen in plan.spec.threat_models]
        if getattr(threat, "protocol", "") == "paper":
            columns[fingerprints(plan)] = {attack.name for attack in plan.spec.attacks}
    assert columns[10, 0.1] >= {"fgsm", "spsa"}
    assert columns[20, 0.05] == {"bim-b", "cw-fp", "cw-fp-one"}
