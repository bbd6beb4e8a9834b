"""What newcomers read is true: commands run, code runs, names exist, links lead somewhere."""

import importlib
import inspect
import json
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nfbench
from nfbench.cli import app
from nfbench.cli.options import read_config
from nfbench.core import hookspecs
from nfbench.core.offers import KINDS
from nfbench.records import CellRecord
from nfbench.report.leaderboard import STATISTICS
from nfbench.runner.options import Options
from nfbench.runner.spec import resolve

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("leaderboards/*.md")])
RUNNABLE = [page for page in PAGES if re.search(r"^```(python|sh)", page.read_text(), re.MULTILINE)]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAPER = re.compile(r"https://(arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\d{4,}/\S+)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `mark` is what follows the language."""

    language: str
    mark: str
    text: str

    @property
    def file(self) -> str:
        return self.mark.removeprefix("file=") if self.mark.startswith("file=") else ""


def blocks(page: Path) -> list[Block]:
    return [Block(m[1], m[2].strip(), m[3]) for m in FENCE.finditer(page.read_text())]


def section(page: Path, heading: str) -> str:
    return page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def doc_text() -> str:
    return "\n".join(page.read_text() for page in ROOT.glob("docs/*.md"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, with a cache of its own, that later tests know nothing of."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("NFBENCH_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("examples", "leaderboards"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def install(pyproject: str, where: Path) -> None:
    """What an installer would leave of a project whose modules lie in `where`."""
    project = tomllib.loads(pyproject)["project"]
    info = where / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    version = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{version}")
    points = [f"{name} = {value}" for name, value in project["entry-points"]["nfbench"].items()]
    (info / "entry_points.txt").write_text("[nfbench]\n" + "\n".join(points) + "\n")
    importlib.invalidate_caches()


def run_command(line: str, *, execute: bool) -> None:
    program, *arguments = shlex.split(line)
    assert program == "nfbench", f"not a command of this project: {line}"
    if arguments[0] in ("run", "sweep", "reproduce") and not execute and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    if arguments[0] == "run" and execute:
        arguments += ["--limit", "40", "--quiet", "--set", "training.epochs=2"]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, f"{line}\n{outcome.output}\n{outcome.exception!r}"


PLACEHOLDER = re.compile(r"package\.module|\bfile\.npz|\bf\.safetensors")
"""Names that stand for the reader's own."""


def commands(block: Block) -> list[str]:
    """What a block tells the reader to type, as far as it can be typed as it stands."""
    lines = block.text.splitlines() if block.language == "sh" else []
    return [line for line in lines if line.startswith("nfbench ") and not PLACEHOLDER.search(line)]


def write_files(found: list[Block], where: Path) -> None:
    for block in found:
        if block.file:
            (where / block.file).write_text(block.text)
        if block.file == "pyproject.toml":
            install(block.text, where)


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_and_commands_of_a_page_run(page, elsewhere):
    found = blocks(page)
    write_files(found, elsewhere)
    for number, block in enumerate(found):
        if block.language == "python" and not block.file:
            exec(compile(block.text, f"{page.name}, block {number}", "exec"), {"__name__": "page"})
        for line in commands(block):
            run_command(line, execute=block.mark == "execute")


def test_the_quickstart_example_prints_its_table(capsys):
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    said = capsys.readouterr().out
    for attack, threat in product(("fgsm", "pgd"), ("partial-whitebox", "adaptive-whitebox")):
        assert re.search(rf"\| {attack} +\| {threat} +\| [01]\.\d+ +\|", said)


def test_the_example_of_an_own_model_trains_and_is_taken_as_it_is(elsewhere, monkeypatch):
    script = ROOT / "examples" / "own_model.py"
    monkeypatch.setattr(sys, "argv", [str(script), "own.safetensors"])
    runpy.run_path(str(script), run_name="__main__")
    command = "nfbench run --defense max-softmax --attacks fgsm --model examples.own_model:make"
    run_command(f"{command} --weights own.safetensors --out run", execute=True)
    cells = [json.loads(line) for line in Path("run/results.jsonl").read_text().splitlines()]
    assert [cell["status"] for cell in cells] == ["done", "done"]
    assert cells[0]["metrics"]["clean_accuracy"]["value"] > 0.9


def test_every_public_name_and_hook_is_documented():
    text = doc_text()
    missing = [name for name in nfbench.__all__ if f"`{name}" not in text]
    assert not missing
    hooks = {n: h for n, h in vars(hookspecs).items() if n.startswith("nfbench_")}
    assert len(hooks) == 7
    for name, hook in hooks.items():
        arguments = ", ".join(inspect.signature(hook).parameters)
        assert f"`{name}({arguments})`" in text, name


def test_every_bundled_plugin_and_objective_is_named(registry):
    text = doc_text() + README.read_text() + (ROOT / "CHANGELOG.md").read_text()
    named = ("defense", "attack", "threat-model", "dataset")
    names = [name for kind in named for name in registry.names(kind)]
    assert not [name for name in (*names, *nfbench.OBJECTIVES) if f"`{name}`" not in text]


def test_the_command_line_page_is_what_the_generator_writes():
    generated = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert (ROOT / "docs" / "command-line.md").read_text() == generated


def test_the_readme_sets_up_with_exactly_two_commands():
    shell = [b for b in FENCE.findall(section(README, "Two commands")) if b[0] == "sh"]
    assert [len(text.strip().splitlines()) for _, _, text in shell] == [1, 1]
    run, check = (text.strip() for _, _, text in shell)
    assert run == (
        "python3 -m venv .venv && .venv/bin/pip install . && "
        ".venv/bin/nfbench run --defense neuralfp --attacks all"
    )
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert check == script[-1]


def test_the_readme_shows_every_bundled_attack_and_no_other(registry):
    table = section(README, "What comes out")
    shown = re.findall(r"^│ ([\w-]+) \(", table, re.MULTILINE)
    bundled = [o.name for o in registry.offers["attack"].values() if o.distribution == "nfbench"]
    assert sorted(shown) == sorted(bundled)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings]
            assert anchor in anchors, f"{page.name} links to {target}"


def test_every_document_is_linked_from_the_readme():
    text = README.read_text()
    assert not [p.name for p in ROOT.glob("docs/*.md") if f"docs/{p.name}" not in text]


def test_every_key_of_a_result_is_explained(elsewhere):
    line = "nfbench run --defense random --attacks fgsm --threat-model partial-whitebox --out run"
    run_command(line, execute=True)
    (cell,) = [json.loads(text) for text in Path("run/results.jsonl").read_text().splitlines()]
    from safetensors.numpy import load_file

    (sample,) = Path("run/samples").iterdir()
    text = doc_text()
    names = [*CellRecord.model_fields, *cell["counts"], *load_file(sample)]
    general = [re.sub(r"_at_(1|5|10|50)(?=_|$)", "_at_P", metric) for metric in cell["metrics"]]
    names += [re.sub(r"_1_in_\d+$", "_1_in_B", metric) for metric in general]
    assert not [name for name in (*names, *STATISTICS) if f"`{name}`" not in text]
    files = section(ROOT / "docs" / "results.md", "The run directory")
    assert not [path.name for path in Path("run").iterdir() if path.name not in files]


def test_every_exit_code_is_explained():
    explained = {
        int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "docs/results.md").read_text(), re.M)
    }
    errors = [e for e in vars(nfbench.core.errors).values() if isinstance(e, type)]
    assert explained == {0, 130} | {e.exit_code for e in errors if issubclass(e, nfbench.NFBenchError)}


def test_papers_are_addresses_that_last(registry):
    for kind in KINDS:
        for offer in registry.offers[kind].values():
            if offer.distribution != "nfbench":
                continue
            paper = offer.load().paper
            lasting = PAPER.fullmatch(paper) or (kind == "dataset" and paper.startswith("https://"))
            assert not paper or lasting, f"{offer.name}: {paper}"


def test_the_digits_leaderboard_compares_every_bundled_defense(registry):
    file = read_config(ROOT / "leaderboards" / "digits.toml")
    keys = ("defense", "attacks", "dataset", "model", "eps", "limit")
    options = Options(
        **{key: file[key] for key in keys},
        threat_model=file["threat-model"],
        seed=file["seed"],
        settings=file["set"],
    )
    board = resolve(options, registry)
    bundled = [o.name for o in registry.offers["defense"].values() if o.distribution == "nfbench"]
    assert sorted(r.name for r in board.defenses) == sorted(bundled)
    papers = {"fgsm", "bim-a", "bim-b", "cw", "cw-fp", "jsma", "spsa"}
    by_queries = {"square", "hopskipjump-linf"}
    assert {r.name for r in board.attacks} == papers | by_queries | {"detector-breaker"}
    assert sorted(r.name for r in board.threat_models) == sorted(registry.names("threat-model"))
    assert len(board.eps["linf"]) == 4
    assert len(board.seeds) == 5


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nfbench.__version__ == project["version"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
