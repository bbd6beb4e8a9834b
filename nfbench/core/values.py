"""The small immutable values that pass between rooms, and the shapes they carry."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Images: TypeAlias = Tensor  # (B, C, H, W) float32 in [0, 1]
Labels: TypeAlias = Tensor  # (B,) int64
Logits: TypeAlias = Tensor  # (B, K) float32, unnormalised
Scores: TypeAlias = Tensor  # (B,) float32, higher = more suspicious
Mask: TypeAlias = Tensor  # (B,) bool

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)

ULP = 2.0**-23
"""Rounding slack of one pixel in [0, 1]: the spacing of float32 at 1."""


class Access(IntEnum):
    """What one query to the victim returns; a larger value grants all that a smaller one does."""

    DECISION = 1
    SCORES = 2
    GRADIENT = 3


def per_image(values: Tensor, like: Images) -> Tensor:
    """One number an image, shaped to broadcast over its pixels. (B,) -> (B, 1, 1, 1)"""
    return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Budget:
    """How far an attack may move an image: ||x' - x||_norm <= eps, and x' in [0, 1].

    `eps` is in pixel units of [0, 1]; for l0 it is the number of changed entries; `inf` leaves
    the attack free to look for the smallest perturbation it can.
    """

    norm: Norm
    eps: float

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.eps)

    def size(self, x: Images, x_adv: Images) -> Tensor:
        """Perturbation size of each image, in float64. (B, C, H, W) x2 -> (B,)"""
        delta = x_adv.double() - x.double() if not x.requires_grad else x_adv - x
        return norm(delta, self.norm)

    def contains(self, x: Images, x_adv: Images) -> Mask:
        """Whether each image lies in the ball and the box, up to one float32 rounding a pixel."""
        pixels = x[0].numel()
        slack = {"linf": ULP, "l2": ULP * math.sqrt(pixels), "l1": ULP * pixels, "l0": 0.0}[self.norm]
        flat = x_adv.flatten(1)
        inside = (flat >= 0).all(1) & (flat <= 1).all(1)
        if self.bounded:
            delta = (x_adv - x).flatten(1)
            size = delta.abs().amax(1) if self.norm == "linf" else norm(delta.double(), self.norm)
            inside = inside & (size <= self.eps + slack)
        return inside

    def project(self, x: Images, x_adv: Images) -> Images:
        """A point inside both the ball around `x` and [0, 1]; the nearest, or close to it for l2.

        Raises:
            ValueError: for a bounded l0 ball, which has no unique projection.
        """
        delta = x_adv - x
        if self.bounded:
            match self.norm:
                case "linf":
                    delta = delta.clamp(-self.eps, self.eps)
                case "l2":
                    size = norm(delta, "l2").clamp_min(1e-12)
                    delta = delta * per_image((self.eps / size).clamp_max(1), x)
                case "l1":
                    delta = _shrink(delta, -x, 1 - x, self.eps)
                case "l0":
                    raise ValueError("an l0 ball has no unique projection; attacks must count entries")
        return (x + delta).clamp(0, 1)


def _shrink(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """The nearest point of each row with low <= point <= high and L1 norm at most `eps`.

    Croce & Hein (2021), arXiv:2103.01208: all entries lose the same amount before they are clipped,
    and that amount is where the norm, which falls with it, is `eps`; found by bisection. (B, ...)
    """
    wide, low, high = (t.flatten(1).double() for t in (delta, low, high))
    least, most = wide.new_zeros(len(wide), 1), wide.abs().amax(1, keepdim=True)

    def lessened(by: Tensor) -> Tensor:
        return (wide.sign() * (wide.abs() - by).clamp_min(0)).clamp(low, high)

    fits = lessened(least).abs().sum(1, keepdim=True) <= eps
    for _ in range(50):
        middle = (least + most) / 2
        over = lessened(middle).abs().sum(1, keepdim=True) > eps
        least, most = middle.where(over, least), most.where(over, middle)
    return lessened(most.where(~fits, 0.0)).view_as(delta).to(delta)


def norm(delta: Tensor, kind: Norm) -> Tensor:
    """The norm of each row; l0 counts entries that changed at all. (B, ...) -> (B,)"""
    delta = delta.flatten(1)
    match kind:
        case "linf":
            return delta.abs().amax(1)
        case "l2":
            return delta.square().sum(1).sqrt()
        case "l1":
            return delta.abs().sum(1)
        case "l0":
            return (delta != 0).sum(1).to(delta.dtype)


@dataclass(frozen=True, eq=False)
class Split:
    """A labelled set of images and each one's position in its dataset split."""

    x: Images
    y: Labels
    index: Tensor  # (B,) int64

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> "Split":
        """The images at `rows`, an index or a mask."""
        return Split(self.x[rows], self.y[rows], self.index[rows])

    def nearest_first(self, x: Images, wanted: Mask, p: float = 2.0) -> Tensor:
        """Positions of these images by distance from each of `x` in the p-norm, nearest first.

        Args:
            x: images of the same shape, (B, C, H, W).
            wanted: which of these images each of `x` may have, (B, N); the others come last.
            p: 2, or infinity.

        Returns:
            (B, N) int64; of equal distances the first in this set comes first.
        """
        # The quick way by a matrix product rounds differently for other batches.
        mode = "donot_use_mm_for_euclid_dist"
        far = torch.cdist(x.flatten(1), self.x.flatten(1), p=p, compute_mode=mode)
        return far.masked_fill(~wanted, torch.inf).argsort(dim=1, stable=True)

    def to(self, device: torch.device | str) -> "Split":
        """The same set on another device."""
        return Split(self.x.to(device), self.y.to(device), self.index.to(device))
