"""Gaussian kernel densities of classes of activations: exact, batched and with their gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 2**21
"""Kernels evaluated at once: (entries, points of a class) in float64, 16 MiB."""


class _Block(NamedTuple):
    """Entries of a (B, k) matrix that ask for the same class, and its points."""

    rows: Tensor  # (R,)
    columns: Tensor  # (R,)
    points: Tensor  # (n, D)
    norms: Tensor  # (n,)


class ClassDensities(nn.Module):
    """A Gaussian kernel density for each class, in scikit-learn's normalisation; float64.

    log (1/n_k) sum_i N(f; x_ki, h^2 I), from the state `points` (N, D), sorted by class, and `counts`
    (K,).
    """

    def __init__(self, state: dict[str, Tensor], bandwidth: float) -> None:
        super().__init__()
        self.counts: list[int] = state["counts"].tolist()
        self.bandwidth = bandwidth
        self.points = nn.Buffer(state["points"].double() / bandwidth)  # (N, D)
        self.norms = nn.Buffer(self.points.square().sum(1) / 2)  # (N,)
        volume = self.points.shape[1] * math.log(bandwidth * math.sqrt(2 * math.pi))
        self.constants = nn.Buffer(volume + state["counts"].double().log())  # (K,)

    def forward(self, features: Tensor) -> Tensor:
        """Log density of each image under each class. (B, D) -> (B, K) float64"""
        classes = torch.arange(len(self.counts), device=features.device)
        return self._logs(features, classes.expand(len(features), -1))

    def of(self, features: Tensor, classes: Tensor) -> Tensor:
        """Log density of each image under one class. (B, D), (B,) -> (B, 1) float64"""
        return self._logs(features, classes[:, None])

    def _logs(self, features: Tensor, classes: Tensor) -> Tensor:
        scaled = features.to(self.points) / self.bandwidth
        logs: Tensor = _LogKernels.apply(scaled, classes, self)
        return logs - self.constants[classes]

    def blocks(self, wanted: Tensor, classes: Tensor) -> Iterator[_Block]:
        """The `wanted` entries of `classes`, by class and as many as fit. (B, k) x2"""
        parts = zip(self.points.split(self.counts), self.norms.split(self.counts), strict=True)
        for k, (points, norms) in enumerate(parts):
            rows, columns = (wanted & (classes == k)).nonzero(as_tuple=True)
            size = max(1, BLOCK // max(1, len(points)))
            for some in zip(rows.split(size), columns.split(size), strict=True):
                yield _Block(*some, points, norms)


class _LogKernels(torch.autograd.Function):
    """log sum_i exp(-||s - x_ki||^2 / 2) over the points of one class.

    In float64, because the expanded squares cancel, and small bandwidths magnify what is lost. The
    gradient, sum_i w_i x_ki - s with w the softmax of the exponents, is computed anew and only for
    entries that have one, so that nothing as large as (B, N) is kept.
    """

    @staticmethod
    def forward(ctx: Any, scaled: Tensor, classes: Tensor, densities: ClassDensities) -> Tensor:
        """(B, D), (B, k) int64 -> (B, k)"""
        sums = scaled.new_empty(classes.shape)
        for rows, columns, points, norms in densities.blocks(classes >= 0, classes):
            sums[rows, columns] = torch.addmm(-norms, scaled[rows], points.T).logsumexp(1)
        ctx.save_for_backward(scaled, classes, sums)
        ctx.densities = densities
        return sums - scaled.square().sum(1, keepdim=True) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scaled, classes, sums = ctx.saved_tensors
        total = -grad.sum(1, keepdim=True) * scaled
        for rows, columns, points, norms in ctx.densities.blocks(grad != 0, classes):
            exponents = torch.addmm(-norms, scaled[rows], points.T)
            weights = (exponents - sums[rows, columns][:, None]).exp()
            total.index_add_(0, rows, grad[rows, columns][:, None] * (weights @ points))
        return total, None, None
