"""The victim: a classifier and, as far as it is revealed, the detector in front of it."""

from dataclasses import dataclass

import torch

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.threshold import spread, threshold
from nfbench.core.values import Images, Scores

TRAINING_FACTOR = 3
"""Memory of a pass that keeps what a gradient needs, against one that does not."""


@dataclass(frozen=True)
class Alarm:
    """What a detector's calibration scores say about its operating points."""

    threshold: float
    """Score above which 5 % of clean images are rejected."""
    median: float
    """Score above which half of the clean images lie."""
    unit: float
    """Interquartile range of the clean scores."""

    @classmethod
    def calibrated(cls, clean_scores: Scores, fpr: float = 0.05) -> "Alarm":
        scores = clean_scores.detach().cpu().numpy()
        return cls(threshold(scores, fpr), threshold(scores, 0.5), spread(scores))


@dataclass(frozen=True, eq=False)
class Victim:
    """A defended classifier. `detector` and `alarm` are None where they are not revealed."""

    classifier: Classifier
    detector: Detector | None = None
    alarm: Alarm | None = None

    def observe(self, x: Images) -> Observation:
        """All that one query of the revealed parts yields."""
        if self.detector is None:
            return Observation(self.classifier(x))
        return self.detector.observe(x)

    def inspect(self, x: Images) -> Observation:
        """As `observe`, with what the detector looks at."""
        if self.detector is None:
            logits = self.classifier(x)
            return Observation(logits, features=logits)
        return self.detector.inspect(x)

    @property
    def rows_per_image(self) -> int:
        return 1 if self.detector is None else self.detector.rows_per_image

    def images_within(self, memory: int, x: Images) -> int:
        """How many images like `x` can be attacked at once in `memory` bytes of activations."""
        rows = self.classifier.rows_within(memory // TRAINING_FACTOR, x)
        return max(1, rows // self.rows_per_image)

    def to(self, device: torch.device | str) -> "Victim":
        """The same victim, moved."""
        detector = None if self.detector is None else self.detector.to(device)
        return Victim(self.classifier.to(device), detector, self.alarm)
