"""The recorder: the one way to the victim. It counts, remembers, and withholds."""

from collections.abc import Callable

import torch
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.errors import ContractViolation, UnknownToAttacker
from nfbench.core.values import Access, Budget, Images, Labels, Mask, Split, per_image
from nfbench.core.victim import Victim

AGES = 256
"""Columns of `history`: passes from 2^(k / 8) to below 2^((k + 1) / 8) belong to column k."""
LOOKS = 8
"""Draws of a stochastic detector by which a point is looked at that would finish its image."""


class Recorder:
    """Answers queries about a batch of images under attack and keeps each one's best point.

    A point counts if it lies in the ball and the box, is misclassified, and was queried with
    `record=True`. Among those the one of lowest detector score is kept (S*); where no detector is
    revealed nothing is kept but whether the image has been misclassified, and where only decisions
    are, the first point that is accepted, or a nearer one. Where the detector is stochastic a point
    has the higher score of two draws, or the highest of eight if that would finish the image, so that
    no lucky draw is kept for a good point. It is the harness's: the only state there is, and nothing
    an attack can reach into.
    """

    def __init__(  # noqa: PLR0913  # what is known, what is granted, and who watches
        self,
        victim: Victim,
        x: Images,
        labels: Labels,
        budget: Budget,
        access: Access = Access.GRADIENT,
        *,
        queries: int | None = None,
        replicas: bool = False,
        guides: Split | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self._victim, self._alarm, self._detector = victim, victim.alarm, victim.detector
        if self._detector is not None:
            self._detector.draw = 0
        self._x, self._labels, self.budget = x.clone(), labels.clone(), budget
        self._tick = tick or (lambda _: None)
        self.access, self.num_classes = access, victim.classifier.num_classes
        self.queries, self.guides, self.replicas = queries, guides, replicas
        self.forward = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.backward = torch.zeros_like(self.forward)
        self._asked = torch.zeros_like(self.forward)
        self._blocks = torch.zeros_like(self.forward)  # of draws that an image has met
        self.best = x.clone()
        self.evasion_score = torch.full((len(x),), torch.inf, device=x.device)
        self.finished: Mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.stages: list[str] = [""]
        self.winner = torch.full_like(self.forward, -1)
        # What S* was after so many passes, by eighths of an octave; the lowest of the columns so far.
        self.history = torch.full((len(x), AGES), torch.inf, device=x.device)

    @property
    def originals(self) -> Images:
        """The images under attack, a copy. (B, C, H, W)"""
        return self._x.clone()

    def stage(self, name: str) -> None:
        """What the queries that follow belong to; `winner` says which stage found each best point."""
        if name not in self.stages:
            self.stages.append(name)
        self._stage = self.stages.index(name)

    _stage = 0

    @property
    def evaded(self) -> Mask:
        """Images with a point that is misclassified and accepted at the 5 % threshold. (B,)"""
        if self._alarm is None:
            return self.finished.clone()
        decided = self.access is Access.DECISION
        return self.evasion_score <= (0.0 if decided else self._alarm.threshold)

    def dismiss(self, images: Mask) -> None:
        """Let images leave although more could be had of them. (B,)"""
        self.finished |= images

    def left(self, rows: Tensor | None = None) -> int | None:
        """How often each of the images may still be asked about; None: without limit."""
        if self.queries is None:
            return None
        asked = self._asked if rows is None else self._asked[rows]
        return self.queries - int(asked.max()) if len(asked) else self.queries

    def query(
        self, x: Images, rows: Tensor | None = None, *, record: bool = True, features: bool = False
    ) -> Observation:
        """What the threat model lets an attacker see of the victim at `x`.

        Args:
            x: candidates for the images at `rows`; (R, C, H, W).
            rows: which images of the batch they belong to, (R,) int64; all of them if None. May
                repeat only where nothing is recorded.
            record: False for probes that only serve to estimate something.
            features: also what the detector looks at; only where gradients are granted.

        Raises:
            ContractViolation: if rows of a query that is recorded repeat.
            UnknownToAttacker: when a gradient is taken that the threat model withholds, or more is
                asked than it grants.
        """
        if record and rows is not None and len(rows.unique()) < len(rows):
            raise ContractViolation("rows of a query repeat; only one with record=False may repeat them")
        if features and self.access < Access.GRADIENT:
            raise UnknownToAttacker("features are withheld: this threat model answers queries only")
        self._ask(rows, len(x))
        if self._detector is not None and self._detector.stochastic:
            # By how often an image was asked about, not by calls; 0 is the draw reported from.
            about = slice(None) if rows is None else rows
            block = int(self._blocks[about].max()) if len(x) else 0
            self._detector.draw, self._blocks[about] = 1 + LOOKS * block, block + 1
        seen = x
        if x.requires_grad and self.access is Access.GRADIENT:
            seen = x.view_as(x)
            seen.register_hook(lambda _: self._count(self.backward, rows, len(x)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.access is Access.GRADIENT):
            observation = self._victim.inspect(seen) if features else self._victim.observe(seen)
        observation = self._grant(observation)
        if record:
            self._remember(x.detach(), rows, observation)
        return self._withhold(observation, x)

    def _ask(self, rows: Tensor | None, size: int) -> None:
        asked = self._asked.clone()
        self._count(asked, rows, size)
        if self.queries is not None and int(asked.max()) > self.queries:
            raise UnknownToAttacker(f"no more than {self.queries} queries an image are answered here")
        self._asked = asked
        self._count(self.forward, rows, size)

    @torch.no_grad()
    def _remember(self, x: Images, rows: Tensor | None, seen: Observation) -> None:
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        wrong = seen.logits.argmax(1) != self._labels[rows]
        counts = wrong & self.budget.contains(self._x[rows], x)
        if seen.score is None or self._alarm is None:
            self.finished[rows] |= counts
            return
        lowest = seen.score.to(self.evasion_score, copy=True)
        better = counts & self._improves(x, rows, lowest)
        enough = 0.0 if self.access is Access.DECISION else self._alarm.median
        if self._detector is not None and self._detector.stochastic:
            for look in range(1, LOOKS):
                self._detector.draw += 1
                asked = better if look == 1 else better & (lowest <= enough)
                if asked.any():
                    lowest[asked] = torch.maximum(lowest[asked], self._again(x[asked], rows[asked]))
                    better &= self._improves(x, rows, lowest)
        if better.any():
            self.evasion_score[rows] = lowest.where(better, self.evasion_score[rows])
            self.best[rows] = x.where(per_image(better, x), self.best[rows])
            self.winner[rows] = self.winner[rows].where(~better, self._stage)
            self.finished |= self.evasion_score <= enough
        age = column(self.forward[rows])
        self.history[rows, age] = self.evasion_score[rows].to(self.history)

    def _improves(self, x: Images, rows: Tensor, score: Tensor) -> Mask:
        """Whether points are better than the best so far; of two equal decisions, the nearer. (R,)"""
        best = self.evasion_score[rows]
        if self.access > Access.DECISION:
            return score < best
        size = self.budget.size
        nearer = size(self._x[rows], x) < size(self._x[rows], self.best[rows])
        return (score < best) | ((score == best) & score.isfinite() & nearer)

    def _again(self, x: Images, rows: Tensor) -> Tensor:
        """Scores by the draw in hand; infinite where that gets the class right. (R,)"""
        self._count(self.forward, rows, len(x))
        seen = self._grant(self._victim.observe(x))
        assert seen.score is not None
        wrong = seen.logits.argmax(1) != self._labels[rows]
        return seen.score.to(self.evasion_score).where(wrong, torch.inf)

    def _grant(self, seen: Observation) -> Observation:
        """As much of what was seen as the threat model grants: decisions in place of numbers."""
        if self.access > Access.DECISION:
            return seen
        classes = torch.nn.functional.one_hot(seen.logits.argmax(1), seen.logits.shape[1])
        score = None
        if seen.score is not None and self._alarm is not None:
            score = (seen.score > self._alarm.threshold).to(seen.score)
        return Observation(classes.to(seen.logits), score)

    def _withhold(self, seen: Observation, x: Images) -> Observation:
        """The same values, without gradients where those are not granted."""
        if self.access is Access.GRADIENT:
            return seen
        logits, *others = (None if value is None else _withheld(value, x) for value in seen)
        assert logits is not None
        return Observation(logits, *others)

    def _count(self, counter: Tensor, rows: Tensor | None, size: int) -> None:
        if rows is None:
            counter += 1
        else:
            counter.index_add_(0, rows, torch.ones_like(rows))
        if counter is self.forward:
            self._tick(size)


def column(passes: Tensor) -> Tensor:
    """Where `history` keeps what was known after so many passes, (B,) int64."""
    return (8 * passes.clamp_min(1).double().log2()).long().clamp_max(AGES - 1)


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
