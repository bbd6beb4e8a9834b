"""BU: how much a classifier's probabilities vary when its dropout stays on.

Feinman et al. (2017), https://arxiv.org/abs/1703.00410.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nfbench import (
    Classifier,
    Defense,
    Detector,
    FitData,
    Images,
    Observation,
    Scores,
    UsageError,
)
from nfbench_defenses.logistic import learn
from nfbench_defenses.passes import Passes, Several, lacks_dropout, moments, predictive_variance

LEAST = 1e-30
"""Added to the variance before its logarithm is taken; less occurs only where all passes agree."""


class BU(Defense):
    """A prediction that changes under dropout is suspicious."""

    name = "bu"
    paper = "https://arxiv.org/abs/1703.00410"

    passes: Several = 50
    """Number T of passes with dropout."""
    learns_from: str | None = None
    """None: a large variance is suspicious. An attack: a logistic regression on the variance says
    whether a large or a small one is (NeuralFP, Table 4)."""

    @property
    def rows_per_image(self) -> int:
        return self.passes + 1

    def mismatch(self, classifier: Classifier) -> str:
        return lacks_dropout(self.name, classifier)

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        if reason := lacks_dropout(self.name, classifier):
            raise UsageError(reason)
        passes = Passes(classifier, self.passes, self.secret)
        state = {"rows": torch.tensor(passes.rows(data.clean.x)), "sign": torch.tensor(1.0)}
        if data.examples is not None:
            learnt = learn(self.name, lambda x: passes.variance(x)[1][:, None], data.examples)
            state["sign"] = torch.where(learnt["weight"][0] < 0, -state["sign"], state["sign"])
        return state

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _UncertaintyDetector(Passes(classifier, self.passes, self.secret), state)


class _UncertaintyDetector(Detector):
    stochastic = True

    def __init__(self, passes: Passes, state: dict[str, Tensor]) -> None:
        super().__init__(passes.classifier)
        self.passes, self.rows_per_image = passes, int(state["rows"])
        self.sign = nn.Buffer(state["sign"])

    def score(self, x: Images) -> Scores:
        """Logarithm of U, whose gradient does not vanish with U; negated if a small U is suspicious."""
        score = self.inspect(x).score
        assert score is not None
        return score

    def observe(self, x: Images) -> Observation:
        return self.inspect(x)._replace(features=None)

    def inspect(self, x: Images) -> Observation:
        """As `score`; features are the probabilities' moments over passes, which all draws share."""
        logits, probabilities = self.passes.probabilities(x, self.draw)
        score = (self.sign * (predictive_variance(probabilities) + LEAST).log()).to(logits)
        penalties = score[:, None].expand_as(logits)
        return Observation(logits, score, penalties, features=moments(probabilities).to(logits))

    def features(self, x: Images) -> Tensor | None:
        return self.inspect(x).features
