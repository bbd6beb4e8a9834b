"""One reproduction: choose, plan, run, conclude, draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfbench.core.errors import DataMissing, UsageError
from nfbench.records import INTERRUPTED
from nfbench.report.run import Run
from nfbench.reproduce.concluding import Row, conclude
from nfbench.reproduce.figures.base import FIGURES, draw
from nfbench.reproduce.keeping import Found
from nfbench.reproduce.paper import Paper, papers
from nfbench.reproduce.performing import Performer, Planned
from nfbench.reproduce.selecting import Chosen, choose
from nfbench.reproduce.study import Made


@dataclass(frozen=True)
class Asked:
    """What is to be reproduced, every experiment resolved and checked."""

    chosen: Chosen
    experiments: Sequence[Planned]
    studies: Sequence[tuple[Paper, str]]


@dataclass(eq=False)
class Reproduced:
    """What came of it."""

    rows: list[Row]
    figures: list[Path] = field(default_factory=list)
    undrawn: list[str] = field(default_factory=list)
    """Why figures were not drawn, a line each."""


def ask(ids: Sequence[str], performer: Performer, dataset: str = "") -> Asked:
    """Everything that ids need; nothing runs yet.

    Raises:
        UsageError: for an id that is unknown, or an experiment that can't be right.
        DataMissing: if there are data for none of it.
    """
    chosen = choose(ids, papers(), dataset)
    needed = chosen.experiments(papers())
    own = {paper.experiment_named(name)["dataset"] for paper, name in needed}
    if dataset in own:
        needed = [one for one in needed if one[0].experiment_named(one[1])["dataset"] == dataset]
    performer.data = "" if dataset in own else performer.data
    planned = [performer.plan(paper, name) for paper, name in needed]
    studies = chosen.studies(papers())
    if planned and not studies and all(one.missing for one in planned):
        raise DataMissing(planned[0].missing)
    return Asked(chosen, planned, studies)


def reproduce(asked: Asked, performer: Performer, command: str) -> Reproduced:
    """Run what is missing, judge the claims and draw the figures.

    Raises:
        NFBenchError: if results can't be written.
    """
    for paper, name in asked.studies:
        if not performer.interrupted:
            performer.study(paper, name, command)
    for one in asked.experiments:
        if not performer.interrupted:
            performer.perform(one, command)
    if performer.interrupted:
        names = [one.settled.name for one in asked.experiments] + [name for _, name in asked.studies]
        performer.missing |= {
            name: INTERRUPTED for name in names if name not in (performer.runs | performer.studies)
        }
    found = Found(performer.runs, performer.studies)
    result = Reproduced(conclude(asked.chosen.claims, found, performer.missing))
    if not performer.interrupted:
        _draw(asked.chosen.figures, performer, result, command)
    return result


def _draw(figures: Sequence[str], performer: Performer, result: Reproduced, command: str) -> None:
    told = {"command": command, "scale": performer.scale, "stand_in": performer.data}
    for name in figures:
        try:
            result.figures += draw(name, _Sources(performer), performer.out / "figures", told)
        except (UsageError, KeyError) as error:
            result.undrawn.append(f"{name}, {FIGURES[name].title}: {error}")


@dataclass(frozen=True)
class _Sources:
    """What was run, as figures ask for it."""

    performer: Performer

    def runs(self, experiment: str) -> Sequence[tuple[Mapping[str, Any], Run]]:
        return [(one.point, one.run) for one in self.performer.runs.get(experiment, ())]

    def study(self, name: str) -> Made:
        if name not in self.performer.studies:
            raise UsageError(f"the study {name} was not run: nfbench reproduce figures need it")
        return self.performer.studies[name].made
