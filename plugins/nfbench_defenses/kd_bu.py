"""KD+BU: kernel density and dropout variance together, weighed by a logistic regression.

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
    Logits,
    Observation,
    Positive,
    Scores,
    UsageError,
)
from nfbench_defenses.densities import ClassDensities
from nfbench_defenses.kd import hidden, require_layer, sorted_by_class
from nfbench_defenses.logistic import LogOdds, Rows, learn, taught_by
from nfbench_defenses.names import Layer
from nfbench_defenses.passes import Passes, Several, lacks_dropout, moments, predictive_variance


class KDPlusBU(Defense):
    """Log density and dropout variance, weighed by a logistic regression that saw an attack.

    Features are scaled to [0, 1] on the rows that train the regression, as in the released code of
    LID (Ma et al. 2018); Feinman's code divides by standard deviations and tests on these rows.
    """

    name = "kd+bu"
    paper = "https://arxiv.org/abs/1703.00410"

    bandwidth: Positive = 1.2
    """Standard deviation of the Gaussian kernels, as of `kd`."""
    layer: Layer | None = None
    """Module whose outputs are compared, as of `kd`; None: what the last weight matrix is given."""
    passes: Several = 50
    """Number of passes with dropout, as of `bu`."""
    learns_from: str = "fgsm"
    """Attack whose results on training images the regression sees."""
    rows: Rows = "all"
    """Attacked images that train the regression: all, or a `block` of whole hundreds (code of LID)."""

    @property
    def rows_per_image(self) -> int:
        return self.passes + 1

    def mismatch(self, classifier: Classifier) -> str:
        require_layer(self.name, classifier, self.layer)
        return lacks_dropout(self.name, classifier)

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        if reason := self.mismatch(classifier):
            raise UsageError(reason)
        assert data.examples is not None
        state = sorted_by_class(self.name, classifier, self.layer, data.others)
        state["rows"] = torch.tensor(Passes(classifier, self.passes, self.secret).rows(data.clean.x))
        evidence = _WeighedDetector(classifier, self, state, None).evidence
        return state | learn(self.name, evidence, taught_by(self.name, data.examples, self.rows))

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _WeighedDetector(classifier, self, state, LogOdds(state))


class _WeighedDetector(Detector):
    stochastic = True

    def __init__(
        self, classifier: Classifier, recipe: KDPlusBU, state: dict[str, Tensor], odds: nn.Module | None
    ) -> None:
        super().__init__(classifier)
        self.layer, self.odds = recipe.layer, odds
        self.densities = ClassDensities(state, recipe.bandwidth)
        self.passes = Passes(classifier, recipe.passes, recipe.secret)
        self.spread = nn.Buffer(_spread(state["points"]))
        self.rows_per_image = int(state["rows"])

    def score(self, x: Images) -> Scores:
        """Log-odds of being adversarial."""
        return self._suspicion(self.evidence(x)[:, None]).to(x)[:, 0]

    def observe(self, x: Images) -> Observation:
        return self.inspect(x)._replace(features=None)

    def inspect(self, x: Images) -> Observation:
        """As `score`; a class's penalty is the score under its density, or the score if that is more.

        Features are the activations in units of their spread over training images, and the moments
        over passes.
        """
        logits, activations, probabilities = self._pass(x)
        logs, variance = self.densities(activations), predictive_variance(probabilities)
        evidence = torch.stack([logs, variance[:, None].expand_as(logs)], 2)  # (B, K, 2)
        suspicions = self._suspicion(evidence).to(x)
        score = suspicions.gather(1, logits.argmax(1, keepdim=True))
        features = torch.cat([activations / self.spread.to(x), moments(probabilities).to(x)], 1)
        return Observation(logits, score[:, 0], torch.maximum(suspicions, score), features=features)

    def evidence(self, x: Images) -> Tensor:
        """Log density under the predicted class, and U. (B, C, H, W) -> (B, 2) float64"""
        logits, activations, probabilities = self._pass(x)
        variance = predictive_variance(probabilities)
        return torch.cat([self.densities.of(activations, logits.argmax(1)), variance[:, None]], 1)

    def features(self, x: Images) -> Tensor | None:
        return self.inspect(x).features

    def _pass(self, x: Images) -> tuple[Logits, Tensor, Tensor]:
        """Logits (B, K), activations (B, D) and probabilities of every pass (T, B, K).

        What precedes the first dropout runs once.
        """
        trace, activations = hidden(self.classifier, x, self.layer, self.passes.traced)
        return trace.logits, activations, self.passes.probabilities_after(trace, x, self.draw)

    def _suspicion(self, evidence: Tensor) -> Tensor:
        """(B, k, 2) -> (B, k)"""
        assert self.odds is not None
        odds: Tensor = self.odds(evidence.flatten(0, 1))
        return odds.view(evidence.shape[:2])


def _spread(points: Tensor) -> Tensor:
    """Root mean squared distance of points (N, D) from their mean; 1 if there is none. Scalar"""
    points = points.double()
    spread = (points - points.mean(0)).square().sum(1).mean().sqrt()
    return spread.where(spread > 0, 1.0)
