"""The spec: what was asked for, parsed once into something that cannot be wrong."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from nfbench.core.attack import Attack
from nfbench.core.dataset import Dataset, Facts, Training
from nfbench.core.defense import Defense
from nfbench.core.errors import BrokenPlugin, UsageError
from nfbench.core.model import Model
from nfbench.core.offers import Kind, Offer
from nfbench.core.recipe import Recipe, did_you_mean
from nfbench.core.registry import Registry
from nfbench.core.sources import source_digest
from nfbench.core.threat import ThreatModel
from nfbench.runner.leaving import require_meant
from nfbench.runner.literals import parse_eps
from nfbench.runner.options import DEFAULT_THREAT_MODELS, STRONGEST, Options, defenders_of

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Chosen(Generic[R]):
    """A recipe, and what identifies it in job keys and result files."""

    recipe: R
    offer: Offer
    source: str = ""

    @property
    def name(self) -> str:
        return self.recipe.name

    def identity(self, recipe: R | None = None) -> dict[str, Any]:
        """Plain data from which a worker rebuilds the recipe; part of the job key."""
        plugin = self.offer.target if self.offer.distribution == "(address)" else self.offer.name
        spec = (recipe or self.recipe).spec()
        return {"plugin": plugin, "source": self.source, **spec}


@dataclass(frozen=True)
class OwnModel:
    """A user's own network: a function that returns one, and its weights if it is trained."""

    factory: str
    source: str
    weights: Path | None
    weights_sha256: str

    @property
    def name(self) -> str:
        return self.factory

    def identity(self) -> dict[str, Any]:
        return {"factory": self.factory, "source": self.source, "weights": self.weights_sha256}


@dataclass(frozen=True)
class Spec:
    """Everything that decides the numbers of a run."""

    dataset: Chosen[Dataset]
    facts: Facts
    data_digest: str
    model: Chosen[Model] | OwnModel
    training: Training
    defenses: tuple[Chosen[Defense], ...]
    attacks: tuple[Chosen[Attack], ...]
    threat_models: tuple[Chosen[ThreatModel], ...]
    reference: Chosen[ThreatModel]
    """The static threat model under which the undefended classifier is attacked."""
    defenders: tuple[str, ...]
    teachers: Mapping[str, Chosen[Attack]]
    """Attacks that supervised defenses name in `learns_from`, by that name."""
    eps: Mapping[str, tuple[float, ...]]
    """Radii of each norm, ascending."""
    given_eps: frozenset[str]
    limit: int
    train_limit: int
    """Training images attacked for supervised defenses to learn from."""
    seeds: tuple[int, ...]
    skip: tuple[str, ...] = ()
    """Patterns of cells that are left out."""
    warnings: tuple[str, ...] = ()
    """Plugins left out because they are broken, and radii that no attack uses, one line each."""

    def ladder(self, attack: Attack) -> tuple[float, ...]:
        """The radii an attack gets, ascending: the dataset's or the user's; none if it minimises."""
        if attack.minimises and attack.norm not in self.given_eps:
            return (math.inf,)
        return self.eps.get(attack.norm, (math.inf,))

    def teaching_eps(self, attack: Attack) -> float:
        """The radius at which supervised detectors learn from an attack; one, whatever the ladder."""
        ladder = self.ladder(attack)
        if len(ladder) == 1:
            return ladder[0]
        return math.inf if attack.minimises else self.facts.defaults.eps.get(attack.norm, ladder[-1])


def resolve(options: Options, registry: Registry) -> Spec:
    """Look up every name and check every value of `options`.

    Raises:
        NFBenchError: with one line that says what is wrong and what would be right.
    """
    for flag, count in (("--limit", options.limit), ("--train-limit", options.train_limit)):
        if count is not None and count < 1:
            raise UsageError(f"{flag} must be at least 1, got {count}")
    if not options.defense:
        known = ", ".join(registry.names("defense"))
        raise UsageError(f"no defense was named; use --defense with one or more of: {known}")
    settings = options.settings
    dataset = _dataset(options, registry, settings)
    facts = dataset.recipe.describe(options.data_dir)
    flagged = {"budget": options.budget} if options.budget else {}
    used = {"training", dataset.name}
    choose = _Chooser(registry, settings, facts.defaults.plugins, used, flagged)
    defenses = choose.all("defense", options.defense)
    given = parse_eps(options.eps)
    attacks = cast("tuple[Chosen[Attack], ...]", choose.all("attack", _named(options.attacks, given)))
    if options.budget and not any("budget" in one.recipe.spec() for one in attacks):
        raise UsageError("--budget has no effect: none of the attacks has one; use --attacks strongest")
    threats = choose.all("threat-model", options.threat_model)
    teachers = _teachers(choose, cast("tuple[Chosen[Defense], ...]", defenses))
    model = _model(options, choose, facts)
    training = facts.defaults.training.model_dump() | Training.canonical(settings.get("training", {}))
    spec = Spec(
        dataset=dataset,
        facts=facts,
        data_digest=dataset.recipe.digest(options.data_dir),
        model=model,
        training=Training.from_params(training),
        defenses=cast("tuple[Chosen[Defense], ...]", defenses),
        attacks=attacks,
        threat_models=cast("tuple[Chosen[ThreatModel], ...]", threats),
        reference=cast("Chosen[ThreatModel]", choose.one("threat-model", DEFAULT_THREAT_MODELS[0])),
        defenders=defenders_of(options.defender),
        teachers=teachers,
        eps={**{str(norm): (eps,) for norm, eps in facts.defaults.eps.items()}, **given},
        given_eps=frozenset(given),
        limit=options.limit or facts.defaults.limit,
        train_limit=options.train_limit or facts.defaults.train_limit,
        seeds=tuple(dict.fromkeys(options.seed)),
        skip=tuple(options.skip),
        warnings=(*choose.warnings, *_idle(given, (*attacks, *teachers.values()))),
    )
    names = [[one.name for one in chosen] for chosen in (defenses, attacks, threats)]
    require_meant(
        [p for p in spec.skip if p not in options.spare], product(names[0], names[1], names[2])
    )
    _refuse_unused(settings, choose.used, options.spare, registry)
    return spec


def _idle(given: Mapping[str, Any], attacks: Sequence[Chosen[Attack]]) -> list[str]:
    """Radii in norms that no attack is measured in, a line each."""
    measured = {attack.recipe.norm for attack in attacks}
    idle = [norm for norm in given if norm not in measured]
    return [f"--eps {norm}=… has no effect: no attack is measured in {norm}" for norm in idle]


def _named(attacks: Sequence[str], eps: Mapping[str, Any]) -> Sequence[str]:
    """The attacks by their own names; `strongest` is the portfolio of each norm that has a radius."""
    norms = [norm for norm in STRONGEST if norm in eps] or ["linf"]
    strongest = [STRONGEST[norm] for norm in norms]
    return [name for one in attacks for name in (strongest if one == "strongest" else [one])]


@dataclass
class _Chooser:
    """Builds recipes from names, the dataset's defaults and the user's settings."""

    registry: Registry
    settings: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Mapping[str, Any]]
    used: set[str]
    flags: Mapping[str, Any]
    """Hyperparameters that have a flag of their own, for attacks that have them."""
    warnings: list[str] = field(default_factory=list)

    def all(self, kind: Kind, patterns: Sequence[str]) -> tuple[Chosen[Recipe], ...]:
        chosen = tuple(
            one
            for name in self.registry.select(kind, patterns)
            if (one := self._usable(kind, name, by_name=name in patterns)) is not None
        )
        names = [one.name for one in chosen]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two of the chosen {kind}s are called {name!r}; results go by name")
        return chosen

    def _usable(self, kind: Kind, name: str, *, by_name: bool) -> Chosen[Recipe] | None:
        """A plugin that was asked for; one that `all` or a glob brought in may be broken."""
        try:
            return self.one(kind, name)
        except BrokenPlugin as error:
            if by_name:
                raise
            self.warnings.append(f"left out: {error}")
            return None

    def one(self, kind: Kind, name: str) -> Chosen[Recipe]:
        offer = self.registry.find(kind, name)
        cls = offer.load()
        self.used.add(cls.name)
        declared = cls.canonical(self.defaults.get(cls.name, {}))
        defaults = {k: v for k, v in declared.items() if k in cls.model_fields}
        flags = {k: v for k, v in self.flags.items() if kind == "attack" and k in cls.model_fields}
        own = cls.canonical(self.settings.get(cls.name, {}))
        recipe = cls.from_params({**defaults, **flags, **own})
        return Chosen(recipe, offer, source_digest(offer))


def _dataset(
    options: Options, registry: Registry, settings: Mapping[str, Mapping[str, Any]]
) -> Chosen[Dataset]:
    offer = registry.find("dataset", options.dataset)
    cls = cast("type[Dataset]", offer.load())
    return Chosen(cls.from_params(settings.get(cls.name, {})), offer, source_digest(offer))


def _model(options: Options, choose: _Chooser, facts: Facts) -> Chosen[Model] | OwnModel:
    name = options.model or facts.defaults.model
    if options.weights is not None and ":" not in name:
        raise UsageError("--weights goes with --model package.module:factory")
    if ":" not in name:
        return cast("Chosen[Model]", choose.one("model", name))
    factory = load_factory(name)
    if isinstance(factory, type) and issubclass(factory, Model):
        return cast("Chosen[Model]", choose.one("model", name))
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    source = sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""
    weights_digest = ""
    if options.weights is not None:
        try:
            weights_digest = sha256(options.weights.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"can't read --weights {options.weights}: {error.strerror}") from None
    return OwnModel(name, source, options.weights, weights_digest)


def load_factory(address: str) -> Callable[[], Any]:
    """The function at `package.module:function`; the working directory is searched too."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module, _, name = address.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a stranger's module raises when imported
        raise BrokenPlugin(f"can't load {address}: {type(error).__name__}: {error}") from None
    if not callable(factory):
        raise BrokenPlugin(f"{address} is not a function that returns a network")
    return cast("Callable[[], Any]", factory)


def _teachers(choose: _Chooser, defenses: Sequence[Chosen[Defense]]) -> dict[str, Chosen[Attack]]:
    """The attacks that supervised defenses learn from.

    Raises:
        UsageError: naming the defense whose `learns_from` is no attack.
    """
    teachers: dict[str, Chosen[Attack]] = {}
    for defense in defenses:
        name = defense.recipe.learns_from
        if name is None:
            continue
        try:
            teachers[name] = cast("Chosen[Attack]", choose.one("attack", name))
        except UsageError as error:
            raise UsageError(f"{defense.name}.learns_from = {name!r}: {error}") from None
    return teachers


def _refuse_unused(
    settings: Mapping[str, Mapping[str, Any]],
    used: set[str],
    spare: frozenset[str],
    registry: Registry,
) -> None:
    everything = [n for offers in registry.offers.values() for n in offers] + ["training"]
    for name in settings:
        if name in used:
            continue
        if name not in everything:
            raise UsageError(f"--set: nothing is called {name!r}{did_you_mean(name, everything)}")
        if name not in spare:
            raise UsageError(f"--set {name}.… has no effect: {name} is not part of this run")
