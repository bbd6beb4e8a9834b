"""Claims with what came of them: rows for tables and pages, a pure function of papers and runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nfbench.records import Value, revision
from nfbench.reproduce.evidence import Measured, Ran, clean_accuracy, measured, unfinished
from nfbench.reproduce.judging import Verdict, judge, not_tested, too_weak
from nfbench.reproduce.keeping import Found
from nfbench.reproduce.paper import Claim, Paper
from nfbench.reproduce.scaling import settle


@dataclass(frozen=True)
class Row:
    """A claim, its verdict, and what the verdict rests on."""

    paper: Paper
    claim: Claim
    verdict: Verdict
    scale: str = ""
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each experiment or study it rests on, by name."""
    origin: str = ""
    """Source revision and device of the run."""

    @property
    def command(self) -> str:
        """What makes the number again; empty where nothing would."""
        if self.claim.not_tested:
            return ""
        data = " --data-dir DIR" if self.claim.dataset else ""
        return f"nfbench reproduce {shlex.quote(self.claim.id)} --scale {self.scale or 'full'}{data}"

    def plain(self) -> dict[str, Any]:
        """For machines."""
        verdict, claim = self.verdict, self.claim
        return {
            "id": claim.id,
            "paper": self.paper.id,
            "where": claim.where,
            "says": claim.says,
            "statistic": claim.statistic or claim.measure,
            "test": claim.test,
            "reported": claim.value,
            "ours": _plain(verdict.ours),
            "difference": _plain(verdict.difference),
            "of": verdict.label,
            "verdict": verdict.word,
            "why": verdict.why,
            "scale": self.scale or None,
            "sizes": {name: dict(values) for name, values in self.sizes.items()},
            "origin": self.origin,
            "command": self.command,
            "note": claim.note,
        }


def _plain(value: Value | None) -> dict[str, Any] | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


def conclude(
    claims: Sequence[tuple[Paper, Claim]], found: Found, missing: Mapping[str, str] | None = None
) -> list[Row]:
    """What runs and studies say of claims.

    Args:
        claims: which.
        found: what was run, data that stand in included.
        missing: why experiments or studies were not run, by name.
    """
    return [_row(paper, claim, found, missing or {}) for paper, claim in claims]


def _row(paper: Paper, claim: Claim, found: Found, missing: Mapping[str, str]) -> Row:
    if claim.not_tested:
        return Row(paper, claim, not_tested(claim.not_tested))
    if claim.study:
        return _studied(paper, claim, found, missing)
    names = [name for name in (claim.experiment, claim.against) if name]
    for name in names:
        if not found.runs.get(name):
            return Row(paper, claim, _absent(paper, claim, missing.get(name)))
    ran = found.runs[claim.experiment]
    against = found.runs[claim.against] if claim.against else ran
    told = ran[0].told
    numbers = measured(claim, ran, against, paper.fools.get(claim.dataset, {}))
    verdict = _unlike(paper, claim, ran, against)
    if verdict is None:
        verdict = judge(claim, paper, numbers)
    elif numbers:
        verdict = verdict._replace(ours=_shown(numbers), label=numbers[0].label)
    sizes = {claim.experiment: told["sizes"]}
    if claim.against:
        sizes[claim.against] = against[0].told["sizes"]
    return Row(paper, claim, verdict, told["scale"], sizes, _origins([*ran, *against]))


def _absent(paper: Paper, claim: Claim, missing: str | None) -> Verdict:
    known = paper.not_run.get(claim.dataset)
    return not_tested(missing or (f"not run: {known}" if known else "not run"))


def _shown(numbers: Sequence[Measured]) -> Value | None:
    """Our number, where it is one and no verdict is given on it."""
    return numbers[0].value if len(numbers) == 1 and numbers[0].value.value is not None else None


def _unlike(paper: Paper, claim: Claim, ran: Sequence[Ran], against: Sequence[Ran]) -> Verdict | None:
    """Why these runs can say nothing of the claim, and is no verdict on it."""
    told, everyone = ran[0].told, [*ran, *against]
    if told.get("stand_in"):
        return not_tested(f"{told['stand_in']} stand in for {claim.dataset}")
    if {one.told["scale"] for one in everyone} != {told["scale"]}:
        return not_tested("its two experiments were run at different scales")
    for one in everyone:
        now = settle(paper, str(one.told["experiment"]), told["scale"]).digest
        if one.told.get("digest", now) != now:
            return not_tested(f"{one.told['experiment']} has changed since it was run")
    lacking = unfinished(ran, claim.cells)
    if claim.minus is not None:
        lacking = lacking or unfinished(against, claim.minus)
    if lacking:
        return not_tested(lacking)
    return _shortened(paper, claim, told) or _worse(paper, claim, ran, against)


def _shortened(paper: Paper, claim: Claim, told: Mapping[str, Any]) -> Verdict | None:
    """Whether the scale changes what the claim is about."""
    full = settle(paper, claim.experiment, "full").sizes
    for name in claim.fixed:
        if told["sizes"].get(name) != full.get(name):
            return not_tested(f"it is about {name} = {full.get(name, 'all')}, which this scale changes")
    return None


def _worse(paper: Paper, claim: Claim, ran: Sequence[Ran], against: Sequence[Ran]) -> Verdict | None:
    """Whether a classifier is far from the paper's accuracy. It states none of its baselines'."""
    reached = paper.classifiers.get(claim.dataset)
    if reached is None or (claim.statistic == "clean_accuracy" and claim.minus is None):
        return None
    pairs = [(ran, claim.cells)] + ([(against, claim.minus)] if claim.minus else [])
    for runs, wanted in pairs:
        accuracy = clean_accuracy(runs, wanted)
        if accuracy is not None and accuracy[0] in ("neuralfp", "max-softmax"):
            why = too_weak(reached, *accuracy)
            if why:
                return not_tested(why)
    return None


def _studied(paper: Paper, claim: Claim, found: Found, missing: Mapping[str, str]) -> Row:
    study = found.studies.get(claim.study)
    if study is None:
        return Row(paper, claim, _absent(paper, claim, missing.get(claim.study)))
    value = study.made.values.get(claim.measure)
    told = study.told
    if value is None:
        verdict = not_tested(f"the study {claim.study} has no {claim.measure}")
    elif told.get("stand_in") and claim.dataset:
        verdict = not_tested(f"{told['stand_in']} stand in for {claim.dataset}")._replace(ours=value)
    else:
        verdict = judge(claim, paper, [Measured(claim.measure, value)])
    sizes = {claim.study: told["sizes"]}
    return Row(paper, claim, verdict, told["scale"], sizes, revision(told.get("environment", {})))


def _origins(ran: Sequence[Ran]) -> str:
    """Source revisions that the runs' artifacts were made by."""
    cells = [cell for one in ran for cell in one.run.cells if cell.finished]
    return ", ".join(sorted({origin.partition(" on ")[0] for cell in cells for origin in cell.origins}))
