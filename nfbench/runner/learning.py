"""What a defense is given to learn from, and that none of it is what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1

import torch
from torch import Tensor

from nfbench.core.attack import Attack
from nfbench.core.dataset import Splits
from nfbench.core.defense import Examples, FitData
from nfbench.core.draws import seed_of
from nfbench.core.errors import ContractViolation
from nfbench.core.values import Images, Split
from nfbench.runner.negatives import matching_noise

MOST_REPEATED = 0.01
"""Share of held-out images that may also be training images; CIFAR-10 has a few exact repeats."""


def disjoint(splits: Splits) -> Split:
    """The training images that are no calibration or test image, compared pixel by pixel.

    Raises:
        ContractViolation: if many are; then the split is wrong and no number would mean anything.
    """
    train = _digests(splits.train.x)
    held_out = _digests(splits.calibration.x) + _digests(splits.test.x)
    repeated = set(train) & set(held_out)
    count = sum(digest in repeated for digest in held_out)
    if count > MOST_REPEATED * len(held_out):
        raise ContractViolation(
            f"{count} of {len(held_out)} calibration and test images are also training images; what a "
            "detector learns from must not be what it is tested on: remove the repeats"
        )
    return splits.train.take(torch.tensor([digest not in repeated for digest in train]))


def _digests(x: Images) -> list[bytes]:
    return [sha1(image.tobytes(), usedforsecurity=False).digest() for image in x.cpu().numpy()]


def chosen(train: Split, limit: int, seed: int) -> Split:
    """The training images that attacks are tried on, the same for every attack; at most half."""
    generator = torch.Generator().manual_seed(seed_of("examples", seed))
    rows = torch.randperm(len(train), generator=generator)[: min(limit, len(train) // 2)]
    return train.take(rows.sort().values.to(train.x.device))


def fit_data(
    train: Split, attempted: Split, crafted: Mapping[str, Tensor], attack: Attack, seed: int
) -> FitData:
    """Clean training images, and examples of those that were attacked.

    What was attempted and left alone, since the classifier gets it wrong, is not learnt from: among
    the others these images would be too many.

    Args:
        train: images that may be learnt from.
        attempted: those of them that were to be attacked.
        crafted: what a craft job made of those that the classifier gets right (and, at most, of
            images that are not in `train`).
        attack: whose norm the noise has.
        seed: of the noise.

    Raises:
        ContractViolation: if no attacked image is misclassified.
    """
    usable = torch.isin(crafted["index"], train.index.cpu())
    index, adversarial = crafted["index"][usable], crafted["images"][usable].to(train.x.device)
    fooled = crafted["prediction"][usable] != crafted["label"][usable]
    if not fooled.any():
        raise ContractViolation(
            f"can't learn from {attack.name}: it fools the classifier on none of the {len(index)} "
            "training images it attacked; raise --eps or learn from another attack"
        )
    clean = train.take(positions(train.index.cpu(), index).to(train.x.device))
    noisy = matching_noise(clean, adversarial, attack.norm, seed)
    wrong = torch.isin(train.index, attempted.index) & ~torch.isin(train.index, clean.index)
    return FitData(train.take(~wrong), Examples(clean, adversarial, noisy, attack.name))


def positions(haystack: Tensor, needles: Tensor) -> Tensor:
    """Where each needle stands in `haystack`; both int64 and without repeats."""
    order = haystack.argsort()
    return order[torch.searchsorted(haystack[order], needles)]
