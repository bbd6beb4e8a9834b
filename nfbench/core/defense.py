"""The Defense interface: a recipe that, given a classifier and clean data, yields a Detector."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.recipe import Recipe
from nfbench.core.values import Images, Labels, Logits, Scores, Split

Gradient: TypeAlias = Literal["exact", "surrogate", "none"]


class Observation(NamedTuple):
    """What one query to a victim yields; score and penalties only where a detector is revealed."""

    logits: Logits  # (B, K)
    score: Scores | None = None  # (B,)
    penalties: Tensor | None = None  # (B, K): how far from what the detector expects of each class
    losses: Tensor | None = None  # (B, K): what the defense trained to be small for each class
    features: Tensor | None = None  # (B, D): what the detector looks at


class Detector(nn.Module, ABC):
    """A fitted defense in front of a classifier. Keep what was learnt in buffers."""

    differentiable: ClassVar[bool] = True
    """False if `score` has no useful gradient; attacks then follow a surrogate's, see `surrogate`."""
    stochastic: ClassVar[bool] = False
    """Whether it draws at random. Every row of a call then shares the draw number `draw`."""
    rows_per_image: int = 1
    """Rows the classifier sees for each image scored; batches are sized by it."""
    paired: int = 0
    """Images scored at once, together with their clean originals; 0: each image is scored alone."""
    draw: int = 0
    """Which draw a stochastic detector makes. Reported scores are of draw 0; queries of an attack
    are answered with fresh ones, so that no attack can fit itself to the draw it is judged by."""

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
        """Logits, score and penalties; override it where one pass can give all three.

        No class's penalty is below the score. (B, C, H, W) -> Observation
        """
        logits, score = self.classifier(x), self.score(x)
        return Observation(logits, score, score[:, None].expand_as(logits))

    def inspect(self, x: Images) -> Observation:
        """As `observe`, with `features`; override it where one pass gives both.

        A detector that does not say what it looks at is taken to look at the logits.
        """
        seen = self.observe(x)
        features = self.features(x)
        return seen._replace(features=seen.logits if features is None else features)

    def surrogate(self, x: Images) -> Scores | None:
        """A differentiable stand-in whose gradient attacks follow where `score` has none (BPDA).

        In units of the score. Athalye et al. (2018), arXiv:1802.00420. None: a network is fitted to the
        scores instead.
        """
        return None

    def bind(self, originals: Images) -> "Detector":
        """This detector with the clean originals of the images it scores next, if it is paired."""
        return self

    def features(self, x: Images) -> Tensor | None:
        """What the detector looks at, (B, D); None if it cannot say. For matching attacks."""
        return None


def minibatches(count: int, size: int) -> Iterator[tuple[slice, int]]:
    """Whole minibatches, and where in each the images begin that no earlier one had.

    The last reaches back for as many images as it lacks. Paired detectors are scored in these, and
    should learn in them.
    """
    size = min(size, count)
    for start in range(0, count, size):
        first = min(start, count - size)
        yield slice(first, first + size), start - first


@dataclass(frozen=True, eq=False)
class Examples:
    """What a supervised detector learns from: training images, attacked and with noise of equal size.

    Row i of `adversarial` and of `noisy` is image i of `clean`, which the classifier gets right; the
    attack need not have succeeded.
    """

    clean: Split
    adversarial: Images
    noisy: Images
    attack: str
    """Name of the attack, for messages."""


@dataclass(frozen=True, eq=False)
class FitData:
    """What a defense may learn from. No calibration or test image is ever in here."""

    clean: Split
    examples: Examples | None = None
    """Given exactly if the defense has `learns_from`; made of some of the images of `clean`."""

    @property
    def others(self) -> Split:
        """The clean images that no example was made of, so that an example never meets itself."""
        if self.examples is None:
            return self.clean
        return self.clean.take(~torch.isin(self.clean.index, self.examples.clean.index))


def cross_entropy(classifier: Classifier, x: Images, y: Labels) -> Tensor:
    """The loss of a classifier that no defense co-trains. Scalar."""
    return F.cross_entropy(classifier(x), y)


class Defense(Recipe, ABC):
    """How to protect a classifier by detecting adversarial inputs."""

    gradient: ClassVar[Gradient] = "exact"
    """Whose gradient its detector has: that of the score, of the surrogate it declares, or none."""
    learns_from: str | None = None
    """Attack that crafts `FitData.examples`; None for detectors that learn from clean images."""
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

    def mismatch(self, classifier: Classifier) -> str:
        """Why it can't protect this classifier, trained or not, and what would do; else empty.

        Raises:
            UsageError: for a hyperparameter that names something the classifier does not have.
        """
        return ""

    @property
    def caveat(self) -> str:
        """What a reader of its numbers must know, in a line; empty if nothing."""
        return ""

    @property
    def paired(self) -> int:
        """As in its detector. No attack that asks a paired detector has a meaning."""
        return 0

    @property
    def rows_per_image(self) -> int:
        """Rows the classifier sees for each image scored; only the time left is computed from it."""
        return 1
