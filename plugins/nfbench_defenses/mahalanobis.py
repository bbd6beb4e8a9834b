"""Mahalanobis: how far an image's activations are from the nearest class, layer by layer.

Lee et al. (2018), https://arxiv.org/abs/1807.03888.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from nfbench import (
    Classifier,
    Defense,
    Detector,
    Examples,
    FitData,
    Images,
    Logits,
    NonNegative,
    Observation,
    Scores,
    Trace,
    UsageError,
)
from nfbench_defenses.gaussians import channel_means, fit_layers, layer_gaussians
from nfbench_defenses.logistic import LogOdds, features_of, fit_logistic, log_odds
from nfbench_defenses.names import Layers

MAGNITUDES = (0.0, 0.01, 0.005, 0.002, 0.0014, 0.001, 0.0005)
"""Steps that the released code tries, in its order; in pixel units of [0, 1]."""
_ROWS = 128
"""Images whose steps are computed at once in fitting; each keeps a graph of all layers."""
_FEW = 4
"""Layers that a network is assumed to have before it is known."""
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
_PASSIVE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Modules that change nothing when a classifier is not being trained."""


class Mahalanobis(Defense):
    """Activations far from every class's mean are suspicious, measured by their common covariance."""

    name = "mahalanobis"
    paper = "https://arxiv.org/abs/1807.03888"

    learns_from: str | None = "fgsm"
    """An attack: the score is the log-odds of a logistic regression on the distances at all layers.
    None: the score is the distance at one layer, and nothing is learnt from attacks."""
    layers: Layers | None = None
    """Modules to look at. None: every activation module (released code: the outputs of blocks) and
    the last hidden layer; without `learns_from` the last hidden layer alone."""
    magnitude: NonNegative | None = None
    """Size of the step towards the nearest class that an image takes before a layer measures its
    distance, in pixel units of [0, 1]; it is not clipped. None: the one of the paper's seven with
    which a regression on half of the examples has the best AUROC on the other half; 0 without
    `learns_from`."""
    ridge: NonNegative = 1e-6
    """Added to the variance in every direction, as a share of the mean variance of a feature. The
    released code adds none; this much keeps the rounding of float32 activations out of the score."""

    @model_validator(mode="after")
    def _looks_somewhere(self) -> Self:
        if self.layers is not None and not self.layers:
            raise ValueError("layers must name at least one layer")
        if self.learns_from is None and len(self.layers or ()) > 1:
            raise ValueError("without learns_from it looks at one layer; name just one")
        return self

    @property
    def rows_per_image(self) -> int:
        """The image, and one step for each layer."""
        steps = self.learns_from is not None if self.magnitude is None else self.magnitude > 0
        return 1 + steps * (_FEW if self.layers is None else len(self.layers))

    def mismatch(self, classifier: Classifier) -> str:
        if self.layers_of(classifier):
            return ""
        return (
            f"{self.name} finds no activation modules to look at; name layers with --set "
            f"{self.name}.layers=… (layers: {', '.join(classifier.layers())})"
        )

    def layers_of(self, classifier: Classifier) -> list[str]:
        """Names of the modules to look at; none if the network has no activation modules.

        Raises:
            UsageError: for a name that is no submodule.
        """
        modules, leaves = dict(classifier.network.named_modules()), classifier.layers()
        if self.layers is not None:
            for name in self.layers:
                if name not in modules:
                    known = f"(layers: {', '.join(leaves)})"
                    raise UsageError(f"{self.name}.layers: the network has no layer {name!r} {known}")
            return list(dict.fromkeys(self.layers))
        weights = [getattr(modules[name], "weight", None) for name in leaves]
        heads = [
            i for i, weight in enumerate(weights) if isinstance(weight, Tensor) and weight.dim() > 1
        ]
        before = leaves[: heads[-1] if heads else -1]
        hidden = [name for name in before if not isinstance(modules[name], _PASSIVE)][-1:]
        if self.learns_from is None:
            return hidden
        chosen = [name for name in leaves if isinstance(modules[name], _ACTIVATIONS)]
        return list(dict.fromkeys(chosen + hidden)) if chosen else []

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        """Means and covariances by *true* class, of the images that no example was made of."""
        if reason := self.mismatch(classifier):
            raise UsageError(reason)
        layers = self.layers_of(classifier)
        state = fit_layers(self.name, classifier, layers, data.others, self.ridge)
        if data.examples is None:
            return state | {"magnitude": torch.tensor(self.magnitude or 0.0, dtype=torch.float64)}
        candidates = MAGNITUDES if self.magnitude is None else (self.magnitude,)
        detector = _MahalanobisDetector(classifier, layers, state, candidates)
        return state | _learn(self.name, detector, data.examples)

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        odds = None if self.learns_from is None else LogOdds(state)
        magnitudes = (float(state["magnitude"]),)
        return _MahalanobisDetector(classifier, self.layers_of(classifier), state, magnitudes, odds)


class _MahalanobisDetector(Detector):
    def __init__(
        self,
        classifier: Classifier,
        layers: Sequence[str],
        state: dict[str, Tensor],
        magnitudes: Sequence[float],
        odds: nn.Module | None = None,
    ) -> None:
        super().__init__(classifier)
        self.layers, self.magnitudes, self.odds = layers, magnitudes, odds
        self.gaussians = layer_gaussians(state)
        self.rows_per_image = 1 + sum(m > 0 for m in magnitudes) * len(self.gaussians)

    def score(self, x: Images) -> Scores:
        """Distance to the nearest class at the last layer, or the log-odds of those at all layers.

        Attacks see the steps as constant: the gradient is that of the distances after them.
        """
        score = self.observe(x).score
        assert score is not None
        return score

    def observe(self, x: Images) -> Observation:
        """As `score`; the penalty of a class is the score that the image had if it were the nearest.

        Where that is below the score it is the score: the image has another class nearer to it.
        """
        logits, distances, _ = self._look(x)
        return self._observation(logits, distances[0])

    def inspect(self, x: Images) -> Observation:
        """As `observe`; features are what distances are measured between, in the same coordinates.

        Whitened means over space, after a layer's step if there is one. Each layer is divided by the
        root of its number of coordinates, so that all count alike. (B, D)
        """
        logits, distances, rows = self._look(x)
        parts = []
        for row, gaussian in zip(rows[0], self.gaussians, strict=True):
            shift, whiten = gaussian.get_buffer("shift"), gaussian.get_buffer("whiten")
            parts.append((row.to(shift) - shift) @ whiten / whiten.shape[1] ** 0.5)
        return self._observation(logits, distances[0])._replace(features=torch.cat(parts, 1).to(x))

    def features(self, x: Images) -> Tensor | None:
        return self.inspect(x).features

    def _observation(self, logits: Logits, distances: Tensor) -> Observation:
        """From logits (B, K) and distances (B, K, L)."""
        score = self._suspicion(distances.amin(1, keepdim=True)).to(logits)
        penalties = torch.maximum(self._suspicion(distances).to(logits), score)
        return Observation(logits, score[:, 0], penalties)

    def nearest(self, x: Images) -> Tensor:
        """Distance to the nearest class, minus the paper's M_l, for each magnitude. (B, M, L) float64"""
        return self._look(x)[1].amin(2).transpose(0, 1)

    def _suspicion(self, distances: Tensor) -> Tensor:
        """The score that distances make. (B, k, L) -> (B, k)"""
        if self.odds is None:
            return distances[..., -1]
        odds: Tensor = self.odds(distances.flatten(0, 1))
        return odds.view(distances.shape[:2])

    def _look(self, x: Images) -> tuple[Logits, Tensor, list[list[Tensor]]]:
        """Logits (B, K), squared distances to all classes (M, B, K, L), and what they are measured of.

        That is channel means (B, D) for each magnitude and layer. One pass if there is no step.
        """
        attached = torch.is_grad_enabled() and x.requires_grad
        with torch.set_grad_enabled(torch.is_grad_enabled() or any(self.magnitudes)):
            # Not `x` itself: what listens to its gradient must not hear of the steps'.
            start = x.view_as(x) if attached else x.detach().requires_grad_(any(self.magnitudes))
            trace = self.classifier.trace(start, self.layers)
            here = [channel_means(activation) for activation in trace.activations.values()]
            apart = self._apart(here)
            steps = [_towards_nearest(d, start) for d in apart] if any(self.magnitudes) else []
        rows = [here if size == 0 else self._moved(x, size, trace, steps) for size in self.magnitudes]
        found = [apart if there is here else self._apart(there) for there in rows]
        distances = torch.stack([torch.stack(layers, 2) for layers in found])
        if attached:
            return trace.logits, distances, rows
        rows = [[row.detach() for row in there] for there in rows]
        return trace.logits.detach(), distances.detach(), rows

    def _apart(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Squared distances to all classes at each layer. (B, D) each -> (B, K) each"""
        return [gaussian(row) for gaussian, row in zip(self.gaussians, rows, strict=True)]

    def _moved(self, x: Images, size: float, trace: Trace, steps: Sequence[Tensor]) -> list[Tensor]:
        """Channel means at each layer of `trace`, after its own step. (B, D) each"""
        rows = []
        for name, step in zip(trace.activations, steps, strict=True):
            moved = self.classifier.trace(x + size * step, [name.split("#")[0]])
            rows.append(channel_means(moved.activations[name]))
        return rows


def _towards_nearest(distances: Tensor, x: Images) -> Tensor:
    """Sign of the direction in pixels in which the distance to the nearest class falls."""
    return -torch.autograd.grad(distances.amin(1).sum(), x, retain_graph=True)[0].sign()


def _learn(name: str, detector: _MahalanobisDetector, examples: Examples) -> dict[str, Tensor]:
    """The magnitude, chosen on half of the examples if there are several, and a regression on all."""

    def extract(x: Images) -> Tensor:
        return torch.cat([detector.nearest(part) for part in x.split(_ROWS)])

    kinds = [features_of(extract, x) for x in (examples.adversarial, examples.clean.x, examples.noisy)]
    best = 0
    if len(detector.magnitudes) > 1:
        aurocs = [_validated(name, [rows[:, m] for rows in kinds]) for m in range(kinds[0].shape[1])]
        best = aurocs.index(max(aurocs))
    state = fit_logistic(name, *(rows[:, best] for rows in kinds))
    return state | {"magnitude": torch.tensor(detector.magnitudes[best], dtype=torch.float64)}


def _validated(name: str, kinds: Sequence[Tensor]) -> float:
    """AUROC on every other image, of a regression on the rest; (N, L) attacked, clean and noisy."""
    from sklearn.metrics import roc_auc_score

    state = fit_logistic(name, *(rows[::2] for rows in kinds))
    held_out = [rows[1::2] for rows in kinds]
    odds = log_odds(torch.cat(held_out), {key: tensor.to(held_out[0]) for key, tensor in state.items()})
    labels = [1] * len(held_out[0]) + [0] * len(torch.cat(held_out[1:]))
    return float(roc_auc_score(labels, odds.cpu()))
