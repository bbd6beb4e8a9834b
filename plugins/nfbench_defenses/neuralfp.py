"""NeuralFP: a classifier trained to answer secret perturbations with set changes of its logits.

Dathathri et al. (2018), https://arxiv.org/abs/1803.03870; released code of December 2018; EPFL
reproduction of 2019. Where they disagree, the choice is a hyperparameter and a preset.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench import (
    Classifier,
    Count,
    Defense,
    Detector,
    FitData,
    Images,
    Labels,
    NonNegative,
    Observation,
    Positive,
    Scores,
    seed_of,
)


class _Preset(NamedTuple):
    """What one source fixes: range of dx, response of the class itself and of the others, loss."""

    dx_range: Literal["pos", "sym"]
    dy_on: float
    dy_off: float
    reduction: Literal["mean", "sum"]
    shift: float


_PRESETS = {
    "code": _Preset("pos", -0.7, 0.2357, "mean", 1e-5),  # released code, MNIST
    "code-cifar10": _Preset("sym", -1.05, 0.381, "mean", 1e-5),
    "code-imagenet": _Preset("sym", 0.6, -0.254, "mean", 1e-5),
    "paper": _Preset("sym", 0.73, -0.235, "sum", 0.0),  # section 3.1; the loss is eq. (5)
    "epfl": _Preset("pos", -0.75, 0.25, "mean", 0.0),
}


class NeuralFP(Defense):
    """Logits that do not answer the secret perturbations as trained are suspicious."""

    name = "neuralfp"
    paper = "https://arxiv.org/abs/1803.03870"
    # What everybody calls eps is the radius of an attack.
    aliases: ClassVar[Mapping[str, str]] = {"size": "eps"}

    preset: Literal["code", "code-cifar10", "code-imagenet", "paper", "epfl"] = "code"
    """Which source the range of the perturbations, the responses and the loss follow. The released
    code has the opposite sign of the paper on MNIST and CIFAR-10, and each changes the result."""
    fingerprints: Count = 10
    """Number N of secret perturbations."""
    eps: Positive = 0.1
    """Largest pixel change of a secret perturbation, in [0, 1]; x + dx is never clipped."""
    dx_range: Literal["pos", "sym"] | None = None
    """Draw dx from U[0, eps] or U(-eps, eps); the preset's if None."""
    dy_on: float | None = None
    """Response of the image's own class; the preset's if None."""
    dy_off: float | None = None
    """Response of every other class; the preset's if None."""
    random_sign: bool = False
    """Give each perturbation's responses a secret random sign (paper, Appendix B)."""
    loss: Literal["mean", "sum"] | None = None
    """Squared error averaged over classes (code) or summed (paper, eq. 5); the preset's if None."""
    shift: NonNegative | None = None
    """Added to every response component in training only (code: 1e-5); the preset's if None."""
    alpha: Positive = 1.0
    """Weight of the fingerprint loss against cross-entropy."""
    bn_concat: bool = True
    """Train on [x; x+dx_1; ...] in one batch, so that they share batch statistics (code)."""
    require_agreement: bool = False
    """Also suspect images whose class by fingerprint is not the predicted one (never in the papers)."""

    @property
    def rows_per_image(self) -> int:
        return self.fingerprints + 1

    def training_loss(self, classifier: Classifier, x: Images, y: Labels) -> Tensor:
        """L_CE on clean images + alpha * L_fp, eq. (5); summed over fingerprints. Scalar."""
        dx, dy = self.secrets(tuple(x.shape[1:]), classifier.num_classes)
        logits, change = responses(classifier, x, dx.to(x), together=self.bn_concat)
        return F.cross_entropy(logits, y) + self.alpha * self.fingerprint_loss(change, dy.to(x), y)

    def fingerprint_loss(self, change: Tensor, dy: Tensor, y: Labels) -> Tensor:
        """L_fp of responses (B, N, K) against targets (N, K, K) for classes (B,). Scalar."""
        preset = _PRESETS[self.preset]
        shift = preset.shift if self.shift is None else self.shift
        error = (change + shift - dy[:, y].transpose(0, 1)).square()  # (B, N, K)
        reduction = self.loss or preset.reduction
        return (error.mean(2) if reduction == "mean" else error.sum(2)).mean(0).sum()

    def secrets(self, shape: tuple[int, ...], num_classes: int) -> tuple[Tensor, Tensor]:
        """The perturbations (N, C, H, W) and the expected responses (N, class, K), from `secret`."""
        preset = _PRESETS[self.preset]
        generator = torch.Generator().manual_seed(seed_of("neuralfp", self.secret))
        dx = torch.rand(self.fingerprints, *shape, generator=generator) * self.eps
        if (self.dx_range or preset.dx_range) == "sym":
            dx = 2 * dx - self.eps
        on = preset.dy_on if self.dy_on is None else self.dy_on
        off = preset.dy_off if self.dy_off is None else self.dy_off
        dy = off + (on - off) * torch.eye(num_classes)
        signs = torch.ones(self.fingerprints)
        if self.random_sign:
            signs = torch.randint(2, (self.fingerprints,), generator=generator) * 2.0 - 1
        return dx, signs[:, None, None] * dy

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, Tensor]:
        dx, dy = self.secrets(tuple(data.clean.x.shape[1:]), classifier.num_classes)
        return {"dx": dx, "dy": dy}

    def detector(self, classifier: Classifier, state: dict[str, Tensor]) -> Detector:
        return _FingerprintDetector(classifier, state["dx"], state["dy"], self.require_agreement)


class _FingerprintDetector(Detector):
    def __init__(self, classifier: Classifier, dx: Tensor, dy: Tensor, agreement: bool) -> None:  # noqa: FBT001
        super().__init__(classifier)
        self.dx, self.dy = nn.Buffer(dx), nn.Buffer(dy)  # (N, C, H, W), (N, K, K)
        self.agreement = agreement
        self.rows_per_image = len(dx) + 1

    def score(self, x: Images) -> Scores:
        """min_j D_j (paper, eq. 3), from one forward pass of the (N + 1) B rows."""
        score = self.observe(x).score
        assert score is not None
        return score

    def observe(self, x: Images) -> Observation:
        return self._observation(stacked_logits(self.classifier, x, self.dx))

    def inspect(self, x: Images) -> Observation:
        stacked = stacked_logits(self.classifier, x, self.dx)
        return self._observation(stacked)._replace(features=_directions(stacked))

    def _observation(self, stacked: Tensor) -> Observation:
        logits, change = _change(stacked)
        each = each_distance(change, self.dy)
        distances = mean_distance(each)
        score = distances.amin(1)
        if self.agreement:
            predicted = distances.gather(1, logits.argmax(1, keepdim=True))
            distances = torch.maximum(distances, predicted)
            score = predicted[:, 0]
        return Observation(logits, score, distances, _fingerprints_last(each.square()).sum(2))

    def features(self, x: Images) -> Tensor:
        """Normalised logits at x and at every x + dx_i. (B, (N + 1) K)"""
        return _directions(stacked_logits(self.classifier, x, self.dx))


def stacked_logits(classifier: Classifier, x: Images, dx: Tensor) -> Tensor:
    """Logits of [x; x+dx_1; ...; x+dx_N] in one batch. (N + 1, B, K)"""
    rows = torch.cat([x[None], x[None] + dx[:, None]])  # (N + 1, B, C, H, W)
    logits: Tensor = classifier(rows.flatten(0, 1))
    return logits.view(*rows.shape[:2], -1)


def responses(
    classifier: Classifier, x: Images, dx: Tensor, *, together: bool = True
) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and the change of the normalised logits under each perturbation (B, N, K).

    `together` puts all rows in one batch, which matters only to batch statistics in training.
    """
    if together:
        stacked = stacked_logits(classifier, x, dx)
    else:
        stacked = torch.stack([classifier(x), *(classifier(x + d) for d in dx)])
    return _change(stacked)


def _change(stacked: Tensor) -> tuple[Tensor, Tensor]:
    """(N + 1, B, K) -> logits (B, K) and responses (B, N, K)"""
    direction = F.normalize(stacked, dim=2)
    return stacked[0], (direction[1:] - direction[:1]).transpose(0, 1)


def _directions(stacked: Tensor) -> Tensor:
    """(N + 1, B, K) -> (B, (N + 1) K)"""
    directions: Tensor = F.normalize(stacked, dim=2)
    return directions.transpose(0, 1).flatten(1)


def class_distances(change: Tensor, dy: Tensor) -> Tensor:
    """D_j: mean over fingerprints of the Euclidean distance to class j's response. (B, K)"""
    return mean_distance(each_distance(change, dy))


def each_distance(change: Tensor, dy: Tensor) -> Tensor:
    """Euclidean distance of each fingerprint's response to that of each class. (N, B, K)"""
    exact = "donot_use_mm_for_euclid_dist"
    distances: Tensor = torch.cdist(change.transpose(0, 1), dy, compute_mode=exact)
    return distances


def mean_distance(distances: Tensor) -> Tensor:
    """(N, B, K) -> (B, K)"""
    mean: Tensor = _fingerprints_last(distances).mean(2)
    return mean


def _fingerprints_last(distances: Tensor) -> Tensor:
    """(N, B, K) -> (B, K, N), where the order of summing does not depend on the number of images."""
    return distances.movedim(0, 2).contiguous()
