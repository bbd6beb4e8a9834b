"""The objectives there are: what a loss, a margin and two gradients can be made into."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.objective import Objective, Step, Term
from nfbench.core.values import Images, Mask

TINY = 1e-30
"""Size below which a gradient has no direction."""
KAPPA = 0.01
"""Class margin at which `selective` and `orthogonal` turn to the detector."""


class CrossEntropy(Objective):
    """-log p_y, or log p_t towards a target: the loss of the FGSM, BIM and PGD papers."""

    name = "cross-entropy"

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        classes = self.labels if self.targets is None else self.targets
        classes = classes if rows is None else classes[rows]
        own = seen.logits.gather(1, classes[:, None])[:, 0]
        others = seen.logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)
        # Equals F.cross_entropy, whose gradient is exactly 0 where the classifier is very sure.
        loss = F.softplus(others - own)
        return loss if self.targets is None else -loss


class Margin(Objective):
    """The evasion margin itself; the class margin where no detector is revealed."""

    name = "margin"

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        return self.evasion(seen, rows)


class Selective(Objective):
    """Fool the classifier first, then hide: each image climbs one term at a time.

    Selective PGD of Bryniarski et al. (2021), https://arxiv.org/abs/2106.15023.
    """

    name = "selective"

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        fooled = self._class_margin(seen.logits, rows)
        return torch.where(fooled.detach() > KAPPA, -self._suspicion(seen, rows), fooled)


class Orthogonal(Selective):
    """As `selective`, without giving up the other term: steps are made orthogonal to its gradient.

    Orthogonal PGD of Bryniarski et al. (2021). Guarded: where the two gradients are nearly parallel
    (|cos| > 0.9) nothing would be left of the step, and the plain selective gradient is taken.
    """

    name = "orthogonal"

    def step(self, x: Images, rows: Tensor | None = None) -> Step:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            seen = self.query(x, rows)
            fooled = self._class_margin(seen.logits, rows)
            fool = torch.autograd.grad(fooled.sum(), x, retain_graph=True)[0]
            hide = -_gradient_or_zero(self._suspicion(seen, rows), x)
        gradient = orthogonal_step(fool, hide, fooled.detach() > KAPPA)
        return Step(gradient, self.evasion(seen, rows).detach())


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


class Lagrangian(CrossEntropy):
    """L_CE - gamma * penalty, gamma per image; the weighted sum of the NeuralFP paper.

    For one-step attacks: `variants` runs through a geometric grid of gamma and the recorder keeps
    each image's best. Source: protocol of Dathathri et al. (2018), section 3.3, gamma in [1e-3, 1e4].
    """

    name = "lagrangian"
    grid: ClassVar[tuple[float, ...]] = (0.0, *(10.0**k for k in range(-3, 5)))

    gamma: float | Tensor = 1.0
    """Weight of the detector term; a number, or one for each image of the batch."""
    term: Term = "min"

    def with_gamma(self, gamma: float | Tensor, term: Term | None = None) -> Self:
        """The same objective with another weight and, if given, another detector term."""
        changed = copy.copy(self)
        changed.gamma, changed.term = gamma, term or self.term
        return changed

    def variants(self) -> Iterator[Objective]:
        for gamma in self.grid:
            yield self.with_gamma(gamma)

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        loss = super().value(seen, rows)
        gamma = self.gamma
        if isinstance(gamma, Tensor):
            gamma = gamma if rows is None else gamma[rows]
        elif gamma == 0:
            return loss
        self._known_alarm()
        return loss - gamma * self._penalty(seen, rows, self.term)


def _gradient_or_zero(values: Tensor, x: Images) -> Tensor:
    """Gradient of the sum of `values`, zero where they do not depend on `x` at all."""
    if not values.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(values.sum(), x, materialize_grads=True)[0]


OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind for kind in (CrossEntropy, Margin, Selective, Orthogonal, Lagrangian)
}
