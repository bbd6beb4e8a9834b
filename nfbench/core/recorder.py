"""The recorder: the one way to the victim. It counts, remembers, and withholds."""

from collections.abc import Callable

import torch
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.errors import ContractViolation, UnknownToAttacker
from nfbench.core.values import Access, Budget, Images, Labels, Mask, per_image
from nfbench.core.victim import Victim


class Recorder:
    """Answers queries about a batch of images under attack and keeps each one's best point.

    A point counts if it lies in the ball and the box, is misclassified, and was queried with
    `record=True`. Among those the one of lowest detector score is kept (S*); where no detector is
    revealed nothing is kept but whether the image has been misclassified. Where the detector is
    stochastic a point has the higher score of two draws, so that no lucky draw is kept for a good
    point. It is the harness's: the only state there is, and nothing an attack can reach into.
    """

    def __init__(
        self,
        victim: Victim,
        x: Images,
        labels: Labels,
        budget: Budget,
        access: Access = Access.GRADIENT,
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self._observe, self._alarm = victim.observe, victim.alarm
        self._detector = victim.detector
        if self._detector is not None:
            self._detector.draw = 0
        self._x, self._labels, self._budget = x, labels, budget
        self._tick = tick or (lambda _: None)
        self.access, self.num_classes = access, victim.classifier.num_classes
        self.forward = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.backward = torch.zeros_like(self.forward)
        self.best = x.clone()
        self.evasion_score = torch.full((len(x),), torch.inf, device=x.device)
        self.finished: Mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def query(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Observation:
        """What the threat model lets an attacker see of the victim at `x`.

        Args:
            x: candidates for the images at `rows`; (R, C, H, W).
            rows: which images of the batch they belong to, (R,) int64; all of them if None. May
                repeat only where nothing is recorded.
            record: False for probes that only serve to estimate something.

        Raises:
            ContractViolation: if rows of a query that is recorded repeat.
            UnknownToAttacker: when a gradient is taken that the threat model withholds.
        """
        if record and rows is not None and len(rows.unique()) < len(rows):
            raise ContractViolation("rows of a query repeat; only one with record=False may repeat them")
        self._count(self.forward, rows, len(x))
        if self._detector is not None and self._detector.stochastic:
            self._detector.draw += 1  # 0 is the draw that scores are reported from
        seen = x
        if x.requires_grad and self.access is Access.GRADIENT:
            seen = x.view_as(x)
            seen.register_hook(lambda _: self._count(self.backward, rows, len(x)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.access is Access.GRADIENT):
            observation = self._observe(seen)
        if record:
            self._remember(x.detach(), rows, observation)
        return self._reveal(observation, x)

    @torch.no_grad()
    def _remember(self, x: Images, rows: Tensor | None, seen: Observation) -> None:
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        wrong = seen.logits.argmax(1) != self._labels[rows]
        counts = wrong & self._budget.contains(self._x[rows], x)
        if seen.score is None or self._alarm is None:
            self.finished[rows] |= counts
            return
        lowest = seen.score.to(self.evasion_score, copy=True)
        better = counts & (lowest < self.evasion_score[rows])
        if self._detector is not None and self._detector.stochastic:
            self._detector.draw += 1  # needed or not: what an image gets is not up to its neighbours
            if better.any():
                lowest[better] = torch.maximum(lowest[better], self._again(x[better], rows[better]))
                better &= lowest < self.evasion_score[rows]
        if better.any():
            self.evasion_score[rows] = lowest.where(better, self.evasion_score[rows])
            self.best[rows] = x.where(per_image(better, x), self.best[rows])
            self.finished |= self.evasion_score <= self._alarm.median

    def _again(self, x: Images, rows: Tensor) -> Tensor:
        """Scores by the draw in hand; infinite where that gets the class right. (R,)"""
        self._count(self.forward, rows, len(x))
        seen = self._observe(x)
        assert seen.score is not None
        wrong = seen.logits.argmax(1) != self._labels[rows]
        return seen.score.to(self.evasion_score).where(wrong, torch.inf)

    def _reveal(self, seen: Observation, x: Images) -> Observation:
        if self.access is Access.GRADIENT:
            return seen
        if self.access is Access.DECISION:
            classes = torch.nn.functional.one_hot(seen.logits.argmax(1), seen.logits.shape[1])
            score = seen.score
            if score is not None:
                score = None if self._alarm is None else (score > self._alarm.threshold).to(score)
            seen = Observation(classes.to(seen.logits), score)
        score = None if seen.score is None else _withheld(seen.score, x)
        penalties = None if seen.penalties is None else _withheld(seen.penalties, x)
        return Observation(_withheld(seen.logits, x), score, penalties)

    def _count(self, counter: Tensor, rows: Tensor | None, size: int) -> None:
        if rows is None:
            counter += 1
        else:
            counter.index_add_(0, rows, torch.ones_like(rows))
        if counter is self.forward:
            self._tick(size)


def _withheld(values: Tensor, x: Images) -> Tensor:
    out: Tensor = _Withheld.apply(values.detach(), x)
    return out


class _Withheld(torch.autograd.Function):
    """The identity on `values`, with a backward pass that refuses."""

    @staticmethod
    def forward(ctx: object, values: Tensor, x: Images) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[None, None]:
        raise UnknownToAttacker("gradients are withheld: this threat model answers queries only")
