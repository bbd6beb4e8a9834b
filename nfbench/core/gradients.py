"""Objectives that combine the gradients of both goals: to be misclassified, and to look clean."""

import copy
from abc import abstractmethod
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.losses import Selective
from nfbench.core.objective import KAPPA, Objective, Step, gradient_or_zero
from nfbench.core.values import Images, Labels, Mask, per_image

TINY = 1e-30
"""Size below which a gradient has no direction."""


class TwoGradients(Objective):
    """Objectives that combine the gradients of both goals, which one loss cannot."""

    @abstractmethod
    def combine(self, fool: Tensor, hide: Tensor, margin: Tensor, rows: Tensor | None) -> Tensor:
        """The direction to step in.

        Args:
            fool: gradient that raises the class margin, (R, C, H, W).
            hide: gradient that lowers the detector's score, (R, C, H, W).
            margin: class margin, > 0 where the classifier is fooled; (R,).
            rows: positions in the batch.
        """

    def step(self, x: Images, rows: Tensor | None = None) -> Step:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            seen = self.query(x, rows)
            fooled = self._class_margin(seen.logits, rows)
            fool = torch.autograd.grad(fooled.sum(), x, retain_graph=True)[0]
            hide = -gradient_or_zero(self._suspicion(seen, rows), x)
        hide = hide.where(hide.isfinite(), 0)  # what is no number must not stop the other goal
        gradient = self.combine(fool, hide, fooled.detach(), rows)
        return Step(gradient, self.evasion(seen, rows).detach())


class Orthogonal(TwoGradients, Selective):
    """As `selective`, without giving up the other term: steps are made orthogonal to its gradient.

    Orthogonal PGD of Bryniarski et al. (2021). Guarded: where the two gradients are nearly parallel
    (|cos| > 0.9) nothing would be left of the step, and the plain selective gradient is taken.
    """

    name = "orthogonal"

    def combine(self, fool: Tensor, hide: Tensor, margin: Tensor, rows: Tensor | None) -> Tensor:
        return orthogonal_step(fool, hide, margin > KAPPA)


class Dual(TwoGradients):
    """Lowest suspicion subject to misclassification, by a multiplier for each image.

    g = mu n(grad A) - (1 - mu) n(grad S), A the class margin and S the suspicion, n(.) the gradient in
    units of its own size. From 1, mu falls by a fifth where the classifier is fooled and rises where it
    is not, so the point stays at the border of the wrong class and slides along it. Unlike a weighted
    sum it depends neither on the scale of the logits nor on that of the score.
    """

    name = "dual"
    rise: ClassVar[tuple[float, float]] = (1.2, 0.01)
    fall: ClassVar[float] = 0.8

    _mu: Tensor | None = None

    def begin(self) -> Self:
        fresh = copy.copy(self)
        fresh._mu = None
        return fresh

    def towards(self, targets: Labels) -> Self:
        return super().towards(targets).begin()

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        """For attacks that follow values, not gradients: the evasion margin."""
        return self.evasion(seen, rows)

    def combine(self, fool: Tensor, hide: Tensor, margin: Tensor, rows: Tensor | None) -> Tensor:
        if self._mu is None:
            self._mu = torch.ones(len(self.labels), device=fool.device)
        old = self._mu if rows is None else self._mu[rows]
        factor, offset = self.rise
        mu = torch.where(margin > 0, self.fall * old, (factor * old + offset).clamp_max(1))
        if rows is None:
            self._mu = mu
        else:
            self._mu = self._mu.index_copy(0, rows, mu)
        weight = per_image(mu.to(fool), fool)
        return weight * self._unit(fool) + (1 - weight) * self._unit(hide)

    def _unit(self, gradient: Tensor) -> Tensor:
        """Mean absolute entry 1 for linf, length 1 else; zero, and what is no number, stay zero."""
        flat = gradient.flatten(1)
        flat = flat.where(flat.isfinite(), 0)
        flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(TINY)  # no square underflows
        if self.norm == "linf":
            size = flat.abs().mean(1, keepdim=True)
        else:
            size = flat.square().sum(1, keepdim=True).sqrt()
        return (flat / size.clamp_min(TINY)).view_as(gradient)


def orthogonal_step(fool: Tensor, hide: Tensor, done: Mask, *, parallel: float = 0.9) -> Tensor:
    """Per image, the part of the gradient of the unmet goal that leaves the other unchanged.

    Args:
        fool: gradient that raises misclassification, (B, ...).
        hide: gradient that lowers the detector's score, (B, ...).
        done: whether the image is misclassified already, (B,).
        parallel: absolute cosine above which the gradient is left whole.
    """
    f, g = fool.flatten(1), hide.flatten(1)
    unit_f, unit_g = _direction(f), _direction(g)
    cosine = (unit_f * unit_g).sum(1, keepdim=True)
    one, other = torch.where(done[:, None], g, f), torch.where(done[:, None], unit_f, unit_g)
    along = (one * other).sum(1, keepdim=True).where(cosine.abs() <= parallel, 0.0)
    return (one - along * other).view_as(fool)


def _direction(gradient: Tensor) -> Tensor:
    """Rows of length 1, whatever their scale; zero stays zero. (B, D)"""
    largest = gradient.abs().amax(1, keepdim=True).clamp_min(TINY)
    return F.normalize(gradient / largest)
