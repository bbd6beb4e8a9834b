"""Listing is quick: what needs no tensor imports no torch."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "art", "foolbox", "eagerpy", "sklearn", "safetensors", "scipy"}
PROBE = """
import sys
from nfbench import cli
sys.argv = ["nfbench", *{arguments!r}]
try:
    cli.main()
except SystemExit as stop:
    code = stop.code
print("IMPORTED", code, *{{name.partition(".")[0] for name in sys.modules}})
"""


def imported(*arguments):
    command = [sys.executable, "-c", PROBE.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, code, *modules = done.stdout[done.stdout.index("IMPORTED") :].split()
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("list",),
        ("list", "attacks"),
        ("list", "--json"),
        ("report", "--help"),
    ],
)
def test_help_and_listing_import_nothing_heavy(arguments):
    code, modules = imported(*arguments)
    assert code in ("0", "None")
    assert not modules & HEAVY
    assert "nfbench_attacks" in modules or "list" not in arguments


def test_completion_imports_nothing_heavy(monkeypatch):
    monkeypatch.setenv("_NFBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "nfbench ru")
    monkeypatch.setenv("COMP_CWORD", "1")
    script = PROBE.format(arguments=()).replace("cli.main()", "cli.app(prog_name='nfbench')")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    completions, _, modules = done.stdout.partition("IMPORTED")
    assert completions.split() == ["run"]
    assert not set(modules.split()) & HEAVY


def test_the_front_door_imports_torch_only_when_it_is_needed():
    probe = "import sys; from nfbench import Entry, hookimpl; assert 'torch' not in sys.modules; {}"
    for then in ("", "from nfbench import Attack; assert 'torch' in sys.modules"):
        subprocess.run([sys.executable, "-c", probe.format(then)], check=True)


def test_list_shows_every_kind(nfbench, registry):
    rows = json.loads(nfbench("list", "--json").out)
    assert {(r["kind"], r["name"]) for r in rows} == {
        (k, n) for k, o in registry.offers.items() for n in o
    }
    assert all(r["summary"] for r in rows)
    shown = nfbench("list").out
    assert all(row["name"] in shown for row in rows)


@pytest.mark.parametrize("kind", ["attack", "attacks", "threat-models", "Threat_Model"])
def test_list_takes_a_kind_in_singular_or_plural(nfbench, kind):
    rows = json.loads(nfbench("list", kind, "--json").out)
    assert {row["kind"] for row in rows} == {"attack" if kind.startswith("a") else "threat-model"}


def test_plugins_can_be_switched_off(nfbench, monkeypatch):
    names = {
        row["name"] for row in json.loads(nfbench("list", "-p", "no:random,no:attacks", "--json").out)
    }
    assert "neuralfp" in names
    assert not names & {"random", "fgsm"}
    monkeypatch.setenv("NFBENCH_PLUGINS", "no:nfbench")
    assert json.loads(nfbench("list", "--json").out) == []
    monkeypatch.delenv("NFBENCH_PLUGINS")
    monkeypatch.setenv("NFBENCH_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert json.loads(nfbench("list", "--json").out) == []


def test_show_lists_every_hyperparameter_with_its_default(nfbench):
    (shown,) = json.loads(nfbench("show", "bim-b", "--json").out)
    knobs = {k["name"]: k for k in shown["hyperparameters"]}
    assert (knobs["step"]["default"], knobs["steps"]["default"]) == (0.01, 50)
    assert "pixel units" in knobs["step"]["doc"]
    text = nfbench("show", "bim-b").out
    assert all(word in text for word in ("Kurakin", "steps", "0.01", "nfbench"))


def test_types_are_shown_as_people_type_them(nfbench):
    (shown,) = json.loads(nfbench("show", "mahalanobis", "--json").out)
    types = {knob["name"]: knob["type"] for knob in shown["hyperparameters"]}
    assert types["layers"] == "tuple[str, ...] | None"
    assert types["magnitude"] == "float | None"
    (shown,) = json.loads(nfbench("show", "neuralfp", "--json").out)
    types = {knob["name"]: knob["type"] for knob in shown["hyperparameters"]}
    assert types["dx_range"] == "pos | sym | None"


def test_show_takes_an_address(nfbench):
    (shown,) = json.loads(nfbench("show", "nfbench_defenses.trivial:Random", "--json").out)
    assert (shown["kind"], shown["name"]) == ("defense", "random")


def test_without_arguments_help_is_shown(nfbench):
    done = nfbench()
    assert done.code == 2
    assert "run" in done.out + done.err
    assert "error" not in done.err
