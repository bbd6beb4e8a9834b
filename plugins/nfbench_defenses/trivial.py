"""Two baselines that every detector must beat."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from nfbench import Classifier, Defense, Detector, FitData, Images, Scores, seed_of


class MaxSoftmax(Defense):
    """An unconfident prediction is suspicious. Hendrycks & Gimpel (2017)."""

    name = "max-softmax"
    paper = "https://arxiv.org/abs/1610.02136"

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        return {}

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _MaxSoftmaxDetector(classifier)


class _MaxSoftmaxDetector(Detector):
    def score(self, x: Images) -> Scores:
        """log(1 - max p), from logits so that confident images keep an order and a gradient."""
        logits = self.classifier(x)
        top, winner = logits.max(1)
        others = logits.scatter(1, winner[:, None], -torch.inf).logsumexp(1)
        score: Scores = others - torch.logaddexp(top, others)
        return score


class Random(Defense):
    """Knows nothing: each image has a fixed, pseudo-random score in [0, 1)."""

    name = "random"
    gradient: ClassVar[Literal["exact", "surrogate", "none"]] = "none"

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed_of("random", self.secret))
        shape = data.clean.x.shape[1:]
        return {"weights": torch.rand(shape, generator=generator, dtype=torch.float64)}

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _RandomDetector(classifier, state["weights"])


class _RandomDetector(Detector):
    differentiable = False

    def __init__(self, classifier: Classifier, weights: Tensor) -> None:
        super().__init__(classifier)
        self.weights = torch.nn.Buffer(weights)

    def score(self, x: Images) -> Scores:
        projection = (x.detach().double() * self.weights).flatten(1).sum(1)
        scores: Scores = (projection * 1e6).remainder(1).to(x)
        return scores
