"""From ids to claims and figures: `table4`, `table4.mnist`, `figure3`, globs, `all`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.reproduce.figures.base import FIGURES
from nfbench.reproduce.paper import Claim, Paper


@dataclass(frozen=True)
class Chosen:
    """What ids stand for, in the order of the papers."""

    claims: tuple[tuple[Paper, Claim], ...]
    figures: tuple[str, ...]

    def experiments(self, papers: Sequence[Paper]) -> list[tuple[Paper, str]]:
        """Every experiment that they need, each once."""
        named = [
            (paper, name)
            for paper, claim in self.claims
            if not claim.not_tested
            for name in (claim.experiment, claim.against)
            if name
        ]
        drawn = [
            (paper, name)
            for figure in self.figures
            for name in FIGURES[figure].experiments
            for paper in papers
            if name in paper.experiment
        ]
        return list({name: (paper, name) for paper, name in [*named, *drawn]}.values())

    def studies(self, papers: Sequence[Paper]) -> list[tuple[Paper, str]]:
        """Every study that they need, each once; one that two papers have is the first's."""
        names = [claim.study for _, claim in self.claims if claim.study and not claim.not_tested]
        names += [name for figure in self.figures for name in FIGURES[figure].studies]
        return [
            (next(paper for paper in papers if name in paper.study), name)
            for name in dict.fromkeys(names)
        ]


def choose(ids: Sequence[str], papers: Sequence[Paper], dataset: str = "") -> Chosen:
    """The claims and figures that ids stand for; an id stands for all that begin with it and a dot.

    Args:
        ids: claims, tables, figures, papers, globs or `all`.
        papers: where to look.
        dataset: keep the claims about these data alone, if there are some.

    Raises:
        UsageError: naming the id that is unknown and what is near it.
    """
    claims = [(paper, claim) for paper in papers for claim in paper.claims]
    known = [claim.id for _, claim in claims] + list(FIGURES) + [paper.id for paper in papers]
    for one in ids:
        if one != "all" and not any(_stands_for(one, name) for name in known):
            parts = [name.split(".") for name in known]
            stems = {".".join(part[:n]) for part in parts for n in range(1, len(part) + 1)}
            hint = did_you_mean(one, sorted(stems))
            raise UsageError(
                f"nothing in the papers is called {one!r}{hint}; see nfbench reproduce --list"
            )
    of_papers = {paper.id for paper in papers if paper.id in ids}
    found = [
        (paper, claim)
        for paper, claim in claims
        if paper.id in of_papers or any(one == "all" or _stands_for(one, claim.id) for one in ids)
    ]
    figures = [name for name in FIGURES if any(_draws(one, name, of_papers) for one in ids)]
    if dataset and dataset in {claim.dataset for _, claim in found}:
        found = [(paper, claim) for paper, claim in found if claim.dataset in ("", dataset)]
    return Chosen(tuple(found), tuple(figures))


def _stands_for(wanted: str, name: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.") or fnmatchcase(name, wanted)


def _draws(wanted: str, figure: str, papers: set[str]) -> bool:
    """Figures of a paper come with it; `figure7` also with its parts, `figure7a`."""
    if wanted == "all" or _stands_for(wanted, figure):
        return True
    if figure.startswith("epfl-"):
        return "epfl" in papers
    return "neuralfp" in papers
