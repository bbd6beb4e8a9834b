"""CW: Foolbox's L2 attack of Carlini and Wagner on a surrogate that states the objective."""

import foolbox
import torch
from foolbox.attacks import L2CarliniWagnerAttack
from foolbox.criteria import Misclassification
from torch import Tensor, nn

from nfbench import (
    OBJECTIVES,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    NonNegative,
    Objective,
    Positive,
    per_image,
)
from nfbench_attacks.targets import Target, aim

_SLACK = 0.02
"""Least hinge short of success; above the class margin at which `selective` turns to the detector."""


class CarliniWagner(Attack):
    """Smallest L2 perturbation with margin >= kappa. Carlini & Wagner (2017).

    Minimises ||x' - x||^2 + c max(0, kappa - margin(x')), c by bisection for each image. Images are
    never stopped early: Foolbox's `abort_early` tests the loss of the whole batch, which would make
    an image's result depend on its neighbours.
    """

    name = "cw"
    paper = "https://arxiv.org/abs/1608.04644"
    norm = "l2"
    minimises = True
    static_objective = "margin"
    adaptive_objectives = ("margin", "selective")

    binary_search_steps: Count = 9
    steps: Count = 1000
    learning_rate: Positive = 0.01
    initial_const: Positive = 1e-3
    kappa: NonNegative = 0.0
    """Margin at which the penalty ends, in logits."""
    target: Target = "auto"

    @property
    def passes(self) -> int:
        return self.binary_search_steps * self.steps

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        attack = L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.learning_rate,
            initial_const=self.initial_const,
            abort_early=False,
        )
        aimed = aim(objective.begin(), x, draws, self.target)
        surrogate = _Hinge(aimed, self.kappa).eval()
        if surrogate.by_features:
            with torch.no_grad():
                aimed.loss(x, record=False)  # chooses its guides
        model = foolbox.PyTorchModel(surrogate, bounds=(0, 1), device=x.device)
        criterion = _Zero(torch.zeros_like(objective.labels))
        x_adv: Images = attack.run(model, x, criterion)
        # Foolbox returns black images where it fails, and they may lie outside a given ball.
        good = criterion.reached & budget.contains(x, x_adv)
        return x_adv.where(per_image(good, x), x)


class _Hinge(nn.Module):
    """Two logits [max(0, kappa - margin), 0]: Foolbox's hinge on them is the one we want.

    Short of success an objective that is not the margin is climbed in its place. A detector whose
    score peaks at the border between classes would push the sum of both terms back from it.
    """

    def __init__(self, objective: Objective, kappa: float) -> None:
        super().__init__()
        self.objective, self.kappa = objective, kappa
        self.by_features = isinstance(objective, OBJECTIVES["matching"])

    def forward(self, x: Images) -> Tensor:
        seen = self.objective.query(x, features=self.by_features)
        margin = self.objective.evasion(seen)
        missing = self.kappa - margin
        if self.objective.name != "margin":
            missing = (self.kappa + _SLACK - self.objective.value(seen)).clamp_min(_SLACK)
        hinge = torch.where(margin >= self.kappa, 0.0, missing)
        return torch.stack([hinge, torch.zeros_like(hinge)], 1)


class _Zero(Misclassification):  # type: ignore[misc]  # Foolbox is untyped here
    """Success where the hinge is zero; remembers which images ever got there."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__(labels)
        self.reached = torch.zeros_like(labels, dtype=torch.bool)

    def __call__(self, perturbed: object, outputs: object) -> object:
        success = outputs[:, 0] <= 0  # type: ignore[index]  # an eagerpy tensor
        self.reached |= success.raw
        return success
