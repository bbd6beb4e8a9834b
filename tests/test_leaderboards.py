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
from nfbench_attacks.gamma import TRIALS

HOME = Path(__file__).parents[1] / "leaderboards"
FILES = sorted(path.stem for path in HOME.glob("*.toml"))
BOARDS = [name for name in FILES if (HOME / name / "run.json").is_file()]
TABLES = [name for name in FILES if name.startswith("table")]
ADAPTIVE = [name for name in TABLES if re.match(r"table(6|13|14|15)-", name)]
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
    if not name.startswith(("table13", "table14")):
        protocols = [getattr(p.spec.threat_models[0].recipe, "protocol", "") for p in others]
        assert "released-code" in protocols


@pytest.mark.parametrize("name", ["table6-digits", "table6-mnist"])
def test_table_6_has_two_sets_of_fingerprints_on_small_images(name, plans):
    columns = {}
    for plan in plans(name):
        (threat,) = [chosen.recipe for chosen in plan.spec.threat_models]
        if getattr(threat, "protocol", "") == "paper":
            columns[fingerprints(plan)] = {attack.name for attack in plan.spec.attacks}
    assert columns[10, 0.1] >= {"fgsm", "spsa"}
    assert columns[20, 0.05] == {"bim-b", "cw-fp", "cw-fp-one"}


def test_table_6_on_cifar10_has_the_schedules_of_table_12(plans):
    plan = plans("table6-cifar10")[0]
    assert fingerprints(plan) == (30, 0.003)
    assert plan.spec.eps["linf"] == (0.05,)
    assert plan.spec.limit == 1328
    cw = one(plan.spec.attacks, "cw-fp")
    assert (cw.binary_search_steps, cw.gamma2_steps, cw.steps) == (9, 5, 1000)
    assert (cw.initial_gamma1, cw.initial_gamma2) == (1e-3, 0.1)
    assert (cw.learning_rate, cw.kappa, cw.target) == (0.01, 0, "random")
    other = one(plan.spec.attacks, "cw-fp-one")
    same = ("binary_search_steps", "steps", "initial_gamma1", "learning_rate", "kappa", "target")
    assert [getattr(other, key) for key in same] == [getattr(cw, key) for key in same]
    assert (cw.variant, other.variant) == ("search", "one")
    spsa = one(plan.spec.attacks, "spsa")
    assert (spsa.steps, spsa.samples, spsa.delta, spsa.learning_rate) == (100, 128, 0.01, 0.01)
    assert one(plan.spec.attacks, "bim-b").step == 0.005


def test_table_6_on_mnist_has_the_steps_and_the_bound_of_the_paper(plans):
    plan = plans("table6-mnist")[0]
    assert plan.spec.eps["linf"] == (0.4,)
    bim = one(plan.spec.attacks, "bim-b")
    assert (bim.steps, bim.step) == (50, 0.01)


@pytest.mark.parametrize(
    ("name", "secret", "eps"), [("mnist", (10, 0.03), 0.4), ("cifar10", (30, 0.003), 0.05)]
)
def test_table_11_is_fgsm_made_on_one_undefended_replica(name, secret, eps, plans):
    plan = plans(f"table11-{name}")[0]
    assert fingerprints(plan) == secret
    assert [attack.name for attack in plan.spec.attacks] == ["fgsm"]
    assert plan.spec.eps["linf"] == (eps,)
    (threat,) = plan.spec.threat_models
    assert (threat.name, threat.recipe.replicas) == ("blackbox", 1)


def test_table_13_has_all_rows(plans):
    rows = set()
    for plan in plans("table13-cifar10"):
        assert fingerprints(plan) == (30, 0.003)
        assert plan.spec.limit == 112
        for cell in plan.cells:
            pgd = cell.attack.recipe
            step = round(pgd.step * cell.eps, 9)
            assert pgd.schedule == "constant"
            rows.add((pgd.norm, round(cell.eps, 6), pgd.restarts, pgd.steps, step))
    assert rows >= {
        ("linf", 0.062745, 1, 1000, 0.005),
        ("linf", 0.062745, 50, 50, 0.005),
        ("linf", 0.25, 1, 1000, 0.005),
        ("linf", 1.0, 5, 150, 0.005),
        ("l2", 10.0, 5, 100, 0.5),
        ("l2", 60.0, 5, 150, 0.5),
    }
    assert TRIALS == 6  # the column of bisections


def test_table_14_has_all_rows(plans):
    rows = []
    for plan in plans("table14-cifar10"):
        cw = one(plan.spec.attacks, "cw-fp")
        count, eps = fingerprints(plan)
        assert eps == 0.003
        rows.append(
            (count, cw.steps, cw.binary_search_steps, cw.gamma2_steps, plan.spec.limit, cw.target)
        )
    assert rows == [
        (30, 20_000, 20, 10, 112, "random"),
        (30, 15_000, 15, 9, 64, "random"),
        (50, 20_000, 20, 10, 64, "random"),
    ]


def test_table_15_has_all_rows(plans):
    rows = set()
    for plan in plans("table15-cifar10"):
        spsa = one(plan.spec.attacks, "spsa")
        assert fingerprints(plan) == (30, 0.003)
        assert plan.spec.limit == 112
        rows |= {(spsa.steps, eps, spsa.learning_rate, spsa.delta) for eps in plan.spec.eps["linf"]}
    assert rows == {(1000, 0.05, 0.01, 0.01), (1000, 0.05, 0.005, 0.005), (1000, 0.25, 0.01, 0.01)}
