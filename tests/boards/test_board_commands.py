"""`nfbench leaderboard`, as it is typed."""

import json
import subprocess
import sys

import pytest
from results import Results
from typer.testing import CliRunner

from nfbench.cli.boards import app
from nfbench.core.errors import UsageError
from nfbench.report.run import write

HEAVY = {"torch", "torchvision", "art", "foolbox", "eagerpy", "sklearn"}


@pytest.fixture
def leaderboard(tmp_path):
    """Call a command with the boards of this test."""

    def call(*arguments):
        home = ["--leaderboards", str(tmp_path / "leaderboards")]
        return CliRunner().invoke(app, [*map(str, arguments), *home])

    return call


def test_what_is_built_passes_the_check(results, declare, leaderboard):
    board = declare(results.run)
    built = leaderboard("build")
    assert built.exit_code == 0
    assert built.stdout.split() == [str(board.output(s)) for s in ("md", "csv", "json", "html")]
    checked = leaderboard("check", "mine")
    assert (checked.exit_code, checked.stdout) == (0, "mine: all files are what the results render to\n")


def test_a_check_of_several_boards_tells_of_each_and_fails_with_5(results, declare, leaderboard):
    for name in ("one", "two", "three"):
        declare(results.run, name)
    leaderboard("build")
    for name in ("one", "three"):
        page = declare(None, name).output("md")
        page.write_text(page.read_text().replace("0.900", "0.999"))
    done = leaderboard("check")
    assert done.exit_code == 5
    assert done.stderr.count("error: ") == 2
    assert done.stdout == "two: all files are what the results render to\n"


def test_results_are_taken_for_one_board_only(results, declare, leaderboard, tmp_path):
    declare()
    write(tmp_path / "run", results.run)
    assert leaderboard("build", "mine", "--from", tmp_path / "run").exit_code == 0
    refused = leaderboard("build", "--from", tmp_path / "run")
    assert isinstance(refused.exception, UsageError)
    assert "name the one board they are for" in str(refused.exception)


def test_a_comparison_shows_the_largest_change_and_exits_with_0(declare, leaderboard, tmp_path):
    declare(Results().full().run)
    write(tmp_path / "run", Results().full(defenses=("lid", "kd"), seeds=(0,)).run)
    shown = leaderboard("diff", tmp_path / "run", "mine")
    assert shown.exit_code == 0
    assert "appeared: lid--pgd--adaptive-whitebox--linf-0.2--seed1" in shown.stdout
    assert "8 appeared, 0 disappeared" in shown.stdout
    found = json.loads(leaderboard("diff", tmp_path / "run", "mine", "--json").stdout)
    assert len(found["appeared"]) == 8
    assert found["same"] + len(found["moved"]) == 8


def test_boards_are_rendered_without_torch(results, declare):
    board = declare(results.run)
    probe = (
        "import sys; from nfbench.cli.boards import app; "
        f"app({['build', str(board.path)]!r}, standalone_mode=False); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not set(done.stdout.splitlines()[-1].split()) & HEAVY
