"""The Dataset interface: where images come from, and how classifiers are trained on them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from nfbench.core.recipe import Count, NonNegative, Positive, Recipe
from nfbench.core.values import Split


class Splits(NamedTuple):
    """Disjoint sets; `calibration` is held out for thresholds and, in part, for choosing an epoch."""

    train: Split
    calibration: Split
    test: Split


class Training(Recipe):
    """How every classifier of a dataset is trained, so that only the defense differs."""

    name = "training"
    optimizer: Literal["adam", "sgd", "adadelta"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: NonNegative = 0.9
    """Of SGD; the others keep their own defaults."""
    weight_decay: NonNegative = 0.0
    epochs: Count = 10
    batch_size: Count = 128
    augment: Literal["none", "crop-flip"] = "none"
    """`crop-flip`: random crop after padding by 4 black pixels, and horizontal flip."""
    select: Literal["last", "min-nll"] = "last"
    """Which epoch's weights are kept: the last, or those of least clean loss on the first
    half of the calibration images, on which no threshold is then set."""
    images: Count | None = None
    """Train on the first so many of one seeded order of the training images; all of them if None.
    What a detector is fitted to stays as it is."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the multiplications while training; attacks and scores are always in float32."""

    def identity(self) -> dict[str, Any]:
        """Part of job keys; what came later appears where it changes something, so that keys stay."""
        later = {"images": None, "precision": "float32"}
        plain = self.model_dump(mode="json")
        return {k: v for k, v in plain.items() if k not in later or v != later[k]}


class Defaults(BaseModel):
    """What a dataset declares for the plugins that are run on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    training: Training
    eps: Mapping[Literal["linf", "l2", "l1", "l0"], float]
    """Budget of each norm; `--eps` changes it."""
    limit: Count
    """Test images attempted unless `--limit` says otherwise."""
    train_limit: Count = 1000
    """Training images that supervised detectors learn from, attacked, unless `--train-limit` says
    otherwise."""
    train_images: Count = 1000
    """Roughly how many there are; only the time left is computed from it."""
    plugins: Mapping[str, Mapping[str, Any]] = {}
    """Hyperparameters by plugin, under those the user sets."""


class Dataset(Recipe, ABC):
    """A classification dataset. Where its files lie is not part of the recipe; their digest is."""

    shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int]
    defaults: ClassVar[Defaults]

    @abstractmethod
    def splits(self, data_dir: Path | None) -> Splits:
        """The data, always in the same order whatever layout it was read from.

        Raises:
            DataMissing: if the files are absent or damaged, saying how to get them.
        """

    @abstractmethod
    def digest(self, data_dir: Path | None) -> str:
        """SHA-256 of the content, part of every job key; a pinned constant where there is one."""

    def describe(self, data_dir: Path | None) -> "Facts":
        """Shape, classes and defaults, which an open-ended dataset reads from its files."""
        return Facts(self.shape, self.num_classes, self.defaults)


class Facts(NamedTuple):
    """What the planner needs to know of a dataset."""

    shape: tuple[int, int, int]
    num_classes: int
    defaults: Defaults
