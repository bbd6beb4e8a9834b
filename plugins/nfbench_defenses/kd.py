"""KD: how densely the training images of the predicted class lie around an image's activations.

Feinman et al. (2017), https://arxiv.org/abs/1703.00410.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nfbench import (
    Classifier,
    Defense,
    Detector,
    FitData,
    Images,
    Observation,
    Positive,
    Scores,
    Split,
    Trace,
    UsageError,
)
from nfbench_defenses.classes import class_counts
from nfbench_defenses.densities import ClassDensities
from nfbench_defenses.logistic import LogOdds, features_of, learn
from nfbench_defenses.names import Layer


class KD(Defense):
    """A low density of the predicted class's training images is suspicious."""

    name = "kd"
    paper = "https://arxiv.org/abs/1703.00410"

    bandwidth: Positive = 1.2
    """Standard deviation of the Gaussian kernels. MNIST: 1.20 in Feinman's code, 3.7926 in that of
    LID, which NeuralFP used; CIFAR-10: 0.26; SVHN: 1.00."""
    layer: Layer | None = None
    """Module whose outputs are compared; None: what the last layer with a weight matrix is given,
    so the last hidden activations after ReLU, BatchNorm or dropout (which is off)."""
    learns_from: str | None = None
    """None: the score is minus the log density. An attack: the log-odds of a logistic regression on
    the log density, which learns whether low or high is adversarial (NeuralFP, Table 4)."""

    def mismatch(self, classifier: Classifier) -> str:
        require_layer(self.name, classifier, self.layer)
        return ""

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        """One density a class, of the images of that *true* class that no example was made of."""
        require_layer(self.name, classifier, self.layer)
        state = sorted_by_class(self.name, classifier, self.layer, data.others)
        if data.examples is not None:
            detector = _DensityDetector(classifier, self, state, None)
            state |= learn(self.name, detector.log_density, data.examples)
        return state

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        odds = None if self.learns_from is None else LogOdds(state)
        return _DensityDetector(classifier, self, state, odds)


class _DensityDetector(Detector):
    def __init__(
        self, classifier: Classifier, recipe: KD, state: dict[str, Tensor], odds: nn.Module | None
    ) -> None:
        super().__init__(classifier)
        self.layer, self.odds = recipe.layer, odds
        self.densities = ClassDensities(state, recipe.bandwidth)

    def score(self, x: Images) -> Scores:
        """Minus the log density under the predicted class, or its log-odds."""
        return self._suspicion(self.log_density(x)).to(x)[:, 0]

    def observe(self, x: Images) -> Observation:
        return self.inspect(x)._replace(features=None)

    def inspect(self, x: Images) -> Observation:
        """As `score`; the penalty of a class is the score that the image had if it were predicted.

        Where that is below the score it is the score: an image has to be given the class first.
        Features are the activations, as they are.
        """
        trace, activations = hidden(self.classifier, x, self.layer)
        suspicions = self._suspicion(self.densities(activations)).to(x)
        score = suspicions.gather(1, trace.logits.argmax(1, keepdim=True))
        penalties = torch.maximum(suspicions, score)
        return Observation(trace.logits, score[:, 0], penalties, features=activations)

    def log_density(self, x: Images) -> Tensor:
        """Log density under the predicted class. (B, C, H, W) -> (B, 1) float64"""
        trace, activations = hidden(self.classifier, x, self.layer)
        return self.densities.of(activations, trace.logits.argmax(1))

    def features(self, x: Images) -> Tensor:
        return hidden(self.classifier, x, self.layer)[1]

    def _suspicion(self, logs: Tensor) -> Tensor:
        """The score of each log density. (B, k) -> (B, k)"""
        if self.odds is None:
            return -logs
        odds: Tensor = self.odds(logs.reshape(-1, 1))
        return odds.view_as(logs)


def hidden(
    classifier: Classifier, x: Images, layer: str | None, also: Sequence[str] = ()
) -> tuple[Trace, Tensor]:
    """One pass: its trace with the layers `also`, and the activations at `layer`, flattened. (B, D)"""
    if layer is not None:
        trace = classifier.trace(x, [layer, *also])
        if layer not in trace.activations:
            raise UsageError(f"layer {layer!r} yields no tensor; look at another")
        return trace, trace.activations[layer].flatten(1)
    head, seen = _head(classifier), []
    assert head is not None
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        trace = classifier.trace(x, also)
    finally:
        handle.remove()
    if not seen:
        raise UsageError("the last layer with a weight matrix is not run; say which layer to look at")
    return trace, seen[-1][: len(x)].flatten(1)


def require_layer(name: str, classifier: Classifier, layer: str | None) -> None:
    """Refuse a layer that the classifier does not have.

    Raises:
        UsageError: naming those it has.
    """
    known = f"(layers: {', '.join(classifier.layers())})"
    if layer is not None and layer not in dict(classifier.network.named_modules()):
        raise UsageError(f"{name}.layer = {layer!r}: the network has no such layer {known}")
    if layer is None and _head(classifier) is None:
        raise UsageError(
            f"{name} finds no layer with a weight matrix that yields logits; say which one to look at "
            f"with --set {name}.layer=… {known}"
        )


def _head(classifier: Classifier) -> nn.Module | None:
    """The last module, in order of definition, with a weight matrix or kernel of one row a class."""
    weights = [(m, getattr(m, "weight", None)) for m in classifier.network.modules()]
    matrices = [(m, w) for m, w in weights if isinstance(w, Tensor) and w.dim() > 1]
    heads = [m for m, weight in matrices if len(weight) == classifier.num_classes]
    return heads[-1] if heads else None


def sorted_by_class(
    name: str, classifier: Classifier, layer: str | None, images: Split
) -> dict[str, Tensor]:
    """The state of `ClassDensities`: the activations of `images`, class by class, and how many.

    Raises:
        UsageError: if a class has fewer than two images.
    """
    counts = class_counts(name, images, classifier.num_classes)
    order = images.y.argsort(stable=True)
    points = features_of(lambda x: hidden(classifier, x, layer)[1], images.x[order])
    return {"points": points, "counts": counts}
