"""How many images of each class there are to learn from, and that they are enough."""

from torch import Tensor

from nfbench import Split, UsageError

LEAST = 2
"""Images that a class's mean or density is made of, at least."""


def class_counts(name: str, images: Split, classes: int) -> Tensor:
    """Images of each class. (K,) int64

    Args:
        name: of the defense, for messages.
        images: training images that no example was made of.
        classes: how many there are.

    Raises:
        UsageError: if a class has fewer than two images.
    """
    counts = images.y.bincount(minlength=classes)
    if int(counts.min()) < LEAST:
        lacking = int(counts.argmin())
        raise UsageError(
            f"{name} needs {LEAST} training images of each class; class {lacking} has "
            f"{int(counts[lacking])} of the {len(images)} that no example was made of: add images, or "
            "lower --train-limit"
        )
    return counts
