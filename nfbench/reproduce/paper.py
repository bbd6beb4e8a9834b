"""Papers as data: what they claim, and the experiments that test it at three scales."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nfbench.core.errors import UsageError

Scale: TypeAlias = Literal["smoke", "laptop", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "full")
"""Ascending. They differ in sizes alone: images, seeds, epochs, restarts, iterations, search steps."""
Test: TypeAlias = Literal["equals", "at-least", "at-most", "spread-at-most"]
Kind: TypeAlias = Literal["auroc", "rate", "mean"]


class _Data(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class Cells(_Data):
    """Which cells of an experiment's runs a claim is about; what is left out is not asked for."""

    defense: str = ""
    attacks: tuple[str, ...] = ()
    threat_model: str = ""
    defender: str = ""
    norm: str = ""
    eps: tuple[float, ...] = ()
    point: Mapping[str, Any] = {}
    """Values of a sweep, by `plugin.hyperparameter`."""


class Claim(_Data):
    """One number, or one sentence, of a paper, and how it is tested."""

    id: str
    where: str
    """Table, figure or section."""
    says: str
    dataset: str = ""
    """Data the claim is about; empty where it makes its own."""
    experiment: str = ""
    cells: Cells = Cells()
    against: str = ""
    """Experiment whose cells are subtracted, if the claim is about a difference; its own if empty."""
    minus: Cells | None = None
    over: Literal["each", "mean"] = "each"
    """Whether every cell, or pair of cells, must pass, or their mean."""
    statistic: str = ""
    study: str = ""
    measure: str = ""
    """The value of the study."""
    test: Test = "equals"
    value: float | None = None
    """What the paper reports, or the bound of its sentence."""
    kind: Kind = "auroc"
    """What the number is, which decides how sure the paper can be of it."""
    images: int | None = None
    """Images that the paper's number rests on; None: no interval is taken of it."""
    margin: float | None = None
    """How far from the paper's number still counts as the same; the paper's own if None."""
    error: float | None = None
    """Half of the 95 % interval of the paper's number, where it is a difference of its numbers."""
    ungiven: str = ""
    """What the paper leaves open of how it got the number: then another number contradicts nothing."""
    fixed: tuple[str, ...] = ()
    """Sizes that the claim is about; no scale that changes them says anything of it."""
    not_tested: str = ""
    """Why it can't be tested at all."""
    note: str = ""


class Table(_Data):
    """Numbers of one statistic, a row a defense and a column an attack, in percent as printed."""

    id: str
    where: str
    dataset: str
    experiment: str
    threat_model: str
    statistic: str
    columns: Mapping[str, str]
    """The paper's heading by attack."""
    rows: Mapping[str, tuple[float | None, ...]]
    kind: Kind = "auroc"
    images: int | None = None
    margin: float | None = None
    defender: str = ""
    norm: Mapping[str, str] = {}
    eps: Mapping[str, float] = {}
    """Norm and bound of each attack that has one."""
    ungiven: str = ""
    fixed: tuple[str, ...] = ()
    not_tested: str = ""
    note: str = ""

    def claims(self) -> list[Claim]:
        """One for each number."""
        found = []
        for defense, numbers in self.rows.items():
            if len(numbers) != len(self.columns):
                raise ValueError(
                    f"{self.id}: {defense} has {len(numbers)} of {len(self.columns)} numbers"
                )
            for (attack, heading), number in zip(self.columns.items(), numbers, strict=True):
                if number is not None:
                    found.append(self._claim(defense, attack, heading, number))
        return found

    def _claim(self, defense: str, attack: str, heading: str, number: float) -> Claim:
        what = "AUROC" if self.kind == "auroc" else "accuracy" if self.kind == "rate" else "mean"
        return Claim(
            id=f"{self.id}.{defense}.{attack}",
            where=self.where,
            says=f"{what} {number:g} % under {heading}",
            dataset=self.dataset,
            experiment=self.experiment,
            cells=Cells(
                defense=defense,
                attacks=(attack,),
                threat_model=self.threat_model,
                defender=self.defender,
                norm=self.norm.get(attack, ""),
                eps=(self.eps[attack],) if attack in self.eps else (),
            ),
            statistic=self.statistic,
            value=round(number / 100, 6),
            kind=self.kind,
            images=self.images,
            margin=self.margin,
            ungiven=self.ungiven,
            fixed=self.fixed,
            not_tested=self.not_tested,
            note=self.note,
        )


class Reached(_Data):
    """The clean accuracy that the paper's classifier has, below which nothing is said of its claims."""

    accuracy: float
    slack: float


class Paper(_Data):
    """A paper: what it claims and the experiments, studies and sizes that test it."""

    id: str
    title: str
    url: str
    margin: float
    """How far from a number of the paper still counts as the same, unless a claim says otherwise."""
    margin_because: str
    classifiers: Mapping[str, Reached] = {}
    fools: Mapping[str, Mapping[str, float]] = {}
    """The share of images that each attack fools, by data and attack, where the paper says so."""
    scale: Mapping[Scale, Mapping[str, Any]] = {}
    """Sizes of every experiment, as a configuration file has them."""
    not_run: Mapping[str, str] = {}
    """By data, why nobody may have run what is about them."""
    stand_in: Mapping[str, Any] = {}
    """`study`: parameters of a study where other data stand in for its own."""
    experiment: Mapping[str, Mapping[str, Any]] = {}
    """By name: what a configuration file would have; `like`, another whose entries it begins with;
    `vary`, lines of `nfbench sweep`; and `scale`, sizes of its own."""
    study: Mapping[str, Mapping[str, Any]] = {}
    """Parameters by study, and `scale`, sizes."""
    table: tuple[Table, ...] = ()
    claim: tuple[Claim, ...] = Field(default=())

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All of them, in the order of the file, tables first."""
        return (*(one for table in self.table for one in table.claims()), *self.claim)

    def experiment_named(self, name: str) -> dict[str, Any]:
        """An experiment with what it takes over from another."""
        own = dict(self.experiment[name])
        base = self.experiment_named(own.pop("like")) if "like" in own else {}
        return overlaid(base, own)


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, tables within tables likewise."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = overlaid(found[key], value) if both else value
    return found


@cache
def papers() -> tuple[Paper, ...]:
    """The papers there are."""
    folder = files("nfbench.reproduce") / "papers"
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(".toml"))
    return tuple(parsed((folder / name).read_text("utf-8"), name) for name in reversed(found))


def parsed(text: str, where: str) -> Paper:
    """A paper from TOML.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    try:
        paper = Paper.model_validate(tomllib.loads(text))
        claims = paper.claims
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {place}: {first['msg']}") from None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    _require_whole(paper, claims, where)
    return paper


def _require_whole(paper: Paper, claims: Sequence[Claim], where: str) -> None:
    """Refuse names that lead nowhere, and claims that two share or that say neither how nor why not."""
    ids = [claim.id for claim in claims]
    problems = [f"two claims are called {one}" for one in _twice(ids)]
    for claim in claims:
        used = (claim.experiment, claim.against)
        problems += [f"{claim.id}: no experiment {n!r}" for n in used if n and n not in paper.experiment]
        if claim.study and claim.study not in paper.study:
            problems.append(f"{claim.id}: no study {claim.study!r}")
        if not (claim.not_tested or claim.experiment or claim.study):
            problems.append(f"{claim.id}: neither an experiment, nor a study, nor a reason")
        if claim.value is None and not claim.not_tested:
            problems.append(f"{claim.id}: no value to test against")
    for name, experiment in paper.experiment.items():
        if experiment.get("like", name) not in paper.experiment:
            problems.append(f"experiment {name}: no experiment {experiment['like']!r}")
    if problems:
        raise UsageError(f"{where}: {problems[0]}")


def _twice(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
