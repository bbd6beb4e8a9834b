"""Matching: making an image look to the detector as an accepted image of another class does."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor

from nfbench.core.defense import Observation
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.objective import Objective, Step, gradient_or_zero
from nfbench.core.values import Images, Labels, Mask


class Matching(Objective):
    """Minus the distance, in what the detector looks at, to a guide: a clean image of a wrong class.

    Logit matching of Tramer et al. (2020), arXiv:2002.08347. A guide is the `rank`-th nearest in
    pixels among the accepted ones; distances are in units of the guide's own size. Of an image for
    which there is none it is the evasion margin.
    """

    name = "matching"
    ranks: ClassVar[int] = 3

    rank: int = 0
    _features: Tensor | None = None
    """What the detector sees of each image's guide; None before the first step, and without guides."""
    _alone: Mask
    """Images that no guide is of another class than, known with `_features`. (B,)"""

    def begin(self) -> Self:
        fresh = copy.copy(self)
        fresh._features = None
        return fresh

    def towards(self, targets: Labels) -> Self:
        return super().towards(targets).begin()

    def variants(self) -> Iterator[Objective]:
        for rank in range(self.ranks):
            chosen = self.begin()
            chosen.rank = rank
            yield chosen

    def aim(self) -> Images:
        """The guide of each image of the batch, looked at. (B, C, H, W)"""
        chosen = self._nearest()
        assert self.guides is not None
        self._alone = ~(self.guides.y != self.labels[:, None]).any(1)
        with torch.no_grad():
            self._features = self.query(chosen, record=False, features=True).features
        return chosen

    def _nearest(self) -> Images:
        guides, x = self.guides, self.originals
        if guides is None or not len(guides):
            raise UnknownToAttacker("there is no clean image of another class to look like")
        wrong = guides.y != self.labels[:, None]
        wanted = wrong if self.targets is None else guides.y == self.targets[:, None]
        wanted = wanted.where(wanted.any(1, keepdim=True), wrong)
        order = guides.nearest_first(x, wanted)
        ranks = (wanted.sum(1) - 1).clamp(0, self.rank)  # the last where there are not so many
        return guides.x[order.gather(1, ranks[:, None])[:, 0]]

    def value(self, seen: Observation, rows: Tensor | None = None) -> Tensor:
        if self._features is None:
            return self.evasion(seen, rows)
        assert seen.features is not None
        wanted = self._features if rows is None else self._features[rows]
        size = wanted.square().sum(1).clamp_min(1e-12)
        likeness = -(seen.features - wanted).square().sum(1) / size
        alone = self._alone if rows is None else self._alone[rows]
        return self.evasion(seen, rows).where(alone, likeness) if alone.any() else likeness

    def loss(self, x: Images, rows: Tensor | None = None, *, record: bool = True) -> Tensor:
        self.prepare()
        return self.value(self.query(x, rows, record=record, features=self._features is not None), rows)

    def step(self, x: Images, rows: Tensor | None = None) -> Step:
        self.prepare()
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            seen = self.query(x, rows, features=self._features is not None)
            gradient = gradient_or_zero(self.value(seen, rows), x, keep=True)
            gradient = self._mended(gradient, x, seen, rows)
        return Step(gradient, self.evasion(seen, rows).detach())

    def prepare(self) -> None:
        if self._features is None and self.guides is not None and len(self.guides):
            self.aim()
