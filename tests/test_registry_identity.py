"""What identifies a plugin in job keys and result files is no name for a hyperparameter."""

import warnings
from types import SimpleNamespace

import pytest

from nfbench import Attack, BrokenPlugin, Defense, Entry
from nfbench.core.registry import Registry


class Constant(Defense):
    """Suspects nobody."""

    name = "constant"

    def fit(self, classifier, data):
        return {}

    def detector(self, classifier, state):
        raise NotImplementedError


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, that these fields hide something

    class Versioned(Constant):
        """Gives its version a type, which makes it a hyperparameter."""

        name = "versioned"
        version: int = 2

    class Renamed(Constant):
        """Has no name but a hyperparameter called so."""

        name: str = "renamed"


class Sourced(Constant):
    """Would hide the digest of its source from job keys."""

    name = "sourced"
    source: str = "here"


class Plugged(Attack):
    """Would be rebuilt from another plugin."""

    name = "plugged"
    norm = "linf"
    plugin: str = "fgsm"

    def perturb(self, objective, x, budget, draws):
        return x


def only(**hooks):
    """A registry of these plugins alone."""
    plugin = SimpleNamespace(**{f"nfbench_{kind}": (lambda v=v: v) for kind, v in hooks.items()})
    return Registry.load(plugin, entry_points=False)


@pytest.mark.parametrize(
    ("kind", "cls", "field"),
    [
        ("defense", Versioned, "version"),
        ("defense", Renamed, "name"),
        ("defense", Sourced, "source"),
        ("attack", Plugged, "plugin"),
    ],
)
def test_no_hyperparameter_may_be_called_what_identifies_a_plugin(kind, cls, field):
    why = f"{cls.__name__} .*has a hyperparameter '{field}', which identifies plugins: rename it"
    address = f"test_registry_identity:{cls.__name__}"
    entry = Entry(field, address)
    hook = "defenses" if kind == "defense" else "attacks"
    for offer in (
        only().find(kind, address),
        only(**{hook: [entry]}).find(kind, field),
    ):
        with pytest.raises(BrokenPlugin, match=why):
            offer.load()
    given = only(**{hook: [cls]})
    ((_, reason),) = given.broken.items()
    assert "\n" not in reason
    assert f"has a hyperparameter '{field}'" in reason


def test_a_version_that_became_a_hyperparameter_is_refused_with_the_remedy():
    with pytest.raises(BrokenPlugin, match=r"\(or, to set its version, leave out the type\)"):
        only().find("defense", "test_registry_identity:Versioned").load()
