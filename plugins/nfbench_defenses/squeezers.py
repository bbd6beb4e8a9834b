"""Squeezers: images with less detail, batched and with a gradient.

Xu et al. (2018), https://arxiv.org/abs/1704.01155, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nfbench import Images

Squeezer: TypeAlias = Callable[[Images], Images]


def reduce_depth(x: Images, bits: int) -> Images:
    """Pixels rounded to 2^bits levels from 0 to 1, half to even.

    Rounding has no gradient to follow; the backward pass takes it for the identity (BPDA, Athalye et
    al. 2018, https://arxiv.org/abs/1802.00420).
    """
    rounded: Images = _Rounded.apply(x, 2**bits - 1)
    return rounded


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: int) -> Tensor:
        return (x * steps).round() / steps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def median(x: Images, window: int) -> Images:
    """Median of the square window around each pixel, channel by channel.

    As `scipy.ndimage.median_filter` with mode "reflect": an even window reaches one pixel further up
    and left, and of two middle values the larger is taken. The gradient goes to the pixel chosen.
    """
    before = window // 2
    padded = _padded(x, before, window - before - 1, repeat_edge=True)
    windows = padded.unfold(2, window, 1).unfold(3, window, 1).flatten(4)  # (B, C, H, W, window^2)
    chosen: Images = windows.kthvalue(window**2 // 2 + 1, dim=4).values
    return chosen


def non_local_means(x: Images, search: int, patch: int, strength: float) -> Images:
    """Each pixel as the mean of those around it, weighted by how alike their patches are.

    Buades et al. (2005), https://doi.org/10.1109/CVPR.2005.38, with weights exp(-d / h^2), d the mean
    squared difference of two patches over pixels and channels. Xu et al. call OpenCV's
    `fastNlMeansDenoisingColored`, which rounds to 8 bits, drops weights below 0.001, and weighs
    luminance and colour apart; this works on RGB at once.

    Args:
        x: images, (B, C, H, W); at borders they are mirrored without repeating the edge.
        search: side of the square that pixels are looked for in, odd.
        patch: side of a patch, odd.
        strength: h on the scale of pixels from 0 to 255.
    """
    reach, margin = search // 2, patch // 2
    padded = _padded(x, reach + margin, reach + margin, repeat_edge=False)
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for row in range(search):
        # Recomputed in the backward pass, which would keep `search`^2 copies of the images else.
        summed, weight = checkpoint(
            _weighted_row,
            *(padded, row, reach, margin, (strength / 255) ** 2),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        total, weights = total + summed, weights + weight
    return total / weights


def _weighted_row(
    padded: Tensor, row: int, reach: int, margin: int, variance: float
) -> tuple[Tensor, Tensor]:
    """Weighted sum and weights of the pixels `row - reach` rows below, at all columns in reach."""
    height = padded.shape[2] - 2 * reach  # with the margin
    width = padded.shape[3] - 2 * reach
    there = padded[:, :, row : row + height].unfold(3, width, 1).movedim(3, 1)  # (B, S, C, H, W)
    here = padded[:, None, :, reach : reach + height, reach : reach + width]
    apart = (there - here).square().mean(2)  # (B, S, H, W)
    weights = (-F.avg_pool2d(apart, 2 * margin + 1, 1) / variance).exp()[:, :, None]
    inner = there[..., margin : height - margin, margin : width - margin]
    return (weights * inner).sum(1), weights.sum(1)


def _padded(x: Images, before: int, after: int, *, repeat_edge: bool) -> Images:
    """`x` mirrored at its borders as often as it takes."""
    for dim in (2, 3):
        size = x.shape[dim]
        places = torch.arange(-before, size + after, device=x.device)
        period = 2 * size if repeat_edge else max(1, 2 * size - 2)
        places = places.remainder(period)
        x = x.index_select(dim, torch.minimum(places, period - repeat_edge - places))
    return x
