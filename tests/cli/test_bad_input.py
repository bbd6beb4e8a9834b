"""Bad input: one clear line on standard error, the right exit code, no work done."""

import pytest

from nfbench.core import registry as registry_module
from nfbench.core.errors import DataMissing
from nfbench.runner.literals import parse_settings

RUN = ["run", "-d", "max-softmax", "-a", "fgsm"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run"], "no defense was named; use --defense with one or more of: "),
        (["run", "-d", "neuralfq"], "no defense is called 'neuralfq'; did you mean 'neuralfp'?"),
        (["run", "-d", "all", "-a", "fgms"], "no attack is called 'fgms'; did you mean 'fgsm'"),
        (["run", "-d", "all", "-a", "x*"], "no attack matches 'x*'"),
        (["run", "-d", "all", "-a", "fgsm,!fgsm"], "no attack is left of fgsm, !fgsm"),
        ([*RUN, "-t", "whitebox"], "no threat-model is called 'whitebox'; did you mean"),
        ([*RUN, "--dataset", "digit"], "no dataset is called 'digit'; did you mean 'digits'?"),
        ([*RUN, "--model", "digits-mpl"], "no model is called 'digits-mpl'; did you mean 'digits-mlp'?"),
        ([*RUN, "--model", "mnist-table8"], "mnist-table8 can't take images of shape (1, 8, 8)"),
        (
            ["run", "-d", "neuralfp", "-a", "fgsm", "--set", "neuralfp.fingerprint=3"],
            "did you mean 'fingerprints'?",
        ),
        (
            ["run", "-d", "neuralfp", "-a", "fgsm", "--set", "neuralfp.alpha=-1"],
            "neuralfp.alpha = -1: input",
        ),
        (
            [*RUN, "--set", "fingerprints=3"],
            "--set fingerprints=3: expected plugin.hyperparameter=value",
        ),
        ([*RUN, "--set", "nonsense.x=3"], "--set: nothing is called 'nonsense'"),
        (
            [*RUN, "--set", "fgsm.a=1, pgd.b=x"],
            "--set takes one setting each: --set fgsm.a=1 --set pgd.b=x",
        ),
        (["list", "-p", "no:fgms"], "-p no:fgms: nothing is called 'fgms'; did you mean 'fgsm'"),
        (["list", "-p", "no:"], "-p no:: nothing is called ''"),
        ([*RUN, "--set", "pgd.steps=3"], "--set pgd.… has no effect: pgd is not part of this run"),
        ([*RUN, "--eps", "-0.1"], "--eps -0.1: a radius must be positive, in pixel units of [0, 1]"),
        ([*RUN, "--eps", "8/0"], "--eps 8/0: expected a number such as 0.1 or 8/255"),
        ([*RUN, "--eps", "abc"], "--eps abc: expected a number"),
        ([*RUN, "--eps", "l7=1"], "--eps l7=1: unknown norm 'l7'; use linf, l2, l1 or l0"),
        ([*RUN, "--limit", "0"], "--limit must be at least 1, got 0"),
        ([*RUN, "--limit", "few"], "'--limit'"),
        ([*RUN, "--seed", "x"], "--seed x: expected integers"),
        ([*RUN, "--seed", "-1"], "--seed -1: seeds must not be negative"),
        ([*RUN, "--device", "tpu"], "--device tpu: expected auto, cpu, cuda or cuda:N"),
        ([*RUN, "--device", "cuda:9"], "--device cuda:9: "),
        ([*RUN, "--out", "file/run"], "can't write to --out file/run: Not a directory"),
        ([*RUN, "--cache-dir", "file/cache"], "can't write to the cache file/cache (Not a directory)"),
        ([*RUN, "--weights", "w.safetensors"], "--weights goes with --model package.module:factory"),
        ([*RUN, "-p", "random"], "-p random: expected no:NAME"),
        ([*RUN, "--config", "missing.toml"], "can't read --config missing.toml: No such file"),
        ([*RUN, "--nonsense"], "No such option: --nonsense"),
        ([*RUN, "--limit"], "requires an argument"),
        (["rnu"], "No such command 'rnu'"),
        (["list", "gadgets"], "no kind of plugin is called 'gadgets'"),
        (["show", "neuralfq"], "no plugin is called 'neuralfq'; did you mean 'neuralfp'?"),
        (["show"], "Missing argument"),
        (["report", "nowhere"], "nowhere is no run directory: it has no results.jsonl"),
        (
            ["report", "nowhere", "--statistic", "auroc_wurst"],
            "unknown statistic 'auroc_wurst'; did you mean",
        ),
        (["plan", "-d", "neuralfq"], "no defense is called 'neuralfq'"),
        (["verify", "r", "--break", "x"], "--break and --row go together"),
        (
            ["verify", "r", "--break", "x", "--row", "c", "--rerun", ".5"],
            "--rerun does not go with --break",
        ),
        (
            ["verify", "r", "--break", "x", "--row", "c", "--seed", "1"],
            "--seed does not go with --break",
        ),
        (["verify", "r", "--seed", "1"], "--seed goes with --rerun"),
    ],
)
def test_a_usage_error_is_one_line(nfbench, elsewhere, arguments, why):
    (elsewhere / "file").touch()
    done = nfbench(*arguments)
    assert done.code == 2
    assert done.complaint.startswith("error: ")
    assert why in done.complaint


def test_commas_within_a_value_are_its_own():
    given = ["a.b=['x', 'c.d=1']", 'a.c="1,c.d=2"', "a.d=1,2", "a.e={f = 1, g.h = 2}"]
    values = {"b": ["x", "c.d=1"], "c": "1,c.d=2", "d": "1,2", "e": {"f": 1, "g": {"h": 2}}}
    assert parse_settings(given) == {"a": values}


@pytest.mark.parametrize("given", ["8/255, l2 = 1", "linf=8/255,l2=1"])
def test_radii_may_be_listed(nfbench, given):
    assert nfbench("plan", *RUN[1:], "--eps", given).code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("defense = ", "--config x.toml is no valid TOML: "),
        ("\xff", "--config x.toml is no valid TOML: "),
        ("defence = 'random'", "unknown key 'defence'; did you mean 'defense' or"),
        ("limit = 'many'", "limit = 'many' should be a whole number"),
        ("limit = true", "limit = True should be a whole number"),
        ("limit = 0", "--limit must be at least 1, got 0"),
        ("dataset = ['digits']", "dataset = ['digits'] should be a string"),
        ("defense = {a = 1}", "defense = {'a': 1} should be a list or a single value"),
        ("set = 3", "set = 3 should be a table"),
        ("[set]\nneuralfp = 3", "set.neuralfp should be a table, such as [set.neuralfp]"),
        ("[set]\n'training.epochs' = 3", "set.training.epochs should be a table"),
        ("[set.training]\nepoch = 3", "training has no hyperparameter 'epoch'; did you mean 'epochs'?"),
        ("[set.nonsense]\nx = 3", "nothing is called 'nonsense'"),
        ("seed = ['x']", "--seed x: expected integers"),
        ("eps = -1", "--eps -1: a radius must be positive"),
    ],
)
def test_a_wrong_file_is_one_line(nfbench, elsewhere, text, why):
    (elsewhere / "x.toml").write_bytes(text.encode("latin-1"))
    done = nfbench(*RUN, "--config", "x.toml")
    assert done.code == 2
    assert why in done.complaint


def test_a_wrong_variable_is_one_line(nfbench, monkeypatch):
    monkeypatch.setenv("NFBENCH_LIMIT", "many")
    done = nfbench(*RUN)
    assert (done.code, "NFBENCH_LIMIT" in done.complaint) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "-d", "nowhere.at_all:Defense", "-a", "fgsm"], "can't load nowhere.at_all:Defense of"),
        (["run", "-d", "math:pi", "-a", "fgsm"], "math:pi of your own code is no Defense"),
        ([*RUN, "--model", "nowhere.at_all:net"], "can't load nowhere.at_all:net: ModuleNotFoundError"),
        (["show", "nowhere.at_all:Attack"], "nowhere"),
    ],
)
def test_a_broken_plugin_that_was_asked_for_has_a_code_of_its_own(nfbench, arguments, why):
    done = nfbench(*arguments)
    assert done.code == 3
    assert why in done.complaint


@pytest.mark.parametrize("flag", ["--model", "-d"])
def test_a_message_of_several_lines_becomes_one(nfbench, elsewhere, monkeypatch, flag):
    monkeypatch.syspath_prepend(elsewhere)
    (elsewhere / "talkative.py").write_text("raise RuntimeError('first line\\nand second')\n")
    done = nfbench("run", "-d", "random", "-a", "fgsm", flag, "talkative:Thing")
    assert done.code == 3
    assert "RuntimeError: first line and second" in done.complaint


def test_a_broken_plugin_that_nobody_asked_for_is_a_warning(nfbench, monkeypatch):
    from importlib.metadata import EntryPoint

    real = registry_module._entry_points()
    broken = EntryPoint("mine", "no_such_module_anywhere", "nfbench")
    monkeypatch.setattr(registry_module, "_entry_points", lambda: [*real, broken])
    listed = nfbench("list")
    assert listed.code == 0
    assert "neuralfp" in listed.out
    (line,) = listed.err.splitlines()
    assert "warning plugin 'mine'" in line
    assert "no_such_module_anywhere" in line
    asked = nfbench("plan", "-d", "mine", "-a", "fgsm")
    assert asked.code == 3
    assert "no_such_module_anywhere" in asked.err


def test_missing_data_has_a_code_of_its_own(nfbench, elsewhere, monkeypatch):
    import urllib.error
    import urllib.request

    def offline(*_args, **_more):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    (elsewhere / "data").mkdir()
    done = nfbench("run", "-d", "random", "-a", "fgsm", "--dataset", "mnist", "--data-dir", "data")
    assert done.code == 4
    line = done.err.splitlines()[-1]
    assert "--data-dir" in line
    assert "download" in line


def test_data_that_goes_missing_stops_the_run_before_any_work(nfbench, registry, tiny, monkeypatch):
    def splits(self, data_dir):
        raise DataMissing("the digits have left")

    monkeypatch.setattr(registry.find("dataset", "digits").load(), "splits", splits)
    done = nfbench("run", *tiny)
    assert (done.code, done.complaint) == (4, "error: the digits have left")


def test_messages_are_printed_as_they_are(nfbench):
    """Square brackets are no markup."""
    done = nfbench("run", "-d", "[red]x[/blue]", "-a", "fgsm")
    assert "'[red]x[/blue]'" in done.complaint
