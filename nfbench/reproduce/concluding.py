"""Claims with what came of them: rows for tables and pages, a pure function of papers and runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nfbench.records import Value
from nfbench.reproduce.evidence import Measured, Ran, clean_accuracy, fooled, measured
from nfbench.reproduce.judging import Verdict, judge, not_tested, too_feeble, too_weak
from nfbench.reproduce.keeping import Found
from nfbench.reproduce.paper import Claim, Paper


@dataclass(frozen=True)
class Row:
    """A claim, its verdict, and what the verdict rests on."""

    paper: Paper
    claim: Claim
    verdict: Verdict
    scale: str = ""
    sizes: Mapping[str, Any] | None = None
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
            "sizes": dict(self.sizes or {}),
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
            return Row(paper, claim, not_tested(missing.get(name) or "not run"))
    ran = found.runs[claim.experiment]
    told = ran[0].told
    against = found.runs[claim.against] if claim.against else ran
    verdict = _unlike(paper, claim, [*ran, *(against if claim.against else ())])
    numbers = measured(claim, ran, against)
    if verdict is None and claim.statistic != "clean_accuracy":
        verdict = _feeble(paper, claim, ran, against)
    if verdict is None:
        verdict = judge(claim, paper, numbers)
    elif numbers:
        verdict = verdict._replace(ours=_shown(numbers), label=numbers[0].label)
    return Row(paper, claim, verdict, told["scale"], told["sizes"], _origin(ran[0].run.info))


def _shown(numbers: Sequence[Measured]) -> Value | None:
    """Our number, where it is one and no verdict is given on it."""
    return numbers[0].value if len(numbers) == 1 and numbers[0].value.value is not None else None


def _unlike(paper: Paper, claim: Claim, ran: Sequence[Ran]) -> Verdict | None:
    """Why these runs can say nothing of the claim: other data, or a classifier far from the paper's."""
    told = ran[0].told
    if told.get("stand_in"):
        return not_tested(f"{told['stand_in']} stand in for {claim.dataset}")
    if {one.told["scale"] for one in ran} != {told["scale"]}:
        return not_tested("its two experiments were run at different scales")
    reached, accuracy = paper.classifiers.get(claim.dataset), clean_accuracy(ran)
    if reached is None or accuracy is None or claim.statistic == "clean_accuracy":
        return None  # that claim is about the accuracy itself
    why = too_weak(reached, *accuracy)
    return not_tested(why) if why else None


def _feeble(paper: Paper, claim: Claim, ran: Sequence[Ran], against: Sequence[Ran]) -> Verdict | None:
    """Why the attacks of these runs are not the paper's.

    At full scale they are as long as the paper's, and how many images they fool is a finding.
    """
    if claim.statistic == "accuracy_left" and ran[0].told["scale"] == "full":
        return None
    expected = paper.fools.get(claim.dataset, {})
    rates = fooled(ran, claim.cells) + (fooled(against, claim.minus) if claim.minus else [])
    reasons = [why for attack, rate in rates if (why := too_feeble(expected, attack, rate))]
    return not_tested(reasons[0]) if reasons else None


def _studied(paper: Paper, claim: Claim, found: Found, missing: Mapping[str, str]) -> Row:
    study = found.studies.get(claim.study)
    if study is None:
        return Row(paper, claim, not_tested(missing.get(claim.study) or "not run"))
    value = study.made.values.get(claim.measure)
    told = study.told
    if value is None:
        verdict = not_tested(f"the study {claim.study} has no {claim.measure}")
    elif told.get("stand_in") and claim.dataset:
        verdict = not_tested(f"{told['stand_in']} stand in for {claim.dataset}")._replace(ours=value)
    else:
        verdict = judge(claim, paper, [Measured(claim.measure, value)])
    return Row(paper, claim, verdict, told["scale"], told["sizes"], _origin(told))


def _origin(info: Mapping[str, Any]) -> str:
    environment = info.get("environment", {})
    commit = str(environment.get("git_commit") or f"nfbench {environment.get('nfbench', 'unknown')}")
    return f"{commit[:12]}{' changed' * bool(environment.get('git_dirty'))}"
