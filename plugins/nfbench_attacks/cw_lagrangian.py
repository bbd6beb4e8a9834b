"""CW-FP: the two-variable CW attack of the NeuralFP paper, with weights searched image by image."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Protocol, Self, cast

import torch
from annotated_types import Ge, Le
from torch import Tensor

from nfbench import (
    OBJECTIVES,
    Attack,
    Budget,
    Count,
    Draws,
    Images,
    Mask,
    NonNegative,
    Objective,
    Observation,
    Positive,
    per_image,
)
from nfbench_attacks.targets import Target, aim

GAMMA2 = (1e-3, 1e4)
"""Bounds of gamma2; protocol of the paper, section 3.3."""
_STRIDE = 10.0
"""Factor between two trials of a weight until one is too small and one large enough."""
_INSIDE = 0.999999
"""Images are shrunk by it around grey, so that 0 and 1 have a finite place in tanh space."""
_STEEPEST = 1e15
"""Bound of an entry of a gradient, whose square Adam keeps in float32."""
_WIDTH = 64
"""Rows are padded to a multiple of it: what is left of a vector instruction rounds otherwise."""


class CWFingerprint(Attack):
    """Smallest L2 perturbation past classifier and detector. Dathathri et al. (2018), eq. (12).

    Minimises ||x' - x||^2 + gamma1 (L_CW + gamma2 L_det), where L_CW = max(0, kappa - class margin)
    and L_det is the detector's penalty: of the class aimed at, or the least. gamma1 is searched first,
    for the smallest that fools the classifier, then gamma2, for the smallest that is accepted too; the
    smallest perturbation that is both is kept. Under the objective `paper` gamma2 is the largest that
    fools the classifier, L_det is of the true class, and the lowest L_det is kept. Without a detector
    it is Carlini and Wagner's attack. No image is stopped early.
    """

    name = "cw-fp"
    paper = "https://arxiv.org/abs/1803.03870"
    norm = "l2"
    minimises = True
    static_objective = "margin"
    adaptive_objectives = ("lagrangian",)

    variant: Literal["search", "one"] = "search"
    """Search gamma2 for each image, or leave it at 1 and keep the smallest perturbation."""
    binary_search_steps: Count = 9
    """Trials of gamma1: by factors of ten until one is enough, then by bisection of its logarithm."""
    gamma2_steps: Count = 10
    """Trials of gamma2 after the first, as of gamma1. Paper: 5, appendix I: 10."""
    steps: Count = 1000
    learning_rate: Positive = 0.01
    initial_gamma1: Positive = 1e-3
    initial_gamma2: Annotated[float, Ge(GAMMA2[0]), Le(GAMMA2[1])] = 0.1
    """Only if it is searched."""
    kappa: NonNegative = 0.0
    """Class margin at which L_CW ends and a success begins, in logits."""
    target: Target = "auto"

    @property
    def passes(self) -> int:
        return self.steps * (self.binary_search_steps + self.gamma2_steps * (self.variant == "search"))

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        search = self.variant == "search"
        aimed = aim(objective.begin(), x, draws, self.target)
        problem = Problem(aimed, x, budget, self.kappa, search=search)
        first = self.initial_gamma2 if search else 1.0
        gamma2 = torch.full((len(x),), first, dtype=x.dtype, device=x.device)
        gamma1, last = self._search_gamma1(problem, gamma2)
        if objective.knows_detector and search:
            self._search_gamma2(problem, gamma1, gamma2, last)
        return problem.best

    def _search_gamma1(self, problem: Problem, gamma2: Tensor) -> tuple[Tensor, Outcome]:
        """The smallest gamma1 that is enough, else the largest tried, and what became of it. (B,)"""
        gamma1 = torch.full_like(gamma2, self.initial_gamma1)
        low, high = torch.zeros_like(gamma1), torch.full_like(gamma1, torch.inf)
        accepted = torch.zeros_like(gamma1, dtype=torch.bool)
        for _ in range(self.binary_search_steps):
            seen = self._descend(problem, gamma1, gamma2)
            enough = seen.fooled if self.variant == "search" else seen.succeeded
            high, low = gamma1.where(enough, high), low.where(enough, gamma1)
            accepted = seen.succeeded.where(enough, accepted)
            gamma1 = _between(low, high)
        return high.where(high.isfinite(), low), Outcome(accepted, high.isfinite())

    def _search_gamma2(self, problem: Problem, gamma1: Tensor, gamma2: Tensor, last: Outcome) -> None:
        """After trials at the first gamma2, whose outcome is `last`; the problem keeps the best."""
        least, most = GAMMA2
        low, high = torch.zeros_like(gamma2), torch.full_like(gamma2, torch.inf)
        if problem.as_paper:
            low, high = low + least, torch.full_like(gamma2, most)
        for _ in range(self.gamma2_steps):
            if problem.as_paper:
                low, high = gamma2.where(last.fooled, low), high.where(last.fooled, gamma2)
                gamma2 = _between(low, high)
            else:
                # Neither accepted so far nor misclassified: as much weight on the detector, and more
                # on the classifier.
                lost = ~last.fooled & high.isinf()
                high = gamma2.where(last.succeeded, high)
                low = low.where(last.succeeded | lost, gamma2)
                gamma1 = torch.where(lost, gamma1 * _STRIDE, gamma1)
                gamma2 = torch.where(lost, gamma2 / _STRIDE, _between(low, high)).clamp(least, most)
            last = self._descend(problem, gamma1, gamma2)

    def _descend(self, problem: Problem, gamma1: Tensor, gamma2: Tensor) -> Outcome:
        """One run of Adam from the image itself, and how it went."""
        place = problem.start.clone()
        optimizer = torch.optim.Adam([place], lr=self.learning_rate)
        fooled = torch.zeros_like(gamma1, dtype=torch.bool)
        succeeded = fooled.clone()
        for _ in range(self.steps):
            place.grad, seen = problem.gradient(place, gamma1, gamma2)
            fooled, succeeded = fooled | seen.fooled, succeeded | seen.succeeded
            optimizer.step()
        return Outcome(succeeded, fooled)


class CWFingerprintOne(CWFingerprint):
    """The second variant of eq. (12): gamma2 stays 1 and the smallest perturbation is kept."""

    name = "cw-fp-one"

    variant: Literal["search", "one"] = "one"
    """Search gamma2 for each image, or leave it at 1 and keep the smallest perturbation."""


def _between(low: Tensor, high: Tensor) -> Tensor:
    """The geometric mean of weights that are too small and large enough; beyond what is known else."""
    middle = torch.where(low == 0, high / _STRIDE, (low * high).sqrt())
    return torch.where(high.isinf(), low * _STRIDE, middle)


class Outcome(NamedTuple):
    """Whether each image succeeded, and whether it was misclassified at least. (B,)"""

    succeeded: Mask
    fooled: Mask


class _Weighed(Protocol):
    """What a Lagrangian objective offers besides what every objective does."""

    def with_gamma(self, gamma: float, term: str) -> Self: ...

    def detector_term(self, seen: Observation) -> Tensor: ...


class Problem:
    """What is minimised for a batch of images, in tanh space, and the best image of each so far."""

    def __init__(
        self, objective: Objective, x: Images, budget: Budget, kappa: float, *, search: bool
    ) -> None:
        self.objective, self.x, self.budget, self.kappa = objective, x, budget, kappa
        self.as_paper = isinstance(objective, OBJECTIVES["paper"])
        self._by_term = self.as_paper and search
        term = "min" if objective.targets is None else "target"
        if self.as_paper:
            self._weighed = cast("_Weighed", objective)
        else:
            recast = cast("_Weighed", objective.recast(OBJECTIVES["lagrangian"]))
            self._weighed = recast.with_gamma(1.0, term)
        flat = x.flatten(1)
        padded = torch.nn.functional.pad(flat, (0, -flat.shape[1] % _WIDTH), value=0.5)
        self.start = (_INSIDE * (2 * padded - 1)).atanh()  # (B, D)
        self._origin = (self.start.tanh() + 1) / 2
        self.best = x.clone()
        self._lowest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)

    def gradient(self, place: Tensor, gamma1: Tensor, gamma2: Tensor) -> tuple[Tensor, Outcome]:
        """Gradient of each image's loss at its place in tanh space, (B, D), and what became of it."""
        place = place.detach().requires_grad_()
        with torch.enable_grad():
            moved = (place.tanh() + 1) / 2
            x = moved[:, : self.x[0].numel()].reshape(self.x.shape)
            seen = self.objective.query(x)
            margin = self._class_margin(seen)
            missing = (self.kappa - margin).clamp_min(0)
            term = None
            if self.objective.knows_detector:
                term = self._weighed.detector_term(seen)
                missing = missing + gamma2 * term
            loss = (moved - self._origin).square().sum(1) + gamma1 * missing
            gradient = torch.autograd.grad(loss.sum(), place)[0]
        fooled = (margin >= self.kappa) & (margin > 0)
        accepted = fooled if self.as_paper else fooled & (self.objective.evasion(seen) > 0)
        self._keep(x.detach(), accepted, term)
        steep = gradient.nan_to_num(0.0, _STEEPEST, -_STEEPEST).clamp(-_STEEPEST, _STEEPEST)
        return steep, Outcome(accepted, fooled)

    @torch.no_grad()
    def _keep(self, x: Images, good: Mask, term: Tensor | None) -> None:
        value = self.budget.size(self.x, x)
        if self._by_term and term is not None:
            value = term.to(value)
        better = good & self.budget.contains(self.x, x) & (value < self._lowest)
        self._lowest = value.where(better, self._lowest)
        self.best = x.where(per_image(better, x), self.best)

    def _class_margin(self, seen: Observation) -> Tensor:
        """The logit that is to win above the best other one, or the reverse of the label's. (B,)"""
        targets = self.objective.targets
        classes = (self.objective.labels if targets is None else targets)[:, None]
        lead = seen.logits.gather(1, classes)[:, 0] - seen.logits.scatter(1, classes, -torch.inf).amax(1)
        return -lead if targets is None else lead
