"""Adversarial images, looked at by themselves: of the right images, in the ball, in the box."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nfbench.core.errors import VerificationMismatch
from nfbench.core.values import Budget, Split
from nfbench.runner.learning import positions
from nfbench.runner.measuring import predict
from nfbench.runner.plan import Cell, Plan
from nfbench.runner.workshop import Workshop
from nfbench.store import Key, Store
from nfbench.trust.comparing import spared


@dataclass
class Inspection:
    """Looks at every set of adversarial images once, whichever cells it serves."""

    plan: Plan
    store: Store
    shop: Workshop
    exact: bool
    """Whether every prediction must come out as it was; else on nearly all images."""
    seen: int = 0
    """Images looked at."""
    _done: set[Key] = field(default_factory=set)
    _right: dict[Key, Tensor] = field(default_factory=dict)

    def look_at(self, cell: Cell) -> None:
        """Refuse images that no attack of this cell may have made.

        Raises:
            VerificationMismatch: naming the cell, the image, and what is wrong.
        """
        assert cell.undefended is not None
        for key in (*cell.crafts, cell.undefended):
            if key not in self._done:
                self._done.add(key)
                self._craft(cell, key, checks_prediction=key == cell.undefended)

    def _craft(self, cell: Cell, key: Key, *, checks_prediction: bool) -> None:
        job, tensors = self.plan.jobs[key], self.store.get(key).tensors
        test = self.shop.test(job.recipe)
        attacked = self._attacked(test, key)
        where = f"{cell.name}, images {key}"
        index = tensors.get("index")
        if index is None or index.dtype != torch.int64 or not torch.equal(index, attacked.index.cpu()):
            raise VerificationMismatch(
                f"{where}: index does not list the {len(attacked)} images that are attacked, in order"
            )
        if not torch.equal(tensors.get("label", index), attacked.y.cpu()):
            raise VerificationMismatch(f"{where}: label has other classes than the data")
        budget = Budget(cell.attack.recipe.norm, _radius(job.recipe["eps"]))
        require_allowed(where, tensors.get("images"), attacked, budget)
        if "nearest" in tensors:
            require_allowed(f"{where}, nearest", tensors["nearest"], attacked, budget)
        self.seen += len(attacked)
        if checks_prediction:
            minimises = cell.attack.recipe.minimises
            share = spared(exact=self.exact, minimises=minimises)
            self._predictions(where, key, tensors, share)

    def _attacked(self, test: Split, key: Key) -> Split:
        """The images that a craft job attacks: all, or those the known classifier gets right."""
        job = self.plan.jobs[key]
        threat: Any = self.shop.build("threat-model", job.recipe["threat_model"])
        if threat.classifier != "victim":
            return test
        train = job.needs[0]
        if train not in self._right:
            self._right[train] = predict(self._classifier(train), test.x) == test.y
        return test.take(self._right[train])

    def _classifier(self, train: Key) -> Any:
        return self.shop.classifier(self.plan.jobs[train].recipe, self.store.get(train))

    def _predictions(self, where: str, key: Key, tensors: Any, share: float) -> None:
        """The error without the defense is counted from these, so they are predicted again."""
        images = tensors["images"].to(self.shop.device)
        found = predict(self._classifier(self.plan.jobs[key].needs[0]), images).cpu()
        said = tensors.get("prediction")
        if said is None or said.shape != found.shape or said.dtype != found.dtype:
            raise VerificationMismatch(f"{where}: prediction is no vector of {len(found)} classes")
        off = said != found
        if off.sum() > math.ceil(share * len(off)):
            place = int(off.int().argmax())
            raise VerificationMismatch(
                f"{where}: prediction[{place}] is {int(said[place])}, and {int(found[place])} here"
            )


def require_allowed(where: str, images: Tensor | None, clean: Split, budget: Budget) -> None:
    """Refuse what is no set of finite float32 images in the box and in the ball around `clean`.

    Raises:
        VerificationMismatch: naming the first image that is outside, and by how much.
    """
    if images is None or images.dtype != torch.float32 or images.shape != clean.x.shape:
        got = "nothing" if images is None else f"{images.dtype} {tuple(images.shape)}"
        raise VerificationMismatch(f"{where}: expected float32 {tuple(clean.x.shape)}, got {got}")
    images = images.to(clean.x.device)
    if (image := _first(~images.isfinite().flatten(1).all(1), clean)) is not None:
        raise VerificationMismatch(f"{where}: image {image} has pixels that are not finite")
    outside = ((images < 0) | (images > 1)).flatten(1).any(1)
    if (image := _first(outside, clean)) is not None:
        low, high = images[outside][0].min(), images[outside][0].max()
        raise VerificationMismatch(
            f"{where}: image {image} has pixels from {low:.6g} to {high:.6g}, outside [0, 1]"
        )
    outside = ~budget.contains(clean.x, images)
    if (image := _first(outside, clean)) is not None:
        size = float(budget.size(clean.x, images)[outside][0])
        raise VerificationMismatch(
            f"{where}: image {image} is {size:.6g} from its original in {budget.norm}, "
            f"{budget.eps:.6g} is allowed"
        )


def taken(test: Split, index: Tensor, shop: Workshop) -> Split:
    """The clean images of these positions in the dataset, on the device."""
    return test.take(positions(test.index, index)).to(shop.device)


def _first(wrong: Tensor, clean: Split) -> int | None:
    """Position in the dataset of the first image that is marked."""
    marked: Iterable[int] = clean.index[wrong].tolist()
    return next(iter(marked), None)


def _radius(eps: float | None) -> float:
    return math.inf if eps is None else eps
