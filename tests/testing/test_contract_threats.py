"""What `check_threat_model` lets through, and each mistake that it refuses."""

import pytest
import torch
from torch import nn

from nfbench import OBJECTIVES, Access, Alarm, Objective, ThreatModel
from nfbench.testing import check_threat_model, planted_victim


class Static(ThreatModel):
    """Sees the classifier."""

    name = "static"
    knowledge = "classifier"

    def objectives(self, attack):
        return (attack.static_objective,)

    def objective(self, name, recorder, labels, alarm):
        return OBJECTIVES[name](recorder, labels, alarm)


class Adaptive(Static):
    """Sees everything."""

    name = "adaptive"
    knowledge = "classifier, detector"
    detector = "victim"

    def objectives(self, attack):
        return ("margin", "selective", "orthogonal", "lagrangian")


class Queries(Static):
    """Sees logits."""

    name = "queries"
    access = Access.SCORES


class Decisions(Static):
    """Sees decisions."""

    name = "decisions"
    access = Access.DECISION

    def objectives(self, attack):
        return ("margin",)


@pytest.mark.parametrize("kind", [Static, Adaptive, Queries, Decisions], ids=lambda k: k.name)
def test_a_good_threat_model_passes(kind):
    check_threat_model(kind())


class Leaky(Objective):
    """Takes its gradient from the victim itself."""

    name = "leaky"

    def value(self, seen, rows=None):
        return self._class_margin(seen.logits, rows)

    def gradient(self, x, rows=None):
        x = x.detach().requires_grad_()
        logits = self._recorder._victim.observe(x).logits
        return torch.autograd.grad(self._class_margin(logits, rows).sum(), x)[0]


class LeakyLoss(Leaky):
    """Never asks the recorder."""

    name = "leaky-loss"

    def loss(self, x, rows=None, *, record=True):
        return self._class_margin(self._recorder._victim.observe(x).logits, rows)

    gradient = Objective.gradient


class Coupled(Leaky):
    """One loss for the whole batch."""

    name = "coupled"
    gradient = Objective.gradient

    def value(self, seen, rows=None):
        margin = self._class_margin(seen.logits, rows)
        return margin - margin.mean()


class Summed(Coupled):
    """Planted."""

    name = "summed"

    def value(self, seen, rows=None):
        return self._class_margin(seen.logits, rows).sum()


def threat(base, objective=None, **changes):
    """A threat model like `base` with something changed."""
    body = {"name": "planted", "__doc__": "Planted.", **changes}
    if objective is not None:
        body["objective"] = lambda self, name, recorder, labels, alarm: objective(
            recorder, labels, alarm
        )
    return type("Planted", (base,), body)()


def _own_alarm(recorder, labels, alarm):
    return OBJECTIVES["cross-entropy"](recorder, labels, Alarm(0.5, 0.4, 0.1))


def _hidden_victim(recorder, labels, alarm):
    """Swaps in a victim with its detector."""
    recorder._victim = planted_victim()
    return OBJECTIVES["cross-entropy"](recorder, labels, alarm)


def _without_alarm(recorder, labels, alarm):
    return OBJECTIVES["margin"](recorder, labels)


def _other_labels(recorder, labels, alarm):
    return OBJECTIVES["cross-entropy"](recorder, 1 - labels, alarm)


@pytest.mark.parametrize(
    ("planted", "cause"),
    [
        (threat(Queries, Leaky), "gradient yields gradients, and access is only SCORES"),
        (threat(Queries, LeakyLoss), "past the recorder"),
        (threat(Static, Coupled), "depends on the other images of the batch"),
        (threat(Static, Summed), "do not reduce over the batch"),
        (threat(Static, _own_alarm), "declares detector = 'none' and reveals one"),
        (threat(Static, _hidden_victim), "declares detector = 'none' and reveals one"),
        (threat(Adaptive, _without_alarm), "withholds it"),
        (threat(Static, _other_labels), "other labels than the images"),
        (threat(Static, knowledge=" "), "say what the attacker knows"),
        (threat(Static, detector="victm"), "use one of 'none', 'victim'"),
        (threat(Static, access="scores"), "use a member of Access"),
        (threat(Static, objectives=lambda self, attack: ()), "objectives\\(\\) is empty"),
        (threat(Static, objectives=lambda self, attack: ("margin", "margin")), "different, non-empty"),
        (threat(Static, objectives=lambda self, attack: ("selective",)), "withholds.*name another"),
        (threat(Queries, mismatch=lambda self, attack: ""), "accepts an attack that needs gradients"),
        (
            threat(Static, mismatch=lambda self, attack: "no"),
            "refuses an attack that needs only decisions",
        ),
        (threat(Static, lambda *_: nn.Identity()), "must return an Objective, got Identity"),
    ],
)
def test_a_bad_threat_model_is_refused(refused, planted, cause):
    refused(check_threat_model, planted, cause)
