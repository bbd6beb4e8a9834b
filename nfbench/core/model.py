"""The Model interface: a classifier architecture that can be trained or loaded."""

from abc import ABC, abstractmethod

from torch import nn

from nfbench.core.recipe import Recipe


class Model(Recipe, ABC):
    """An architecture. Its networks take images in [0, 1] and normalise them themselves."""

    @abstractmethod
    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """A freshly initialised network from (B, *shape) images to (B, num_classes) logits.

        Raises:
            UsageError: if the architecture can't take images of that shape.
        """
