"""Discovery: what is registered, what is refused, and that one broken plugin never hides the rest."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
import torch

from nfbench import Attack, Defense, Detector, Entry, ThreatModel
from nfbench.core import registry as registry_module
from nfbench.core.errors import BrokenPlugin, UnknownPlugin, UsageError
from nfbench.core.offers import KINDS
from nfbench.core.registry import Registry
from nfbench.core.sources import source_digest


class Constant(Defense):
    """Suspects nobody.

    Not in the summary.
    """

    name = "constant"

    def fit(self, classifier, data):
        return {}

    def detector(self, classifier, state):
        class Zero(Detector):
            def score(self, x):
                return torch.zeros(len(x))

        return Zero(classifier)


class Impostor(Constant):
    name = "max-softmax"


class Half(Defense):
    name = "half"

    def fit(self, classifier, data):
        return {}


class Lost(Attack):
    name = "lost"

    def perturb(self, objective, x, budget, draws):
        return x


class Vague(ThreatModel):
    name = "vague"

    def objectives(self, attack):
        return ("margin",)

    def objective(self, name, recorder, labels, alarm):
        raise NotImplementedError


def offering(**hooks):
    """A plugin object with these hooks."""
    return SimpleNamespace(**{f"nfbench_{kind}": (lambda v=v: v) for kind, v in hooks.items()})


def only(*plugins, **options):
    return Registry.load(*plugins, entry_points=False, **options)


def test_bundled_plugins_are_found_as_a_strangers_would_be(registry):
    assert {"neuralfp", "max-softmax", "random"} <= set(registry.names("defense"))
    assert {"fgsm", "bim-a", "bim-b", "pgd", "pgd-l2", "cw", "jsma", "spsa"} <= set(
        registry.names("attack")
    )
    assert {"partial-whitebox", "adaptive-whitebox"} <= set(registry.names("threat-model"))
    assert not registry.broken


def test_every_registered_plugin_loads_under_its_name(registry):
    for kind in KINDS:
        for name in registry.names(kind):
            assert registry.find(kind, name).load().name == name


def test_a_class_is_listed_with_the_first_line_of_its_docstring():
    offer = only(offering(defenses=[Constant])).find("defense", "constant")
    assert (offer.summary, offer.load()) == ("Suspects nobody.", Constant)


def test_an_entry_is_loaded_only_when_it_is_used():
    found = only(offering(defenses=[Entry("ghost", "no_such_module_anywhere:Ghost", "boo")]))
    assert found.names("defense") == ["ghost"]
    with pytest.raises(BrokenPlugin, match="no_such_module_anywhere"):
        found.find("defense", "ghost").load()


def test_autoload_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("NFBENCH_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert not any(Registry.load().offers.values())
    monkeypatch.setenv("NFBENCH_DISABLE_PLUGIN_AUTOLOAD", "0")
    assert Registry.load().names("defense")


@pytest.mark.parametrize(("block", "kind"), [("defenses", "defense"), ("attacks", "attack")])
def test_an_entry_point_can_be_blocked(block, kind):
    found = Registry.load(block=[block])
    assert not found.names(kind)
    assert found.names("dataset")


def test_a_plugin_can_be_blocked_by_its_own_name():
    assert "random" not in Registry.load(block=["random"]).names("defense")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fgms", "did you mean 'fgsm'"),
        ("nfbnech", "did you mean 'nfbench'"),
        ("datasest", "did you mean 'datasets'"),
    ],
)
def test_what_is_blocked_must_exist(name, hint):
    with pytest.raises(UsageError, match=rf"-p no:{name}: nothing is called '{name}'; {hint}"):
        Registry.load(block=["random", name])


def test_names_in_a_blocked_or_broken_module_are_not_known_and_may_be_blocked(monkeypatch):
    assert "random" not in Registry.load(block=["defenses", "random"]).names("defense")
    assert Registry.load(SimpleNamespace(nfbench_attacks=lambda: 1 / 0), block=["hidden"]).broken
    monkeypatch.setenv("NFBENCH_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert not Registry.load(block=["random"]).names("defense")


def test_a_distribution_can_be_blocked():
    assert not any(Registry.load(block=["nfbench"]).offers.values())


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["fgsm"], ["fgsm"]),
        (["bim-*"], ["bim-a", "bim-b"]),
        (["pgd", "pgd*"], ["pgd", "pgd-l1", "pgd-l2"]),
        (["bim-*", "!bim-a"], ["bim-b"]),
        (["fgsm", "fgsm"], ["fgsm"]),
    ],
)
def test_names_globs_and_exclusions_select(registry, patterns, expected):
    assert registry.select("attack", patterns) == expected


def test_all_selects_everything_and_a_leading_exclusion_starts_from_all(registry):
    everything = registry.names("attack")
    assert registry.select("attack", ["all"]) == everything
    assert registry.select("attack", ["!jsma"]) == [n for n in everything if n != "jsma"]


def test_selecting_nothing_is_refused(registry):
    with pytest.raises(UsageError, match="no attack is left of fgsm, !fgsm"):
        registry.select("attack", ["fgsm", "!fgsm"])
    with pytest.raises(UsageError, match="empty list"):
        registry.select("attack", [])


def test_an_unknown_name_is_refused_with_the_nearest_ones(registry):
    with pytest.raises(UnknownPlugin, match=r"no attack is called 'fgms'; did you mean 'fgsm'"):
        registry.find("attack", "fgms")
    with pytest.raises(UnknownPlugin, match="no attack is called 'fgms'"):
        registry.select("attack", ["all", "!fgms"])
    with pytest.raises(UnknownPlugin, match=r"no attack matches 'x\*'"):
        registry.select("attack", ["x*"])


def test_two_plugins_of_one_name_are_both_withheld_and_the_rest_stays():
    found = Registry.load(offering(defenses=[Impostor, Constant]))
    assert "constant" in found.names("defense")
    assert "neuralfp" in found.names("defense")
    with pytest.raises(BrokenPlugin, match=r"two plugins offer the defense 'max-softmax'.*-p no:"):
        found.find("defense", "max-softmax")


def test_of_two_plugins_of_one_name_the_other_is_left_when_one_is_switched_off():
    found = Registry.load(offering(defenses=[Impostor]), block=["defenses"])
    assert found.find("defense", "max-softmax").load() is Impostor


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        (offering(defenses=[Constant, Lost]), r"must return Defense classes, not .*Lost"),
        (offering(defenses=[3]), "must return Defense classes, not 3"),
        (offering(defenses=3), "not iterable"),
        (
            offering(defnses=[Constant]),
            r"unknown hook 'nfbench_defnses'; did you mean 'nfbench_defenses'",
        ),
        (offering(defenses=[Half]), "Half does not implement detector"),
        (offering(attacks=[Lost]), "Lost does not set norm"),
        (offering(threat_models=[Vague]), "Vague does not set knowledge"),
        (SimpleNamespace(nfbench_defenses=lambda: 1 / 0), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_plugin_is_one_line_and_the_rest_works(plugin, why):
    found = Registry.load(plugin, offering(datasets=[]))
    assert "neuralfp" in found.names("defense")
    ((kind, name), reason) = next(iter(found.broken.items()))
    assert kind == "plugin"
    assert "\n" not in reason
    with pytest.raises(BrokenPlugin, match=why):
        found.find("defense", name)


def test_of_a_broken_plugin_nothing_is_registered():
    found = only(offering(defenses=[Constant], attacks=[Lost]))
    assert found.broken
    assert not found.names("defense")


def test_two_given_objects_of_one_type_do_not_collide():
    found = only(offering(defenses=[Constant]), offering(defenses=[Impostor]))
    assert found.names("defense") == ["constant", "max-softmax"]


def test_an_entry_point_that_cannot_be_imported_names_its_distribution(monkeypatch):
    broken = EntryPoint("mine", "no_such_module_anywhere", "nfbench")
    monkeypatch.setattr(registry_module, "_entry_points", lambda: [broken])
    found = Registry.load()
    assert list(found.broken) == [("plugin", "mine")]
    assert "ModuleNotFoundError" in found.broken["plugin", "mine"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("test_registry:Constant", "registered as 'other'"),
        ("test_registry:Lost", "is no Defense"),
        ("test_registry:Half", "does not implement detector"),
        ("test_registry:Nothing", "no attribute 'Nothing'"),
        ("test_registry", "test_registry"),
    ],
)
def test_a_lazy_entry_is_checked_when_it_is_loaded(target, why):
    offer = only(offering(defenses=[Entry("other", target)])).find("defense", "other")
    with pytest.raises(BrokenPlugin, match=why):
        offer.load()


def test_a_class_without_a_name_is_refused_by_address(registry):
    class Anonymous(Defense):
        def fit(self, classifier, data):
            return {}

        def detector(self, classifier, state):
            raise NotImplementedError

    globals()["Anonymous"] = Anonymous
    with pytest.raises(BrokenPlugin, match="does not set name"):
        registry.find("defense", "test_registry:Anonymous").load()


def test_a_class_is_found_by_its_address(registry):
    offer = registry.find("defense", "test_registry:Constant")
    assert (offer.name, offer.load(), offer.distribution) == ("constant", Constant, "(address)")


def test_ones_own_source_is_part_of_what_identifies_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_defense_source.py"
    file.write_text("from test_registry import Constant\nclass Own(Constant):\n    name = 'own'\n")
    offer = only().find("defense", "own_defense_source:Own")
    before = source_digest(offer)
    file.write_text(file.read_text() + "# changed\n")
    assert before
    assert source_digest(offer) != before


def test_bundled_plugins_are_identified_by_their_version_alone(registry):
    assert source_digest(registry.find("defense", "neuralfp")) == ""
