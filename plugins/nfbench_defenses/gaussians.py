"""One Gaussian a class, all with the same covariance, at each of several layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nfbench import Classifier, Images, Labels, Split, UsageError
from nfbench_defenses.classes import class_counts
from nfbench_defenses.logistic import features_of

TOLERANCE = 1e-10
"""Eigenvalues of the covariance up to this share of the largest are none. Where the largest standard
deviation is 1, float32 activations are rounded to about 1e-6; these have one below 1e-5."""


class TiedGaussians(nn.Module):
    """Squared Mahalanobis distances to the class means, in float64.

    The covariance has been inverted once: vectors are centred and whitened, and what is left is a
    Euclidean distance.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.shift = nn.Buffer(state["shift"])  # (D,)
        self.whiten = nn.Buffer(state["whiten"])  # (D, R)
        self.centres = nn.Buffer(state["centres"])  # (K, R)

    def forward(self, activation: Tensor) -> Tensor:
        """(f - mu_c)' S^-1 (f - mu_c) for every class c. (B, D, ...) -> (B, K)"""
        white = (channel_means(activation).to(self.shift) - self.shift) @ self.whiten
        lengths = white.square().sum(1, keepdim=True) + self.centres.square().sum(1)
        distances: Tensor = lengths - 2 * white @ self.centres.T
        return distances


def channel_means(activation: Tensor) -> Tensor:
    """Spatial means, as in the paper; vectors stay as they are. (B, D, ...) -> (B, D)"""
    return activation.flatten(2).mean(2) if activation.dim() > 2 else activation


def fit_gaussians(features: Tensor, y: Labels, classes: int, ridge: float) -> dict[str, Tensor]:
    """The state of `TiedGaussians`: means by class, and one covariance around them.

    The covariance is the mean outer product (as scikit-learn's `EmpiricalCovariance`). Directions in
    which it has no eigenvalue to speak of are left out, as by a pseudo-inverse, and `ridge` times
    the mean variance of a feature is added to the others. (N, D), (N,) -> tensors in float64

    Raises:
        ValueError: if no feature differs among the images of a class.
    """
    rows = features.double()
    shift = rows.mean(0)
    rows = rows - shift
    counts = y.bincount(minlength=classes)[:, None]
    means = rows.new_zeros(classes, rows.shape[1]).index_add(0, y, rows) / counts
    within = rows - means[y]
    values, vectors = torch.linalg.eigh(within.T @ within / len(rows))
    rounding = torch.finfo(features.dtype).eps * float(features.abs().max())
    if not float(values[-1]) > rounding**2:
        raise ValueError("no feature differs among the images of a class")
    kept = values > TOLERANCE * values[-1]
    scale = (values[kept] + ridge * values.clamp_min(0).mean()).rsqrt()
    whiten = vectors[:, kept] * scale
    return {"shift": shift, "whiten": whiten.contiguous(), "centres": means @ whiten}


def fit_layers(
    name: str, classifier: Classifier, layers: list[str], images: Split, ridge: float
) -> dict[str, Tensor]:
    """The states of `layer_gaussians`, one for each run of each module in `layers`.

    Raises:
        UsageError: if a class has too few images, or a layer features that are not finite or the same
            for all.
    """
    class_counts(name, images, classifier.num_classes)  # too few are refused
    known = f"name other layers with --set {name}.layers=… (layers: {', '.join(classifier.layers())})"
    first = classifier.trace(images.x[:1], layers).activations
    widths = [channel_means(activation).shape[1] for activation in first.values()]
    if not widths:
        raise UsageError(f"{name} gets no tensor from {', '.join(layers)}; {known}")

    def extract(x: Images) -> Tensor:
        activations = classifier.trace(x, layers).activations.values()
        return torch.cat([channel_means(activation) for activation in activations], 1)

    state: dict[str, Tensor] = {}
    features = features_of(extract, images.x).split(widths, 1)
    for number, (layer, rows) in enumerate(zip(first, features, strict=True)):
        if not rows.isfinite().all():
            raise UsageError(f"{name}: features of layer {layer!r} are not finite; {known}")
        try:
            found = fit_gaussians(rows, images.y, classifier.num_classes, ridge)
        except ValueError:
            raise UsageError(
                f"{name} can't use layer {layer!r}, whose features are the same for all training images "
                f"of a class; {known}"
            ) from None
        state |= {f"layer{number}.{key}": tensor for key, tensor in found.items()}
    return state


def layer_gaussians(state: dict[str, Tensor]) -> nn.ModuleList:
    """What `fit_layers` learnt, in the order in which the layers run."""
    count = sum(key.endswith(".shift") for key in state)
    names = ("shift", "whiten", "centres")
    return nn.ModuleList(
        TiedGaussians({name: state[f"layer{number}.{name}"] for name in names})
        for number in range(count)
    )
