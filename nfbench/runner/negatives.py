"""What a detector should let pass: images with noise, and harmless changes of clean ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from nfbench.core.draws import Draws
from nfbench.core.values import Images, Norm, Split, norm

_LARGEST = 2.0**12
"""Standard deviation of noise beyond which clipping leaves black and white pixels only."""


def matching_noise(clean: Split, adversarial: Images, kind: Norm, seed: int) -> Images:
    """Clean images with noise as large as an attack's perturbations; the noisy images of the papers.

    Gaussian, of one standard deviation, such that the mean L2 distance after clipping to [0, 1]
    equals the attack's. For l0 attacks: in each image as many entries as the attack changed, drawn
    without replacement among those below 1, are set to 1. (B, C, H, W) -> (B, C, H, W)
    """
    draws = Draws(seed, clean.index.tolist())
    if kind == "l0":
        return _salt(clean.x, norm(adversarial - clean.x, "l0").long(), draws)
    unit = draws.normal("noise", clean.x)
    wanted = _mean_l2(adversarial, clean.x)

    def noisy(sigma: float) -> Images:
        return (clean.x + sigma * unit).clamp(0, 1)

    low, high = 0.0, 1.0
    while _mean_l2(noisy(high), clean.x) < wanted and high < _LARGEST:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_l2(noisy(middle), clean.x) < wanted else (low, middle)
    return noisy(low) if wanted > 0 else clean.x.clone()


def _salt(x: Images, counts: torch.Tensor, draws: Draws) -> Images:
    """`counts[i]` entries of image i set to 1, those that are 1 already last."""
    order = draws.uniform("noise", x).where(x < 1, 2.0).flatten(1).argsort(1).argsort(1)
    return x.masked_fill((order < counts[:, None]).view_as(x), 1.0)


def _mean_l2(a: Images, b: Images) -> float:
    return float(norm((a - b).double(), "l2").mean())


def benign_changes(clean: Split, seed: int) -> Iterator[tuple[str, Images]]:
    """Changes that leave a label as it is; a detector that rejects them cries wolf.

    Yields:
        A name and the changed images: Gaussian noise of standard deviation 0.02, brightness x 0.9,
        JPEG of quality 90, a shift by one pixel, rounding to 8 bits.
    """
    noise = Draws(seed, clean.index.tolist()).normal("benign", clean.x)
    changes: dict[str, Callable[[Images], Images]] = {
        "noise": lambda x: (x + 0.02 * noise).clamp(0, 1),
        "brightness": lambda x: x * 0.9,
        "jpeg": _jpeg,
        "shift": lambda x: F.pad(x, (1, 0, 0, 0), mode="replicate")[..., :-1],
        "8bit": lambda x: (x * 255).round() / 255,
    }
    for name, change in changes.items():
        yield name, change(clean.x).contiguous()


def _jpeg(x: Images, quality: int = 90) -> Images:
    """Each image after compression; grey and colour images only, others stay as they are."""
    from PIL import Image

    if x.shape[1] not in (1, 3):
        return x.clone()
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if x.shape[1] == 1 else image).save(
            file, "JPEG", quality=quality
        )
        decoded.append(np.asarray(Image.open(file)))
    found = torch.tensor(np.stack(decoded)).to(x) / 255
    return found[:, None] if x.shape[1] == 1 else found.permute(0, 3, 1, 2)
