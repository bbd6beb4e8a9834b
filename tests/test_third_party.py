"""A stranger's package, built and installed beside nfbench, takes part without a change to nfbench."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "third_party"
SOURCES = ("nfbench", "plugins", "pyproject.toml", "README.md", "LICENSE")


def run(*command, cwd, rc=0, path=None):
    """Run without the network and without what this environment says to Python; the process.

    `path` is where Python looks for further modules and distributions.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NFBENCH_", "PIP_"))}
    clean.update({"PYTHONPATH": str(path)} if path else {})
    offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **offline, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == rc, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def wheel(source, out):
    """Build the wheel of a source tree that nothing else is looking at."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    return max(out.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `bin` of a fresh environment that has nfbench and the example from wheels.

    What nfbench depends on comes from the environment of the tests, by a path file; what that one
    has of nfbench itself is hidden behind the fresh installation.
    """
    place = tmp_path_factory.mktemp("fresh")
    sources, wheels = place / "nfbench", place / "wheels"
    sources.mkdir()
    wheels.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in SOURCES:
        origin = ROOT / name
        copy = shutil.copytree if origin.is_dir() else shutil.copy2
        copy(origin, sources / name, **({"ignore": ignore} if origin.is_dir() else {}))
    shutil.copytree(EXAMPLE, place / "example", ignore=ignore)
    found = [wheel(sources, wheels), wheel(place / "example", wheels)]
    venv.create(place / "venv", with_pip=False, symlinks=True)
    binaries = place / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--python", binaries / "python", "install", "--no-deps")
    run(*pip, "--no-compile", *found, cwd=place)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    # No site.addsitedir: the path files of the other environment, editable installs among them, must
    # not be read.
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return binaries


@pytest.fixture(scope="module")
def matrix(installed, tmp_path_factory):
    """A small matrix of bundled and strange plugins, run once: the process and the run directory."""
    place = tmp_path_factory.mktemp("matrix")
    command = [installed / "nfbench", "run", "--cache-dir", "cache", "--out", "out", "--limit", "40"]
    command += ["-d", "example-energy,neuralfp", "-a", "example-mi-fgsm,fgsm"]
    command += ["-t", "example-score-queries,partial-whitebox,adaptive-whitebox"]
    command += ["--set", "training.epochs=3", "--set", "example-mi-fgsm.steps=3"]
    return run(*command, cwd=place), place / "out"


def test_the_fresh_environment_runs_its_own_nfbench(installed, tmp_path):
    where = run(
        installed / "python",
        "-c",
        "import nfbench, nfbench_attacks, nfbench_example as e; "
        "print(nfbench.__file__, nfbench_attacks.__file__, e.__file__)",
        cwd=tmp_path,
    ).stdout.split()
    assert all(Path(path).is_relative_to(installed.parent) for path in where), where


def test_the_example_is_listed_with_its_owner(installed, tmp_path):
    listed = json.loads(run(installed / "nfbench", "list", "--json", cwd=tmp_path).stdout)
    strange = {(p["kind"], p["name"]) for p in listed if p["plugin"] == "nfbench-example"}
    assert strange == {
        ("defense", "example-energy"),
        ("attack", "example-mi-fgsm"),
        ("threat-model", "example-score-queries"),
    }
    names = [(p["kind"], p["name"]) for p in listed]
    assert len(set(names)) == len(names) > 20


def test_every_pair_of_bundled_and_strange_plugins_is_measured(matrix):
    _, out = matrix
    cells = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(cells) == 2 * 2 * 3
    done = [c for c in cells if c["threat_model"]["name"] != "example-score-queries"]
    assert [c["status"] for c in done] == ["done"] * 8
    assert all(c["metrics"]["success_rate"]["value"] > 0.5 for c in done)
    energy = next(c for c in done if c["defense"]["name"] == "example-energy")
    assert energy["defense"]["plugin"] == "nfbench-example"
    assert energy["defense"]["params"]["temperature"] == 1.0


def test_gradient_attacks_are_skipped_under_a_strange_threat_model_with_the_reason(matrix):
    process, out = matrix
    cells = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    skipped = [c for c in cells if c["threat_model"]["name"] == "example-score-queries"]
    assert [c["status"] for c in skipped] == ["skipped"] * 4
    assert {c["reason"] for c in skipped} == {"needs gradient access, granted scores"}
    assert process.returncode == 0


def test_the_leaderboard_names_the_strange_plugins(matrix):
    text = (matrix[1] / "leaderboard.md").read_text()
    assert "example-energy" in text
    assert "example-mi-fgsm" in text


def test_a_second_run_does_nothing(matrix, installed):
    process, out = matrix
    command = [installed.joinpath("nfbench"), *map(str, process.args[1:])]
    assert "nothing to do" in run(*command, cwd=out.parent).stderr


def test_the_strange_query_attack_can_be_blocked(installed, tmp_path):
    listed = run(
        installed / "nfbench", "list", "-p", "no:nfbench-example", "--json", cwd=tmp_path
    ).stdout
    assert "example-energy" not in listed
    assert "neuralfp" in listed


@pytest.fixture
def broken(tmp_path):
    """A folder with an installed distribution whose plugin needs a module that is not there."""
    info = tmp_path / "path" / "nfbench_sorry-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nfbench-sorry\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[nfbench]\nsorry = nfbench_sorry\n")
    (info.parent / "nfbench_sorry.py").write_text("import quantum_gpu\n")
    return info.parent


REASON = "plugin 'sorry' of nfbench-sorry 2.0 can't be loaded: ModuleNotFoundError"


def test_a_broken_package_is_a_warning_and_the_rest_works(installed, broken, tmp_path):
    done = run(installed / "nfbench", "list", "--json", cwd=tmp_path, path=broken)
    assert REASON in done.stderr
    assert "example-energy" in done.stdout


@pytest.mark.parametrize("command", ["show", "check-plugin"])
def test_asking_for_a_broken_package_by_name_exits_with_3(installed, broken, tmp_path, command):
    done = run(installed / "nfbench", command, "sorry", cwd=tmp_path, path=broken, rc=3)
    assert REASON in done.stderr


def test_the_doctor_names_a_broken_package_and_exits_with_3(installed, broken, tmp_path):
    command = (installed / "nfbench", "doctor", "--cache-dir", "cache")
    said = run(*command, cwd=tmp_path, path=broken, rc=3).stdout
    assert f"BROKEN plugin sorry: {REASON}" in said
    assert "example-energy" in said
    assert "digits: ready" in said
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["example-energy", "example-mi-fgsm", "example-score-queries"])
def test_check_plugin_approves_of_the_example(installed, tmp_path, name):
    said = run(installed / "nfbench", "check-plugin", name, cwd=tmp_path).stdout
    assert f"{name} keeps its contract" in said
    assert "failed" not in said


def test_the_examples_own_tests_pass(installed, tmp_path):
    shutil.copy(EXAMPLE / "test_nfbench_example.py", tmp_path)
    said = run(
        installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path, cwd=tmp_path
    )
    assert "4 passed" in said.stdout


def test_the_example_is_one_module_of_under_100_lines():
    (module,) = [path for path in EXAMPLE.glob("*.py") if not path.name.startswith("test_")]
    assert len(module.read_text().splitlines()) < 100
