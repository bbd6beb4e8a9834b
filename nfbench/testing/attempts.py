"""An attack on trial: what it is run on, and how."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from nfbench.core.attack import Attack
from nfbench.core.draws import Draws
from nfbench.core.errors import ContractViolation, UnknownToAttacker
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget, Images, Norm, Split
from nfbench.core.victim import Victim
from nfbench.runner.attacking import require_within
from nfbench.testing.checks import expect, kind
from nfbench.testing.fixtures import linear_classifier, linear_images

IMAGES = 24
EPS: dict[Norm, float] = {"linf": 0.25, "l2": 1.0, "l1": 4.0, "l0": 10.0}
"""At least twice what the farthest image needs."""
TIGHT: dict[Norm, float] = {"linf": 0.005, "l2": 0.02, "l1": 0.05, "l0": 1.0}
"""Less than what the nearest image needs, but for l0."""


class Outcome(NamedTuple):
    """What one call made, and what the recorder saw of it."""

    images: Images
    recorder: Recorder
    drew_globally: bool
    """Whether torch's global generator moved."""


class AttackTrial:
    """An attack and what it is tried on."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.split = linear_images(IMAGES)
        self.victim = Victim(linear_classifier())
        self.budget = Budget(attack.norm, math.inf if attack.minimises else EPS[attack.norm])

    @cached_property
    def outcome(self) -> Outcome:
        """One run as the runner would do it, with no more access than the attack says it needs."""
        try:
            return self.run(global_seed=1)
        except UnknownToAttacker as error:
            needs = self.attack.needs.name
            raise AssertionError(
                f"it declares needs = Access.{needs} and asked for more: {error}"
            ) from error

    def run(
        self,
        split: Split | None = None,
        *,
        budget: Budget | None = None,
        victim: Victim | None = None,
        access: Access | None = None,
        objective: str = "",
        global_seed: int = 0,
    ) -> Outcome:
        """Perturb copies of the images; the global generators are seeded, and restored after."""
        split, budget, victim = split or self.split, budget or self.budget, victim or self.victim
        recorder = Recorder(victim, split.x, split.y, budget, access or self.attack.needs)
        told = OBJECTIVES[objective or self.attack.static_objective](recorder, split.y, victim.alarm)
        state = np.random.get_state()  # noqa: NPY002  # it is what a careless attack would use
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)
            np.random.seed(global_seed)  # noqa: NPY002
            draws = Draws(11, split.index.tolist())
            before = torch.random.get_rng_state()
            images = self.attack.perturb(told, split.x, budget, draws)
            drew = not torch.equal(before, torch.random.get_rng_state())
        np.random.set_state(state)  # noqa: NPY002
        expect(isinstance(images, torch.Tensor), f"perturb must return a tensor, got {kind(images)}")
        return Outcome(images.detach(), recorder, drew)


def require_inside(images: Images, split: Split, budget: Budget) -> None:
    """Judge images as the runner does.

    Raises:
        AssertionError: if it would refuse them.
    """
    try:
        require_within("it", budget, split.x, images)
    except ContractViolation as error:
        raise AssertionError(f"{error}; finish with budget.project(x, x_adv), or return x") from None
