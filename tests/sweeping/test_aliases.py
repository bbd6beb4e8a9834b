"""Other names of hyperparameters mean the same thing wherever they are typed."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

from nfbench.cli.options import merge_settings
from nfbench.core.errors import UsageError
from nfbench.core.recipe import Recipe
from nfbench.runner.spec import resolve


class Sieve(Recipe):
    """A recipe whose `mesh` others call `width`."""

    name = "sieve"
    aliases: ClassVar[Mapping[str, str]] = {"width": "mesh"}
    mesh: float | None = 0.5
    depth: int = 1


class Funnel(Sieve):
    """One that has a width of its own."""

    width: float = 2.0


def test_a_recipe_takes_an_alias_and_keeps_the_own_name():
    made = Sieve.from_params({"width": 0.25})
    assert made == Sieve(mesh=0.25)
    assert made.spec() == {"name": "sieve", "version": 1, "mesh": 0.25, "depth": 1}
    assert Sieve.from_params({"width": "none"}).mesh is None


def test_of_two_names_for_one_hyperparameter_the_later_counts():
    assert Sieve.canonical({"width": 1.0, "depth": 3, "mesh": 2.0}) == {"mesh": 2.0, "depth": 3}
    assert Sieve.canonical({"mesh": 2.0, "width": 1.0}) == {"mesh": 1.0}


def test_an_alias_never_hides_a_hyperparameter_of_that_name():
    assert Funnel.from_params({"width": 7.0}) == Funnel(width=7.0, mesh=0.5)


def test_a_misspelt_alias_is_pointed_out():
    with pytest.raises(UsageError, match="sieve has no hyperparameter 'widht'; did you mean 'width'"):
        Sieve.from_params({"widht": 1.0})


def fingerprint_size(registry, options):
    (defense,) = resolve(options, registry).defenses
    return defense.recipe.eps


def test_neuralfp_calls_its_size_eps_and_the_default_of_a_dataset_does_not_win(registry, small):
    assert fingerprint_size(registry, small()) == 0.1
    for name in ("size", "eps"):
        assert fingerprint_size(registry, small({"neuralfp": {name: 0.02}})) == 0.02


@pytest.mark.parametrize(("below", "above"), [("eps", "size"), ("size", "eps"), ("size", "size")])
def test_a_flag_wins_over_a_file_by_whatever_names(registry, small, below, above):
    file = {"neuralfp": {below: 0.01, "alpha": 2.0}}
    merged = merge_settings(file, {"neuralfp": {above: 0.02}})
    assert fingerprint_size(registry, small(merged)) == 0.02
    assert resolve(small(merged), registry).defenses[0].recipe.alpha == 2.0


def test_a_flag_wins_over_a_file_that_has_both_names(registry, small):
    merged = merge_settings({"neuralfp": {"eps": 0.01, "size": 0.03}}, {"neuralfp": {"eps": 0.02}})
    assert fingerprint_size(registry, small(merged)) == 0.02
