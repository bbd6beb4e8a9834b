"""What `--vary` says: names, values, and the points they make."""

import re

import pytest

from nfbench.core.errors import NFBenchError, UsageError
from nfbench.runner.spec import resolve
from nfbench.sweeping import points, unroll
from nfbench.sweeping.typed import knob, typed


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("fingerprints=5,10,20", "fingerprints", ("5", "10", "20")),
        (" neuralfp.eps = 8/255 , 0.1 ", "neuralfp.eps", ("8/255", "0.1")),
        ("kd.layers=[1],[1, 2],[[3, 4]]", "kd.layers", ("[1]", "[1, 2]", "[[3, 4]]")),
        ("x='a,b',\"c,d\",e", "x", ("'a,b'", '"c,d"', "e")),
        ("x='a=b'", "x", ("'a=b'",)),
    ],
)
def test_values_are_separated_by_commas_outside_of_quotes_and_brackets(text, name, values):
    assert typed([text]) == [(name, values)]


@pytest.mark.parametrize(
    "text", ["fingerprints", "fingerprints=", "fingerprints=1,,2", "=1", "x=1,", "x=,1", "x=[1,2"]
)
def test_what_is_no_name_with_values_is_refused(text):
    with pytest.raises(UsageError, match=re.escape(f"--vary {text}: expected")):
        typed([text])


def test_one_flag_takes_one_hyperparameter():
    with pytest.raises(UsageError, match="repeat the flag"):
        typed(["fingerprints=1,2, size=0.1"])


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("fingerprints", "neuralfp.fingerprints"),
        ("size", "neuralfp.eps"),
        ("neuralfp.size", "neuralfp.eps"),
        ("neuralfp.eps", "neuralfp.eps"),
        ("restarts", "pgd.restarts"),
        ("epochs", "training.epochs"),
        ("training.epochs", "training.epochs"),
        ("loss", "neuralfp.loss"),
    ],
)
def test_a_name_alone_is_the_one_plugin_s_that_has_it(registry, small, name, stands_for):
    spec = resolve(small(attacks=("pgd", "fgsm")), registry)
    assert knob(name, spec).name == stands_for


def test_the_attack_that_a_defense_learns_from_can_be_named(registry, small):
    options = small({"lid": {"learns_from": "bim-a"}}, defense=("lid",), attacks=("fgsm",))
    spec = resolve(options, registry)
    for name in ("steps", "bim-a.steps"):
        assert knob(name, spec).recipe is spec.teachers["bim-a"].recipe


@pytest.mark.parametrize(
    ("vary", "why"),
    [
        ("eps=0.1", "--eps 0.1,0.2; neuralfp's own is --vary size=… or --vary neuralfp.eps=…"),
        (
            "fingerprint=1",
            "no plugin of this run has such a hyperparameter; did you mean 'fingerprints'?",
        ),
        ("siez=1", "did you mean 'size' or 'step'?"),
        ("steps=1", "2 plugins have it; say which: --vary pgd.steps=… or --vary bim-a.steps=…"),
        ("neuralfq.alpha=1", "'neuralfq' is not part of this run; did you mean 'neuralfp'?"),
        ("lid.k=1", "'lid' is not part of this run"),
        ("neuralfp.siez=1", "no hyperparameter 'siez'; did you mean 'size'? (neuralfp has: alpha, "),
        ("seed=1", "--seed is a flag; what varies is a hyperparameter"),
        ("threat-model=blackbox", "--threat-model is a flag"),
        ("fingerprints=5,0", "neuralfp.fingerprints = 0: input should be greater than or equal to 1"),
        ("preset=code,papre", "neuralfp.preset = 'papre': input should be 'code', "),
        ("model.x=1", "'model' is not part of this run"),
        (f"alpha={','.join(map(str, range(1, 1002)))}", "--vary asks for 1001 points, 1000 are allowed"),
    ],
)
def test_a_mistake_is_one_clear_line(registry, small, vary, why):
    with pytest.raises(UsageError) as error:
        points(small(attacks=("pgd", "bim-a")), [vary], registry)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_eps_without_a_defense_that_has_one_names_the_flag(registry, small):
    with pytest.raises(UsageError) as error:
        points(small(defense=("random",)), ["eps=0.1,0.2"], registry)
    assert str(error.value) == "--vary eps: radii of attacks are a ladder already: --eps 0.1,0.2"


def test_a_name_that_several_defenses_have_is_refused_though_a_defense_comes_before_attacks(
    registry, small
):
    with pytest.raises(UsageError, match=r"--vary random\.secret=… or --vary neuralfp\.secret=…"):
        points(small(defense=("random", "neuralfp")), ["secret=1,2"], registry)


def test_nothing_to_vary_is_refused(registry, small):
    with pytest.raises(UsageError, match="nothing varies: give --vary"):
        points(small(), [], registry)


@pytest.mark.parametrize("again", ["fingerprints=5", "neuralfp.fingerprints=5"])
def test_a_hyperparameter_varies_once(registry, small, again):
    with pytest.raises(UsageError, match=r"neuralfp\.fingerprints is there twice"):
        points(small(), ["fingerprints=1,2", again], registry)


def test_points_are_all_combinations_the_last_varying_fastest(registry, small):
    found = points(small(), ["fingerprints=5,10", "size=0.003,8/255"], registry)
    assert [values for values, _ in found] == [
        {"neuralfp.fingerprints": n, "neuralfp.eps": eps} for n in (5, 10) for eps in (0.003, 8 / 255)
    ]
    for values, options in found:
        (defense,) = resolve(options, registry).defenses
        assert defense.recipe.fingerprints == values["neuralfp.fingerprints"]
        assert defense.recipe.eps == values["neuralfp.eps"]


def test_a_point_differs_from_the_run_only_in_what_varies(registry, small):
    base = small({"neuralfp": {"size": 0.5, "alpha": 2.0}}, seed=(3, 4))
    ((values, options),) = points(base, ["size=0.02"], registry)
    assert values == {"neuralfp.eps": 0.02}
    assert options.settings == {
        "training": {"epochs": 1},
        "neuralfp": {"eps": 0.02, "alpha": 2.0},
    }
    assert (options.seed, options.limit, options.attacks) == (base.seed, base.limit, base.attacks)
    assert base.settings["neuralfp"] == {"size": 0.5, "alpha": 2.0}


def test_values_are_what_plugins_make_of_them_and_equal_points_are_one(registry, small):
    found = points(small(), ["fingerprints=5,5.0,05e0", "dy_on=none,-0.7"], registry)
    assert [list(values.values()) for values, _ in found] == [[5, None], [5, -0.7]]
    assert all(type(values["neuralfp.fingerprints"]) is int for values, _ in found)


def test_every_point_is_checked_before_the_first_is_returned(registry, small):
    with pytest.raises(NFBenchError, match=r"neuralfp\.eps = -1"):
        unroll(small(), ["fingerprints=5,10", "size=0.1,-1"], registry)


def test_hyperparameters_of_a_dataset_can_vary(registry, small):
    found = unroll(small(dataset="tinted:Tinted"), ["tint=0.5,0.9"], registry).points
    assert [point.spec.dataset.recipe.tint for point in found] == [0.5, 0.9]
