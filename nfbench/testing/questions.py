"""A threat model on trial: the attacks it is asked about, and the objectives it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from nfbench.core.attack import Attack
from nfbench.core.draws import Draws
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access, Budget, Images, Norm
from nfbench.core.victim import Victim
from nfbench.testing.checks import expect, kind
from nfbench.testing.fixtures import linear_images, planted_victim

IMAGES = 16


class Stub(Attack):
    """An attack that can work with anything, so that no threat model turns it away."""

    name = "stub"
    norm: ClassVar[Norm] = "linf"
    needs = Access.DECISION

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        return x


class Greedy(Stub):
    """An attack that needs gradients."""

    needs = Access.GRADIENT


class ThreatTrial:
    """A threat model and the victim it is asked about."""

    def __init__(self, threat_model: ThreatModel) -> None:
        self.threat_model = threat_model
        self.split = linear_images(IMAGES)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.threat_model.objectives(Stub()))

    def objectives(self) -> Iterator[tuple[Objective, Recorder]]:
        """Each objective over a fresh recorder, made as the runner makes them."""
        victim = planted_victim()
        if not self.threat_model.adaptive:
            victim = Victim(victim.classifier)
        for name in self.names:
            budget, access = Budget("linf", 0.25), self.threat_model.access
            recorder = Recorder(victim, self.split.x, self.split.y, budget, access)
            objective = self.threat_model.objective(name, recorder, self.split.y, victim.alarm)
            expect(
                isinstance(objective, Objective),
                f"objective must return an Objective, got {kind(objective)}",
            )
            yield objective, recorder


def asked(objective: Objective, value: Callable[[Images], Tensor], x: Images) -> Tensor:
    """What a method of `objective` answers; it must not need what is withheld."""
    try:
        answer: Tensor = value(x)
    except UnknownToAttacker as error:
        raise AssertionError(
            f"{objective.name}: asks for what the threat model withholds ({error}): name another "
            "objective"
        ) from error
    return answer


def refuses(objective: Objective, what: str, x: Images) -> bool:
    """Whether no gradient comes out of a method of `objective`."""
    x = x.clone().requires_grad_()
    try:
        if what == "gradient":
            objective.gradient(x)
        else:
            torch.autograd.grad(getattr(objective, what)(x).sum(), x)
    except UnknownToAttacker:
        return True
    except RuntimeError:  # it is not even attached to a graph
        return True
    return False
