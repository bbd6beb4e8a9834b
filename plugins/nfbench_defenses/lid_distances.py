"""Distances to a reference batch, and the local intrinsic dimensionality they suggest.

Most distances come from one matrix product; those that would lose digits in it are computed anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

SMALLEST = 1e-18
"""Distances below count as this one, so that coincident points have a logarithm and a gradient."""
LARGEST = 1e4
"""Bound of an estimate. It is reached where all neighbours are equally far, as far as single
precision can tell: the mean log-ratio is then below 1e-4."""
_DIRECT = 256
"""Layers of at most so many features are compared number by number, which costs next to nothing."""
_CANCELS = 2.0**-6
"""Squared distances below this share of |a|² + |b|² lose more than 6 bits in a matrix product."""
_ROWS = 32
"""Matrix products choose other kernels for fewer rows, and would give other bits."""
_CHUNK = 2**20
"""Numbers gathered at once."""


class Reference(NamedTuple):
    """One layer's activations on the reference batch."""

    rows: Tensor  # (M, D)
    centre: Tensor  # (D,)
    centred: Tensor  # (M, D)
    norms: Tensor  # (M,), squared


def rows_of(activation: Tensor) -> Tensor:
    """One row an image, without a copy; distances do not care about the order. (B, ...) -> (B, D)"""
    if activation.dim() == 4 and not activation.is_cuda:
        activation = activation.movedim(1, -1)  # channels are last in memory, see `Classifier`
    return activation.flatten(1)


def reference_of(activation: Tensor) -> Reference:
    """What `squared_distances` needs to know of a reference batch. (M, ...)"""
    rows = rows_of(activation)
    centre = rows.mean(0)
    centred = rows - centre
    return Reference(rows, centre, centred, _squared_norms(centred))


def squared_distances(activation: Tensor, reference: Reference, *, but_nearest: bool = False) -> Tensor:
    """Squared Euclidean distances of images to the reference batch. (B, ...) -> (B, M)

    The same for an image whatever batch it comes in. With `but_nearest` the smallest distance of a
    row may be imprecise.
    """
    rows = rows_of(activation)
    if rows.shape[1] <= _DIRECT:
        exact = "donot_use_mm_for_euclid_dist"
        direct: Tensor = torch.cdist(rows, reference.rows, compute_mode=exact).square()
        return direct
    centred = rows - reference.centre
    if len(rows) < _ROWS:
        centred = torch.cat([centred, centred.new_zeros(_ROWS - len(rows), centred.shape[1])])
    scale = _squared_norms(centred)[:, None] + reference.norms
    product = torch.addmm(scale, centred, reference.centred.T, alpha=-2)[: len(rows)]
    near = product.detach() < _CANCELS * scale.detach()[: len(rows)]
    if but_nearest:
        near &= near.sum(1, keepdim=True) > 1
    if not near.any():
        return product
    pairs = near.nonzero(as_tuple=True)
    anew: Tensor = _PairDistances.apply(rows, reference.rows, *pairs)
    return product.index_put(pairs, anew)


def lid(squared: Tensor, k: int, *, skip_first: bool = True) -> Tensor:
    """Maximum-likelihood estimate of the local intrinsic dimensionality, as in Ma et al. (2018).

    -k / Σ log(d_i / d_k) over the k smallest distances, or the k after the smallest.
    (B, M) squared -> (B,), in (0, LARGEST]
    """
    skipped = int(skip_first)
    nearest = squared.topk(k + skipped, largest=False).values[:, skipped:]
    nearest = nearest.double().clamp_min(SMALLEST**2)
    mean_log = (nearest / nearest[:, -1:]).log().mean(1) / 2
    estimate: Tensor = (-mean_log).clamp_min(1 / LARGEST).reciprocal()
    return estimate.to(squared)


def _squared_norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1).square()
    return norms


class _PairDistances(torch.autograd.Function):
    """Squared distances of pairs of rows, in pieces and keeping no piece for the gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """(B, D), (M, D), (P,), (P,) -> (P,)"""
        ctx.save_for_backward(a, b, i, j)
        pieces = zip(*(index.split(_piece(a)) for index in (i, j)), strict=True)
        return torch.cat([(a[p] - b[q]).square().sum(1) for p, q in pieces])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """2 (a - b), summed over the pairs of a row."""
        a, b, i, j = ctx.saved_tensors
        total, size = torch.zeros_like(a), _piece(a)
        for p, q, g in zip(i.split(size), j.split(size), gradients[0].split(size), strict=True):
            total.index_add_(0, p, 2 * g[:, None] * (a[p] - b[q]))
        return total, None, None, None


def _piece(a: Tensor) -> int:
    return max(1, _CHUNK // a.shape[1])
