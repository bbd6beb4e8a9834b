"""The objective: everything an attack is told. It never sees the victim."""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.errors import ContractViolation, UnknownToAttacker
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Images, Labels, Logits, Mask, Norm, Split, per_image
from nfbench.core.victim import Alarm

Term = Literal["true", "target", "predicted", "min"]
Kind = TypeVar("Kind", bound="Objective")
KAPPA = 0.01
"""Class margin at which an image counts as fooled by objectives that then turn to the detector."""


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
    def norm(self) -> Norm:
        """The norm that perturbations are to be small in."""
        return self._recorder.budget.norm

    @property
    def originals(self) -> Images:
        """The images under attack, unharmed. (B, C, H, W)"""
        return self._recorder.originals

    @property
    def guides(self) -> Split | None:
        """Training images that the attacker sees classified correctly and, if he can, accepted."""
        return self._recorder.guides

    def queries_left(self, rows: Tensor | None = None) -> int | None:
        """How often each of the images may still be asked about; None: without limit."""
        return self._recorder.left(rows)

    def stage(self, name: str) -> None:
        """Name what follows, so that each image's result says which part of the attack found it."""
        self._recorder.stage(name)

    @property
    def finished(self) -> Mask:
        """Images that may leave, (B,); leaving earlier would bias AUROC.

        Misclassified and, where the detector is known, scored at or below the clean median.
        """
        return self._recorder.finished

    @property
    def evaded(self) -> Mask:
        """Images with a recorded point that is misclassified and accepted. (B,)"""
        return self._recorder.evaded

    def dismiss(self, images: Mask) -> None:
        """Count images as `finished`, for stages that are not meant for them. (B,)"""
        self._recorder.dismiss(images)

    @property
    def on_replicas(self) -> bool:
        """Whether replicas answer, and the result has to carry over to a victim nobody has asked."""
        return self._recorder.replicas

    def query(
        self, x: Images, rows: Tensor | None = None, *, record: bool = True, features: bool = False
    ) -> Observation:
        """The victim's answer as far as the threat model grants it; the one way to the victim."""
        return self._recorder.query(x, rows, record=record, features=features)

    def towards(self, targets: Labels) -> Self:
        """The same objective, aiming at one wrong class an image. (B,) int64

        Raises:
            ContractViolation: if a target is the image's own class.
        """
        if bool((targets.to(self.labels) == self.labels).any()):
            raise ContractViolation(
                "an attack aims at an image's own class; targets must be wrong classes"
            )
        aimed = copy.copy(self)
        aimed.targets = targets.to(self.labels)
        return aimed

    def begin(self) -> Self:
        """The same objective at the start of a run; what it has learnt of earlier runs is forgotten."""
        return self

    def prepare(self) -> None:
        """Look at what must be known before the first step, for every image of the batch.

        Otherwise done at the first step; who lets images leave calls it before, so that an image's
        count of passes does not depend on its neighbours.
        """

    def recast(self, kind: type[Kind]) -> Kind:
        """Another objective on the same images, for attacks that try several."""
        return kind(self._recorder, self.labels, self._alarm, weight=self.weight, targets=self.targets)

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
            value = self.value(seen, rows).sum()
            gradient = torch.autograd.grad(value, x, retain_graph=self.knows_detector)[0]
            gradient = self._mended(gradient, x, seen, rows)
        return Step(gradient, self.evasion(seen, rows).detach())

    def _mended(self, gradient: Tensor, x: Images, seen: Observation, rows: Tensor | None) -> Tensor:
        """The class margin's own gradient where the detector's is no number and images don't fool yet.

        No weight makes such a slope vanish, not even 0.
        """
        if not self.knows_detector:
            return gradient
        fooled = self._class_margin(seen.logits, rows)
        broken = ~gradient.isfinite().flatten(1).all(1) & (fooled <= KAPPA)
        if not broken.any():
            return gradient
        return torch.autograd.grad(fooled.sum(), x)[0].where(per_image(broken, x), gradient)

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
        hidden = hidden + (hidden == 0) * torch.finfo(hidden.dtype).tiny  # at the threshold: accepted
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


def gradient_or_zero(values: Tensor, x: Images, *, keep: bool = False) -> Tensor:
    """Gradient of the sum of `values`, zero where they do not depend on `x` at all."""
    if not values.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(values.sum(), x, retain_graph=keep, materialize_grads=True)[0]
