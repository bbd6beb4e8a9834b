"""Small victims with known answers: 4 x 4 images, two classes, everything linear."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Examples, FitData
from nfbench.core.values import Images, Labels, Norm, Scores, Split
from nfbench.core.victim import Alarm, Victim

SHAPE = (1, 4, 4)
CLASSES = 2
_STRENGTH = 8.0
"""Logits that one unit of brightness of a half is worth."""


def linear_classifier() -> Classifier:
    """Says whether the left (0) or the right half (1) of a 4 x 4 image is brighter; eval mode, frozen.

    It has named layers, batch statistics and dropout as real networks do, and is linear on [0, 1]:
    the ReLU never cuts there, so the nearest image of the other class is known (`optimum`).
    """
    with torch.random.fork_rng(devices=[]):  # layers draw weights that are replaced below
        network = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                quadrants=nn.Linear(16, 4),
                relu=nn.ReLU(),
                norm=nn.BatchNorm1d(4),
                dropout=nn.Dropout(0.1),
                head=nn.Linear(4, CLASSES),
            )
        )
    rows = torch.arange(16).view(4, 4)
    weight = torch.zeros(4, 16)
    for quadrant in range(4):
        top, left = 2 * (quadrant // 2), 2 * (quadrant % 2)
        pixels = rows[top : top + 2, left : left + 2].flatten()
        weight[quadrant, pixels] = torch.tensor([0.8, 1.1, 0.9, 1.2]) / 4  # no two alike, so no ties
    head = torch.tensor([[1.1, 0.0, 0.9, 0.0], [0.0, 0.9, 0.0, 1.1]]) / 2 * _STRENGTH
    parts = dict(network.named_children())
    with torch.no_grad():
        for layer, values, bias in (("quadrants", weight, 0.1), ("head", head, 0.0)):
            linear = parts[layer]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(values)
            linear.bias.fill_(bias)
    return Classifier(network, CLASSES).eval().requires_grad_(False)


def linear_images(count: int, seed: int = 0) -> Split:
    """Images in [0.2, 0.8] with the labels that `linear_classifier` gives them, none on the border."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4 * count, *SHAPE, generator=generator) * 0.4 + 0.3
    side = torch.randint(2, (4 * count, 1, 1, 1), generator=generator) * 2.0 - 1
    x = x + torch.cat([-side, side], 3).repeat_interleave(2, 3) * 0.05
    logits = linear_classifier()(x)
    rows = torch.nonzero((logits[:, 0] - logits[:, 1]).abs() > 0.02 * _STRENGTH)[:count, 0]
    index = torch.arange(count) * 7 + 3  # positions in some larger dataset
    return Split(x[rows], logits[rows].argmax(1), index)


def optimum(x: Images, labels: Labels, norm: Norm) -> Tensor:
    """Size of the smallest perturbation that makes `linear_classifier` wrong, in float32. (B,)"""
    x = x.detach().clone().requires_grad_()
    logits = linear_classifier()(x)
    rows = torch.arange(len(x))
    margin = logits[rows, labels] - logits[rows, 1 - labels]
    slope = torch.autograd.grad(margin.sum(), x)[0].flatten(1)
    margin, size = margin.detach(), slope.abs()
    if norm != "l0":
        dual: Tensor = size.sum(1) if norm == "linf" else size.square().sum(1).sqrt()
        distance: Tensor = margin / dual
        return distance
    flat = x.detach().flatten(1)
    gain = size * torch.where(slope > 0, flat, 1 - flat)  # of driving a pixel to its bound
    reached = gain.sort(1, descending=True).values.cumsum(1)
    count: Tensor = (reached <= margin[:, None]).sum(1) + 1.0
    return count


def misclassified(classifier: Classifier, images: Images, labels: Labels) -> float:
    """Share of `images` that the classifier does not give their labels."""
    with torch.no_grad():
        return float((classifier(images).argmax(1) != labels).double().mean())


class Brightness(Detector):
    """Bright images are suspicious: a detector that any image can evade without changing class."""

    def score(self, x: Images) -> Scores:
        return x.flatten(1).mean(1)


def planted_victim() -> Victim:
    """`linear_classifier` behind `Brightness`, calibrated."""
    classifier = linear_classifier()
    detector = Brightness(classifier)
    return Victim(classifier, detector, Alarm.calibrated(detector.score(linear_images(400, seed=1).x)))


def fit_data(*, supervised: bool) -> FitData:
    """512 images to learn from; examples of 128 of them only for a defense that asks for them."""
    clean = linear_images(512, seed=2)
    if not supervised:
        return FitData(clean)
    chosen = clean.take(torch.arange(0, 512, 4))
    step = torch.where(chosen.y == 0, -1.0, 1.0)[:, None, None, None] * 0.2
    toward = torch.cat([step.expand(-1, 1, 4, 2), -step.expand(-1, 1, 4, 2)], 3)
    noise = torch.rand(chosen.x.shape, generator=torch.Generator().manual_seed(3)) * 0.2 - 0.1
    adversarial, noisy = (chosen.x + toward).clamp(0, 1), (chosen.x + noise).clamp(0, 1)
    return FitData(clean, Examples(chosen, adversarial, noisy, "a planted attack"))
