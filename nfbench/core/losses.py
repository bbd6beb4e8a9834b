"""Objectives that are one number an image: losses to climb by their gradient or by their values."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.objective import KAPPA, Objective, Term
from nfbench.core.values import Images


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


class Lagrangian(CrossEntropy):
    """L_CE - gamma * penalty, gamma per image; the weighted sum of the NeuralFP paper.

    One-step attacks run through `variants`, a geometric grid of gamma, and the recorder keeps each
    image's best; others search gamma by bisection. Source: Dathathri et al. (2018), section 3.3,
    gamma in [1e-3, 1e4].
    """

    name = "lagrangian"
    grid: ClassVar[tuple[float, ...]] = (0.0, *(10.0**k for k in range(-3, 5)))
    bounds: ClassVar[tuple[float, float]] = (1e-3, 1e4)

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
        return loss - gamma * self.detector_term(seen, rows)

    def detector_term(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        """What gamma weighs: the penalty of the chosen class. (R,)"""
        return self._penalty(seen, rows, self.term)


class PaperLagrangian(Lagrangian):
    """L_CE - gamma * L_fp(x', y): the attack as the NeuralFP paper describes it, its weakness included.

    The term is what the defense trained on, squared and summed, of the true class, though the detector
    accepts any class; and the largest gamma that still fools the classifier is taken, not the one that
    hides best. Dathathri et al. (2018), section 3.3.
    """

    name = "paper"
    term: Term = "true"

    def variants(self) -> Iterator[Objective]:
        yield self

    def detector_term(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        if seen.losses is None:
            return super().detector_term(seen, rows)
        classes = self.labels if rows is None else self.labels[rows]
        return seen.losses.gather(1, classes[:, None])[:, 0]

    def loss(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Tensor:
        """What queries climb, as SPSA in the paper: the class margin in place of cross-entropy."""
        seen = self.query(x, rows, record=record)
        gamma = self.gamma
        if isinstance(gamma, Tensor) and rows is not None:
            gamma = gamma[rows]
        return self._class_margin(seen.logits, rows) - gamma * self.detector_term(seen, rows)


class ReleasedLagrangian(PaperLagrangian):
    """As `paper`, with two defects that the released code has: an attack that hardly adapts.

    Every image gets the batch's mean gamma, because a scalar loss is multiplied by a vector of them;
    and what is climbed by queries has its term at the clean image, where it is a constant, so that
    SPSA's mirrored differences cancel it. Protocol of the released attacks, 2018.
    """

    name = "released-code"

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        if not isinstance(self.gamma, Tensor):
            return super().value(seen, rows)
        return self.with_gamma(float(self.gamma.mean())).value(seen, rows)

    def loss(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Tensor:
        return self._class_margin(self.query(x, rows, record=record).logits, rows)
