"""The shape of the code: small typed files, floors that hold, and what the linters say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted([ROOT / "nfbench", *(p.parent for p in (ROOT / "plugins").glob("*/__init__.py"))])
SOURCES = sorted(file for package in PACKAGES for file in package.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def tool(*command):
    """Output of a development tool, which must be content."""
    beside = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(beside), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_package_was_looked_at():
    assert {p.name for p in PACKAGES} >= {
        "nfbench",
        "nfbench_attacks",
        "nfbench_defenses",
        "nfbench_models",
    }
    assert len(SOURCES) > 40


@pytest.mark.parametrize("file", [*SOURCES, *TESTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_longer_than_300_lines(file):
    assert len(file.read_text().splitlines()) <= 300


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_says_that_it_is_typed(package):
    assert (package / "py.typed").is_file()


def test_every_module_says_what_it_is_for():
    assert not [file for file in SOURCES if not file.read_text().startswith('"""')]


def test_nothing_is_pickled():
    """Not a plugin's state nor a user's weights: opening a pickle runs whatever is in it."""
    loaders = ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True", "joblib")
    assert not [file for file in SOURCES for loader in loaders if loader in file.read_text()]


def test_the_floors_of_the_house_hold():
    assert "0 broken" in tool("lint-imports", "--no-cache")


def test_ruff_has_nothing_to_say():
    tool("ruff", "check", "--no-cache", ".")


def test_ruff_would_format_nothing():
    tool("ruff", "format", "--no-cache", "--check", ".")


def test_mypy_has_nothing_to_say():
    tool("mypy", *(str(package.relative_to(ROOT)) for package in PACKAGES))
