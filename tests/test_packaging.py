"""What is built holds everything, depends on what it imports, and names no host."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {
    "nfbench": ROOT / "nfbench",
    **{path.name: path for path in sorted((ROOT / "plugins").glob("nfbench_*"))},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source distribution."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def source(built):
    """Names in the source distribution, from its top directory on."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_there_are_seven_packages():
    assert len(PACKAGES) == 7


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    expected = {
        f"{package}/{file.relative_to(path).as_posix()}"
        for package, path in PACKAGES.items()
        for file in path.rglob("*")
        if file.suffix in {".py", ".css", ".js", ".toml"} or file.name == "py.typed"
    }
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= found


def test_the_wheel_carries_license_and_entry_points(wheel):
    names = wheel.namelist()
    assert any(re.search(r"\.dist-info/licenses/LICENSE$", name) for name in names)
    (points,) = [name for name in names if name.endswith("entry_points.txt")]
    text = wheel.read(points).decode()
    assert "nfbench = nfbench.cli:main" in text
    group = text.split("[nfbench]")[1].split("[")[0]
    offered = {line.split("=")[1].strip() for line in group.strip().splitlines()}
    assert offered == set(PACKAGES) - {"nfbench"}


def test_the_source_distribution_holds_what_a_clone_holds(source):
    tracked = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "LICENSE",
        "constraints.txt",
    ]
    tracked += [
        "pyproject.toml",
        "docs/concepts.md",
        "leaderboards/digits.toml",
        "examples/quickstart.py",
    ]
    modules = [p.relative_to(ROOT).as_posix() for path in PACKAGES.values() for p in path.rglob("*.py")]
    tests = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py")]
    assert not [name for name in (*tracked, *modules, *tests) if name not in source]


def test_every_third_party_import_is_a_declared_dependency():
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *(one for name in extras if name != "dev" for one in extras[name]),
    ]
    declared = {_canonical(requirement) for requirement in wanted}
    distributions = importlib.metadata.packages_distributions()
    for name, files in _imports().items():
        if name in sys.stdlib_module_names or name in PACKAGES:
            continue
        owners = {_canonical(owner) for owner in distributions.get(name, [name])}
        assert owners & declared, f"{files[0]} imports {name} of {owners}"


def test_constraints_pin_every_dependency_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    pinned = {_canonical(line) for line in lines}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {_canonical(requirement) for requirement in wanted} <= pinned


def test_constraints_allow_what_the_project_requires():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().split()
    pins = {_canonical(line): line.split("==")[1] for line in lines}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pins[_canonical(requirement.name)]), requirement


def test_nothing_that_work_leaves_behind_is_tracked():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone")
    left = [
        "runs/digits/results.jsonl",
        "data/MNIST/raw/x",
        ".venv/bin/python",
        "build/lib",
        "dist/x.whl",
    ]
    left += ["nfbench/__pycache__/x.pyc", "nfbench.egg-info/x"]
    left += [f".{tool}_cache/x" for tool in ("mypy", "ruff", "pytest")]
    command = [git, "-C", str(ROOT), "check-ignore", "--no-index", *left]
    ignored = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    assert ignored == left


def _canonical(requirement: str) -> str:
    """The name of a distribution, without versions, as all tools write it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def _imports() -> dict[str, list[Path]]:
    """Top-level names imported absolutely anywhere in the packages, and where."""
    found: dict[str, list[Path]] = {}
    for path in (p for package in PACKAGES.values() for p in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], []).append(path)
    return found
