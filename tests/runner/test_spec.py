"""The spec: what is refused before any work, each in one line that says what would be right."""

import math
from types import SimpleNamespace

import pytest

from nfbench import Training
from nfbench.core.errors import BrokenPlugin, UnknownPlugin, UsageError
from nfbench.core.registry import Registry
from nfbench.runner.literals import parse_eps, parse_settings
from nfbench.runner.options import Options
from nfbench.runner.spec import resolve


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        (["0.1"], {"linf": (0.1,)}),
        (["8/255"], {"linf": (8 / 255,)}),
        (["linf=.5", "l2=1e0", "L0=20"], {"linf": (0.5,), "l2": (1.0,), "l0": (20.0,)}),
        (["l2 = 3/2"], {"l2": (1.5,)}),
        (["l2=inf"], {"l2": (math.inf,)}),
        (["unbounded"], {"linf": (math.inf,)}),
        (["0.2", "l2=1", "linf=8/255", "0.2"], {"linf": (8 / 255, 0.2), "l2": (1.0,)}),
    ],
)
def test_radii_are_numbers_fractions_or_unbounded(values, expected):
    assert parse_eps(values) == expected


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["-0.1"], "--eps -0.1: a radius must be positive"),
        (["0"], "--eps 0: a radius must be positive"),
        (["8/0"], "--eps 8/0: expected a number such as 0.1 or 8/255"),
        (["abc"], "--eps abc: expected a number"),
        (["nan"], "--eps nan: a radius must be positive"),
        (["1e999"], "--eps 1e999: a radius must be positive"),
        (["1e99999999999"], "a radius must be positive"),
        (["1/2/3"], "expected a number"),
        (["l2="], "--eps l2=: expected a number"),
        (["l7=1"], "--eps l7=1: unknown norm 'l7'; use linf, l2, l1 or l0"),
    ],
)
def test_a_wrong_radius_is_refused(values, why):
    with pytest.raises(UsageError, match=why):
        parse_eps(values)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("0.5", 0.5),
        ("8/255", 8 / 255),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("none", "none"),
        ("paper", "paper"),
        ('"12"', "12"),
        ("a=b", "a=b"),
    ],
)
def test_settings_are_toml_fractions_none_or_words(text, value):
    assert parse_settings([f"neuralfp.knob={text}"]) == {"neuralfp": {"knob": value}}


def test_the_later_setting_wins():
    assert parse_settings(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    "text", ["fingerprints=20", "neuralfp.fingerprints", ".x=1", "neuralfp.=1", "=", ""]
)
def test_a_setting_that_names_no_hyperparameter_is_refused(text):
    with pytest.raises(UsageError, match=r"expected plugin\.hyperparameter=value"):
        parse_settings([text])


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        (
            {"defense": ()},
            UsageError,
            "no defense was named; use --defense with one or more of: .*neuralfp",
        ),
        (
            {"defense": ("neuralfq",)},
            UnknownPlugin,
            r"no defense is called 'neuralfq'; did you mean 'neuralfp'\?",
        ),
        ({"attacks": ("fgms",)}, UnknownPlugin, "did you mean 'fgsm'"),
        ({"attacks": ()}, UsageError, "no attack is left of an empty list"),
        ({"threat_model": ("adaptive-white",)}, UnknownPlugin, "did you mean 'adaptive-whitebox'"),
        ({"dataset": "digit"}, UnknownPlugin, "did you mean 'digits'"),
        ({"model": "digits-mpl"}, UnknownPlugin, "did you mean 'digits-mlp'"),
        (
            {"model": "no_such_module_anywhere:f"},
            BrokenPlugin,
            "can't load no_such_module_anywhere:f: Module",
        ),
        ({"model": "math:pi"}, BrokenPlugin, "math:pi is not a function that returns a network"),
        ({"weights": "w.safetensors"}, UsageError, "--weights goes with --model package.module:factory"),
        ({"limit": 0}, UsageError, "--limit must be at least 1, got 0"),
        ({"limit": -3}, UsageError, "--limit must be at least 1, got -3"),
        (
            {"defense": ("max-softmax", "nfbench_defenses.trivial:MaxSoftmax")},
            UsageError,
            "two of the chosen",
        ),
        (
            {"settings": {"max-softmax": {"x": 1}}},
            UsageError,
            r"max-softmax has no hyperparameter 'x' \(it has",
        ),
        ({"settings": {"fgsm": {"stepp": 1}}}, UsageError, "fgsm has no hyperparameter 'stepp'"),
        ({"settings": {"training": {"epoch": 1}}}, UsageError, "did you mean 'epochs'"),
        (
            {"settings": {"training": {"epochs": 0}}},
            UsageError,
            "training.epochs = 0: input should be greater",
        ),
        (
            {"settings": {"training": {"epochs": "many"}}},
            UsageError,
            "training.epochs = 'many': input should",
        ),
        (
            {"settings": {"training": {"learning_rate": math.inf}}},
            UsageError,
            "training.learning_rate = inf",
        ),
        (
            {"settings": {"pgd": {"steps": 3}}},
            UsageError,
            "--set pgd.… has no effect: pgd is not part of",
        ),
        ({"defender": ()}, UsageError, "--defender needs blackbox-defense or whitebox-defense, or all"),
        ({"settings": {"mnist": {}}}, UsageError, "--set mnist.… has no effect"),
        (
            {"settings": {"fgms": {"x": 3}}},
            UsageError,
            "--set: nothing is called 'fgms'; did you mean 'fgsm'",
        ),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(tiny, registry, changes, error, why):
    with pytest.raises(error, match=why) as caught:
        resolve(tiny(**changes), registry)
    assert "\n" not in str(caught.value)


def test_a_radius_that_no_attack_uses_is_told(tiny, registry):
    told = resolve(tiny(attacks=("fgsm", "cw"), eps=("0.1", "l0=20", "l2=1")), registry).warnings
    assert told == ("--eps l0=… has no effect: no attack is measured in l0",)


def test_without_any_plugin_even_the_default_dataset_is_unknown(tiny):
    with pytest.raises(UnknownPlugin, match="no dataset is called 'digits'"):
        resolve(tiny(), Registry.load(entry_points=False))


def test_the_datasets_defaults_lie_under_the_users_settings(registry):
    options = Options(defense=("neuralfp",), attacks=("bim-b",), settings={"neuralfp": {"eps": 0.2}})
    spec = resolve(options, registry)
    declared = spec.facts.defaults
    assert spec.defenses[0].recipe.eps == 0.2
    assert spec.defenses[0].recipe.fingerprints == declared.plugins["neuralfp"]["fingerprints"]
    assert spec.attacks[0].recipe.step == declared.plugins["bim-b"]["step"]
    assert (spec.limit, spec.seeds, spec.eps["linf"]) == (declared.limit, (0,), (declared.eps["linf"],))


def test_an_attack_that_minimises_is_unbounded_unless_told_otherwise(registry):
    free = resolve(Options(defense=("random",), attacks=("cw",)), registry)
    bound = resolve(Options(defense=("random",), attacks=("cw",), eps=("l2=2",)), registry)
    assert free.ladder(free.attacks[0].recipe) == (math.inf,)
    assert bound.ladder(bound.attacks[0].recipe) == (2,)


def test_supervised_detectors_learn_at_one_radius_whatever_the_ladder(registry):
    def learnt_at(*eps):
        spec = resolve(Options(defense=("lid",), attacks=("fgsm",), eps=eps), registry)
        return spec.teaching_eps(spec.attacks[0].recipe)

    assert learnt_at() == learnt_at("0.1", "0.2") == 0.25
    assert learnt_at("0.1") == 0.1


def test_seeds_are_counted_once(tiny, registry):
    assert resolve(tiny(seed=(1, 0, 1)), registry).seeds == (1, 0)


def test_settings_of_the_reference_threat_model_need_not_be_chosen(tiny, registry):
    options = tiny(threat_model=("adaptive-whitebox",), settings={"partial-whitebox": {}})
    assert [t.name for t in resolve(options, registry).threat_models] == ["adaptive-whitebox"]


def test_given_plugins_are_chosen_like_installed_ones(tiny):
    from nfbench_defenses.trivial import MaxSoftmax

    class Other(MaxSoftmax):
        name = "other"
        knob: int = 3

    found = Registry.load(SimpleNamespace(nfbench_defenses=lambda: [Other]))
    spec = resolve(tiny({"other": {"knob": 5}}, defense=("other",)), found)
    assert spec.defenses[0].recipe.knob == 5


@pytest.mark.parametrize("none", [None, "none"])
def test_none_is_a_word_where_a_hyperparameter_may_be_none(registry, none):
    assert registry.find("defense", "kd").load().from_params({"learns_from": none}).learns_from is None
    training = Training.from_params({"augment": "none"})
    assert training.augment == "none"


def test_none_is_no_number(registry):
    with pytest.raises(UsageError, match=r"kd.bandwidth = 'none'"):
        registry.find("defense", "kd").load().from_params({"bandwidth": "none"})
