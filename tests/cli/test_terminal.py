"""What is printed comes out as it is and whole: no markup, no emoji, any encoding, any width."""

import io
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from rich.console import Console

from nfbench import __version__
from nfbench.cli import main
from nfbench.cli.main import command_line
from nfbench.cli.progress import Display
from nfbench.core import registry as registry_module
from nfbench.store import Job

ODD = ":smile: [bold]x[/bold] [/nothing]…"
MODULE = f'''
"""A plugin whose every word looks like markup."""
from nfbench import Defense, Detector, Entry

def nfbench_defenses():
    return [Entry("odd", "odd:Odd", "{ODD}"), Entry("gone-[bold]", "odd:Gone")]

class Odd(Defense):
    """Doc {ODD}."""

    name = "odd [red]man:smile:"
    paper = "http://:smile:"
    knob: str = ":smile:"
    """Meaning {ODD}."""

    def fit(self, classifier, data):
        return {{}}

    def detector(self, classifier, state):
        return Dark(classifier)

class Dark(Detector):
    def score(self, x):
        return x.mean((1, 2, 3))
'''


@pytest.fixture
def odd(elsewhere, monkeypatch):
    """A plugin in the working directory, registered as an installed one would be."""
    (elsewhere / "odd.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(elsewhere)
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    points = [*registry_module._entry_points(), EntryPoint("odd", "odd", "nfbench")]
    monkeypatch.setattr(registry_module, "_entry_points", lambda: points)
    yield
    sys.modules.pop("odd", None)


@pytest.mark.usefixtures("odd")
def test_a_summary_is_listed_as_it_is(nfbench):
    out = nfbench("list").out
    assert ODD in out
    assert "gone-[bold]" in out


@pytest.mark.usefixtures("odd")
def test_a_plugin_is_shown_in_its_own_words(nfbench):
    out = nfbench("show", "odd:Odd").out
    assert "odd [red]man:smile: (defense, " in out
    assert f"Doc {ODD}." in out
    assert f"Meaning {ODD}." in out
    assert "http://:smile:" in out
    assert out.count(":smile:") == 5


@pytest.mark.usefixtures("odd")
def test_the_table_of_a_run_names_defenses_as_they_are(nfbench, tiny):
    tiny[1] = "odd:Odd"
    planned = nfbench("plan", *tiny, "--eps", "inf")
    assert "skipped odd [red]man:smile:--fgsm" in planned.out
    done = nfbench("run", *tiny)
    assert done.code == 0
    assert "odd [red]man:smile:: clean accuracy" in done.out


@pytest.mark.usefixtures("odd")
def test_settings_of_a_plan_are_shown_as_they_are(nfbench, tiny):
    tiny[1] = "odd:Odd"
    out = nfbench("plan", *tiny, "--set", "odd [red]man:smile:.knob=[b]:cat:").out
    assert "odd [red]man:smile:.knob  [b]:cat:\n" in out


def test_an_error_is_printed_as_it_is(nfbench):
    assert "':smile:[b]'" in nfbench("run", "-d", ":smile:[b]", "-a", "fgsm").complaint


def test_a_reason_is_printed_as_it_is():
    console = Console(file=io.StringIO(), soft_wrap=True)  # with rich's own settings
    display = Display(console)
    job = Job("train", {}, (), "[bold]label:cat:", 1.0)
    display.failed(job, ":smile: [red]why")
    display.warned(":smile: [red]beware")
    display.finished(job, 0.0)
    said = console.file.getvalue()
    assert (
        said == "failed :smile: [red]why\nwarning :smile: [red]beware\n[1/1] [bold]label:cat: (0.0 s)\n"
    )


def test_the_live_display_names_jobs_as_they_are():
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Display(console) as display:
        display.total(1.0, 1)
        display.started(Job("train", {}, (), "[bold]label[/bold]:cat:", 1.0))
    assert "[bold]label[/bold]:cat:" in console.file.getvalue()


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", "odd:Odd"),
        ("plan", "-d", "random", "-a", "fgsm", "--eps", "inf"),
        ("run", "-d", "random", "-a", "fgsm", "--eps", "inf"),
        ("run", "-d", "…", "-a", "fgsm"),
    ],
)
def test_a_stream_that_lacks_a_character_gets_another(arguments, encoding, monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "argv", ["nfbench", *arguments])
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit):
        main()
    for stream in streams:
        stream.flush()
    assert b"?" in b"".join(stream.buffer.getvalue() for stream in streams)


def test_a_process_without_utf_8_ends_well():
    command = [sys.executable, "-m", "nfbench", "plan", "-d", "random", "-a", "fgsm", "--eps", "inf"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"give --eps linf=?" in done.stdout


@pytest.mark.parametrize("width", ["200", "60", "40", "20"])
def test_no_name_is_cut_however_narrow_the_terminal(nfbench, registry, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    out = nfbench("list").out
    words = set(out.replace("│", " ").split())
    assert {name for offers in registry.offers.values() for name in offers} <= words
    assert set(registry.offers) <= words
    assert "…" not in out
    shown = nfbench("show", "cw").out
    assert set(registry.find("attack", "cw").load().model_fields) <= set(shown.replace("│", " ").split())
    planned = nfbench("plan", "-d", "neuralfp", "-a", "cw").out
    assert "cw.binary_search_steps  5\n" in planned
    assert "train" in planned


def test_text_folds_and_loses_no_letter(nfbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = nfbench("list", "datasets").out.splitlines()
    start = lines[0].index("what it is")
    end = lines[0].index("from")
    column = "".join(line[start:end].strip() for line in lines[1:])
    summaries = [row["summary"] for row in json.loads(nfbench("list", "datasets", "--json").out)]
    assert column.replace(" ", "") == "".join(summaries).replace(" ", "")


@pytest.mark.parametrize("width", ["200", "70", "40", "10"])
def test_the_table_of_a_run_cuts_nothing(nfbench, tiny, monkeypatch, width):
    tiny[5] = "partial-whitebox,adaptive-whitebox"
    nfbench("run", *tiny, "--out", "r")
    wide = nfbench("report", "r").out
    monkeypatch.setenv("COLUMNS", width)
    out = nfbench("report", "r").out
    for word in ("fgsm (linf ≤ 0.25)", "partial-whitebox", "adaptive-whitebox", "no defense"):
        assert word in out
    numbers = {w for w in wide.replace("│", " ").split() if w.startswith(("0.", "1."))}
    assert numbers
    assert numbers <= set(out.replace("│", " ").split())
    assert "…" not in out
    assert "max-softmax: clean accuracy" in out


def test_the_version_is_said(nfbench):
    done = nfbench("--version")
    assert (done.code, done.out, done.err) == (0, f"nfbench {__version__}\n", "")


def test_a_module_that_is_run_is_the_same_command(monkeypatch):
    command = [sys.executable, "-m", "nfbench", "plan", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: nfbench plan [OPTIONS]")
    monkeypatch.setattr(sys, "argv", ["/site-packages/nfbench/__main__.py", "run", "-d", "a b"])
    assert command_line() == "nfbench run -d 'a b'"


def test_show_tells_what_a_run_on_a_dataset_uses(nfbench, registry):
    defaults = registry.find("dataset", "digits").load().defaults
    (shown,) = json.loads(nfbench("show", "digits", "--json").out)
    assert shown["defaults"] == {
        "model": defaults.model,
        "training": defaults.training.model_dump(),
        "eps": dict(defaults.eps),
        "limit": defaults.limit,
        "train_limit": defaults.train_limit,
        "hyperparameters": {plugin: dict(knobs) for plugin, knobs in defaults.plugins.items()},
    }
    lines = [line.split(maxsplit=1) for line in nfbench("show", "digits").out.splitlines()]
    assert ["model", "digits-mlp"] in lines
    assert ["training.epochs", str(defaults.training.epochs)] in lines
    assert ["eps", "linf=0.25, l2=1.5, l1=4, l0=20"] in lines
    assert ["limit", str(defaults.limit)] in lines
    assert ["cw.steps", str(defaults.plugins["cw"]["steps"])] in lines


def test_only_datasets_have_defaults_for_a_run(nfbench):
    (shown,) = json.loads(nfbench("show", "fgsm", "--json").out)
    assert "defaults" not in shown


def test_a_plan_tells_what_it_was_resolved_to(nfbench):
    arguments = ["plan", "-d", "random", "-a", "bim-b,fgsm,pgd", "--eps", "8/255", "--seed", "3,4"]
    arguments += ["--set", "pgd.steps=7", "--set", "training.epochs=2", "--limit", "20"]
    arguments += ["--set", "bim-b.step=0.02"]
    settings = json.loads(nfbench(*arguments, "--json").out)["settings"]
    assert settings["training"].pop("epochs") == 2
    settings.pop("training")
    assert settings == {
        "dataset": "digits",
        "model": "digits-mlp",
        "eps": {"linf": [8 / 255]},
        "limit": 20,
        "train_limit": None,
        "defenders": [],
        "seeds": [3, 4],
        "hyperparameters": {"bim-b": {"step": 0.02}, "pgd": {"steps": 7}},
    }
    out = nfbench(*arguments).out
    lines = [line.split(maxsplit=1) for line in out[: out.index("12 cells")].splitlines()]
    for row in (["dataset", "digits"], ["model", "digits-mlp"], ["training.epochs", "2"]):
        assert row in lines
    for row in (["eps", "linf=0.0313725"], ["limit", "20"], ["seed", "3, 4"], ["pgd.steps", "7"]):
        assert row in lines
    assert "fgsm." not in out


def test_a_hyperparameter_set_to_the_plugins_default_is_not_told(nfbench):
    arguments = ["plan", "-d", "random", "-a", "pgd,cw", "--set", "pgd.steps=100", "--json"]
    settings = json.loads(nfbench(*arguments).out)["settings"]
    assert "pgd" not in settings["hyperparameters"]
    assert settings["eps"] == {"linf": [0.25], "l2": [None]}
