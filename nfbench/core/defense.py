"""The Defense interface: a recipe that, given a classifier and clean data, yields a Detector."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.recipe import Recipe
from nfbench.core.values import Images, Labels, Logits, Scores, Split


class Observation(NamedTuple):
    """What one query to a victim yields; score and penalties only where a detector is revealed."""

    logits: Logits  # (B, K)
    score: Scores | None = None  # (B,)
    penalties: Tensor | None = None  # (B, K): how far from what the detector expects of each class


class Detector(nn.Module, ABC):
    """A fitted defense in front of a classifier. Keep what was learnt in buffers."""

    differentiable: ClassVar[bool] = True
    """False if `score` has no useful gradient; gradient attacks then see the classifier's only."""
    stochastic: ClassVar[bool] = False
    rows_per_image: int = 1
    """Rows the classifier sees for each image scored; batches are sized by it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    @abstractmethod
    def score(self, x: Images) -> Scores:
        """How suspicious each image is. (B, C, H, W) -> (B,), higher = more suspicious.

        Must not depend on the other images of the batch, and must stay differentiable with respect
        to `x`: adaptive attacks descend it. Where a step has no useful gradient, give it one
        explicitly (`torch.autograd.Function`), never with `.detach()`.
        """

    def observe(self, x: Images) -> Observation:
        """Logits, score and penalties; override it where one pass can give all three."""
        logits, score = self.classifier(x), self.score(x)
        return Observation(logits, score, score[:, None].expand_as(logits))

    def features(self, x: Images) -> Tensor | None:
        """What the detector looks at, (B, D); None if it cannot say. For matching attacks."""
        return None


@dataclass(frozen=True, eq=False)
class FitData:
    """What a defense may learn from. No test image is ever in here.

    `adversarial` and `noisy`, where given, are `clean.x` perturbed row by row.
    """

    clean: Split
    adversarial: Images | None = None
    noisy: Images | None = None


def cross_entropy(classifier: Classifier, x: Images, y: Labels) -> Tensor:
    """The loss of a classifier that no defense co-trains. Scalar."""
    return F.cross_entropy(classifier(x), y)


class Defense(Recipe, ABC):
    """How to protect a classifier by detecting adversarial inputs."""

    learns_from: str | None = None
    """Attack that crafts `FitData.adversarial`; None for detectors that learn from clean images."""
    secret: int | None = None
    """Seeds whatever the defense hides from attackers; derived from the run's seed unless given."""

    def training_loss(self, classifier: Classifier, x: Images, y: Labels) -> Tensor:
        """Scalar the trainer minimises. Override it to co-train the classifier, as NeuralFP does."""
        return cross_entropy(classifier, x, y)

    @abstractmethod
    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        """Learn from `data`; the state from which `detector` restores. Must not change `classifier`."""

    @abstractmethod
    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        """The detector that `fit` learnt. Recipe and tensors say everything; nothing is pickled."""

    @property
    def cotrains(self) -> bool:
        """Whether this defense needs a classifier of its own rather than the shared one."""
        return type(self).training_loss is not Defense.training_loss

    @property
    def rows_per_image(self) -> int:
        """Rows the classifier sees for each image scored; only the time left is computed from it."""
        return 1
