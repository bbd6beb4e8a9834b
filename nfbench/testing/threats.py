"""The contract of a threat model: it hands over what it declares, and nothing more."""

from __future__ import annotations

from typing import get_args, get_type_hints

import torch

from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access
from nfbench.testing.checks import Check, clauses, expect, is_a, run_all, same
from nfbench.testing.fixtures import linear_images
from nfbench.testing.questions import IMAGES, Greedy, Stub, ThreatTrial, asked, refuses


def check_threat_model(threat_model: ThreatModel) -> None:
    """Ask `threat_model` for its objectives on a planted victim; the first broken clause raises.

    Raises:
        AssertionError: naming the cause and what to do.
    """
    run_all(threat_model_checks(threat_model))


def threat_model_checks(threat_model: ThreatModel) -> list[Check]:
    """The contract of a threat model, clause by clause."""
    tests = [
        _declares_itself,
        _names_objectives,
        _refuses_what_needs_more,
        _reveals_the_detector_as_declared,
        _keeps_the_labels,
        _values_are_one_an_image,
        _asks_through_the_recorder,
        _withholds_gradients,
    ]
    vital = [_declares_itself, _names_objectives]
    return clauses(threat_model, ThreatTrial(threat_model), tests, vital=vital)


def _declares_itself(trial: ThreatTrial) -> None:
    """It declares knowledge, detector and access"""
    threat = trial.threat_model
    knowledge = getattr(threat, "knowledge", None)
    expect(
        isinstance(knowledge, str) and knowledge.strip(),
        f"knowledge = {knowledge!r}: say what the attacker knows, such as 'classifier'; worst cases "
        "are taken "
        "over attacks of equal knowledge",
    )
    expect(isinstance(threat.access, Access), f"access = {threat.access!r}: use a member of Access")
    (allowed,) = get_args(get_type_hints(ThreatModel)["detector"])
    expect(
        threat.detector in get_args(allowed),
        f"detector = {threat.detector!r}: use one of {', '.join(map(repr, get_args(allowed)))}",
    )


def _names_objectives(trial: ThreatTrial) -> None:
    """It names the objectives to climb"""
    expect(trial.names, "objectives() is empty: name at least one, such as attack.static_objective")
    named = all(is_a(n, str) and n for n in trial.names) and len(set(trial.names)) == len(trial.names)
    expect(
        named, f"objectives() must be different, non-empty names, a tuple of them; got {trial.names!r}"
    )


def _refuses_what_needs_more(trial: ThreatTrial) -> None:
    """It refuses attacks that need more access than it grants"""
    expect(
        not trial.threat_model.mismatch(Stub()), "mismatch refuses an attack that needs only decisions"
    )
    refused = trial.threat_model.mismatch(Greedy())
    if trial.threat_model.access < Access.GRADIENT:
        expect(
            refused,
            "mismatch accepts an attack that needs gradients: return the reason why it can't run",
        )


def _keeps_the_labels(trial: ThreatTrial) -> None:
    """Its objectives keep the labels"""
    for objective, _ in trial.objectives():
        expect(
            torch.equal(objective.labels, linear_images(IMAGES).y),
            f"{objective.name}: the objective has other labels than the images: pass `labels` on as "
            "they are",
        )


def _values_are_one_an_image(trial: ThreatTrial) -> None:
    """Its objectives give one number an image, whatever the batch"""
    rows = torch.tensor([3, 7])
    for objective, _ in trial.objectives():
        with torch.no_grad():
            for what, value in (("loss", objective.loss), ("margin", objective.margin)):
                together = asked(objective, value, trial.split.x)
                some = value(trial.split.x[rows], rows)
                expect(
                    together.shape == (IMAGES,),
                    f"{objective.name}: {what} must be one number an image, ({IMAGES},); got "
                    f"{tuple(together.shape)}: do not reduce over the batch",
                )
                expect(
                    together.isfinite().all(), f"{objective.name}: {what} is not finite on clean images"
                )
                expect(
                    same(together[rows], some, rtol=1e-3).all(),
                    f"{objective.name}: {what} of an image depends on the other images of the batch, or "
                    "ignores `rows`",
                )


def _asks_through_the_recorder(trial: ThreatTrial) -> None:
    """Its objectives query through the recorder"""
    for objective, recorder in trial.objectives():
        with torch.no_grad():
            objective.loss(trial.split.x)
        expect(
            (recorder.forward > 0).all(),
            f"{objective.name}: loss reaches the victim past the recorder, so that queries are neither "
            "counted "
            "nor limited: use self.query, or implement `value`",
        )


def _withholds_gradients(trial: ThreatTrial) -> None:
    """No gradient goes beyond its access"""
    for objective, recorder in trial.objectives():
        expect(
            objective.access == trial.threat_model.access
            and recorder.access == trial.threat_model.access,
            f"{objective.name}: has access {objective.access.name}, declared is "
            f"{trial.threat_model.access.name}",
        )
        if trial.threat_model.access is Access.GRADIENT:
            gradient = objective.gradient(trial.split.x)
            expect(
                gradient.shape == trial.split.x.shape,
                f"{objective.name}: gradient must be shaped like x",
            )
            expect(
                gradient.isfinite().all(), f"{objective.name}: gradient is not finite on clean images"
            )
            continue
        for what in ("gradient", "loss", "margin"):
            expect(
                refuses(objective, what, trial.split.x),
                f"{objective.name}: {what} yields gradients, and access is only "
                f"{trial.threat_model.access.name}: use self.query, which withholds them",
            )


def _reveals_the_detector_as_declared(trial: ThreatTrial) -> None:
    """It reveals the detector exactly if it says so"""
    adaptive = trial.threat_model.adaptive
    for objective, _ in trial.objectives():
        with torch.no_grad():
            seen = objective.query(trial.split.x)
        revealed = seen.score is not None or seen.penalties is not None or objective.knows_detector
        if adaptive:
            expect(
                seen.score is not None and objective.knows_detector,
                f"{objective.name}: the threat model declares detector = "
                f"{trial.threat_model.detector!r} and "
                "withholds it: pass `alarm` on to the objective",
            )
        else:
            expect(
                not revealed,
                f"{objective.name}: the threat model declares detector = 'none' and reveals one: "
                "declare "
                "detector = 'victim', or build nothing but what the recorder and `alarm` give",
            )
