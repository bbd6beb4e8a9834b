"""The objective: everything an attack is told. It never sees the victim."""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Images, Labels, Logits, Mask
from nfbench.core.victim import Alarm

Term = Literal["true", "target", "predicted", "min"]

TINY = 1e-30
"""Length below which a gradient has no direction."""
KAPPA = 0.01
"""Class margin at which `selective` and `orthogonal` turn to the detector."""


class Step(NamedTuple):
    """What one gradient query tells an attack."""

    gradient: Tensor  # (R, C, H, W)
    margin: Tensor  # (R,) > 0: succeeded


class Objective:
    """What to climb, one number an image, and whether an image may rest.

    Attacks that follow a gradient call `gradient` or `step`; attacks that query call `loss`; attacks
    that minimise a norm call `margin`, which is positive exactly where the attack has succeeded. Every
    method takes candidates `x` and `rows`, the positions in the batch that they belong to (all if
    None), so that an attack may drop images that are done.
    """

    name: ClassVar[str]

    def __init__(
        self,
        recorder: Recorder,
        labels: Labels,
        alarm: Alarm | None = None,
        *,
        weight: float = 1.0,
        targets: Labels | None = None,
    ) -> None:
        self._recorder, self._alarm = recorder, alarm
        self.labels, self.targets = labels, targets
        self.weight = weight
        """Logits that one unit of suspicion is worth in `margin`."""

    @property
    def access(self) -> Access:
        return self._recorder.access

    @property
    def num_classes(self) -> int:
        return self._recorder.num_classes

    @property
    def knows_detector(self) -> bool:
        """Whether the attacker sees the detector."""
        return self._alarm is not None

    @property
    def finished(self) -> Mask:
        """Images that may leave, (B,); leaving earlier would bias AUROC.

        Misclassified and, where the detector is known, scored at or below the clean median.
        """
        return self._recorder.finished

    def query(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Observation:
        """The victim's answer as far as the threat model grants it; the one way to the victim."""
        return self._recorder.query(x, rows, record=record)

    def towards(self, targets: Labels) -> Self:
        """The same objective, aiming at one wrong class an image. (B,) int64"""
        aimed = copy.copy(self)
        aimed.targets = targets.to(self.labels)
        return aimed

    def variants(self) -> Iterator["Objective"]:
        """The members of a family to try in turn, for attacks too short to search; itself if alone."""
        yield self

    @torch.no_grad()
    def runner_up(self, x: Images) -> Labels:
        """The most likely wrong class of each image. (B,)"""
        logits = self.query(x, record=False).logits
        return logits.scatter(1, self.labels[:, None], -torch.inf).argmax(1)

    def loss(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Tensor:
        """What to climb, one value per candidate. (R, C, H, W) -> (R,)"""
        return self.value(self.query(x, rows, record=record), rows)

    @abstractmethod
    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        """`loss` computed from an observation. (R,)"""

    def margin(self, x: Images, rows: Tensor | None = None) -> Tensor:
        """Evasion margin, > 0 exactly where the attack has succeeded as far as it can know. (R,)"""
        return self.evasion(self.query(x, rows), rows)

    def gradient(self, x: Images, rows: Tensor | None = None) -> Tensor:
        """Gradient of each candidate's loss with respect to that candidate. Same shape as `x`."""
        return self.step(x, rows).gradient

    def step(self, x: Images, rows: Tensor | None = None) -> Step:
        """Gradient and evasion margin of each candidate, from one pass."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            seen = self.query(x, rows)
            gradient = torch.autograd.grad(self.value(seen, rows).sum(), x)[0]
        return Step(gradient, self.evasion(seen, rows).detach())

    def settled(self, step: Step, rows: Tensor | None = None) -> Mask:
        """Candidates that an attack may stop at: successes, or `finished` where S* still counts. (R,)"""
        if not self.knows_detector:
            return step.margin > 0
        return self.finished if rows is None else self.finished[rows]

    def evasion(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        """The reject-class margin of Carlini & Wagner (2017), arXiv:1705.07263, made additive.

        With a logit z_K = max z + w s appended for rejection, s the suspicion, this is the best
        wrong class (or the target) against all that must not win. (R,)
        """
        fooled = self._class_margin(seen.logits, rows)
        if self._alarm is None:
            return fooled
        hidden = -self.weight * self._suspicion(seen, rows)
        return torch.where(fooled > 0, torch.minimum(fooled, hidden), fooled + hidden.clamp_max(0))

    def _class_margin(self, logits: Logits, rows: Tensor | None) -> Tensor:
        """z_t - max_{l != t} z_l, or max_{l != y} z_l - z_y without a target. (R,)"""
        classes = self.labels if self.targets is None else self.targets
        classes = (classes if rows is None else classes[rows])[:, None]
        one = logits.gather(1, classes)[:, 0]
        others = logits.scatter(1, classes, -torch.inf).amax(1)
        return others - one if self.targets is None else one - others

    def _suspicion(self, seen: Observation, rows: Tensor | None) -> Tensor:
        """Detector score above the threshold in clean interquartile ranges; > 0 is rejected. (R,)

        Aiming at a class, it is that class's penalty, which is never below the score.
        """
        alarm = self._known_alarm()
        term = seen.score if self.targets is None else self._penalty(seen, rows, "target")
        assert term is not None
        return (term - alarm.threshold) / alarm.unit

    def _penalty(self, seen: Observation, rows: Tensor | None, term: Term) -> Tensor:
        """The detector term of one class: the true, target or predicted one, or the least. (R,)"""
        if seen.penalties is None or seen.score is None:
            assert seen.score is not None
            return seen.score
        if term == "min":
            return seen.score
        if term == "predicted":
            classes = seen.logits.argmax(1)
        else:
            chosen = self.targets if term == "target" and self.targets is not None else self.labels
            classes = chosen if rows is None else chosen[rows]
        return seen.penalties.gather(1, classes[:, None])[:, 0]

    def _known_alarm(self) -> Alarm:
        if self._alarm is None:
            raise UnknownToAttacker(f"{self.name} needs the detector, which is not revealed here")
        return self._alarm


class CrossEntropy(Objective):
    """-log p_y, or log p_t towards a target: the loss of the FGSM, BIM and PGD papers."""

    name = "cross-entropy"

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        classes = self.labels if self.targets is None else self.targets
        classes = classes if rows is None else classes[rows]
        loss = F.cross_entropy(seen.logits, classes, reduction="none")
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
