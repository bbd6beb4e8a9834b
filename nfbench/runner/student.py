"""The student: a small smooth network that imitates a detector's score, and how it is brought back."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.surrogate import StandIn
from nfbench.core.values import Images, Logits, Scores

WIDTH, HIDDEN, SIDE = 16, 128, 8
"""Channels; units of a hidden layer; height and width to which convolutions shrink larger images."""


class Student(nn.Module):
    """Convolutions on the pixels, two hidden layers on these and on the logits; smooth throughout.

    In units of the detector's score near the clean ones; far from them it grows like their logarithm,
    as the inverse hyperbolic sine does, so that no outlier decides what is learnt.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        channels, height, width = shape
        body: list[nn.Module] = []
        while max(height, width) > SIDE or not body:
            stride = 2 if max(height, width) > SIDE else 1
            body += [nn.Conv2d(channels, WIDTH, 3, stride, 1), nn.SiLU()]
            channels, height, width = WIDTH, -(-height // stride), -(-width // stride)
        dense = nn.Linear(channels * height * width, HIDDEN)
        self.see = nn.Sequential(*body, nn.Flatten(), dense, nn.SiLU())
        self.hear = nn.Sequential(nn.Linear(2 * num_classes, HIDDEN), nn.SiLU())
        self.judge = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))
        self.mean, self.scale = nn.Buffer(torch.zeros(num_classes)), nn.Buffer(torch.ones(()))
        self.origin, self.unit = nn.Buffer(torch.zeros(())), nn.Buffer(torch.ones(()))

    def forward(self, packed: Tensor) -> Tensor:
        """Images and logits, packed. (B, C H W + K) -> (B, 1)"""
        pixels = math.prod(self.shape)
        x = packed[:, :pixels].reshape(-1, *self.shape).contiguous()
        logits = packed[:, pixels:]
        heard = torch.cat([(logits - self.mean) / self.scale, F.normalize(logits, dim=1)], 1)
        out: Tensor = self.judge(torch.cat([self.see(x - 0.5), self.hear(heard)], 1))
        return self.origin + self.unit * out


def packed(x: Images, logits: Logits) -> Tensor:
    """Pixels and logits side by side. (B, C H W + K)"""
    return torch.cat([x.flatten(1), logits], 1)


def stand_in(tensors: Mapping[str, Tensor], shape: tuple[int, ...], classifier: Classifier) -> StandIn:
    """The student that `tensors` hold, for images (C, H, W) that `classifier` classifies."""
    with torch.random.fork_rng(devices=[]):  # layers draw weights that are replaced at once
        student = Student(shape, classifier.num_classes)
    student.load_state_dict(dict(tensors))
    padded = Classifier(student, 1).eval().requires_grad_(False)  # the same bits in any batch

    def score(x: Images, logits: Logits) -> Scores:
        out: Scores = padded.to(x.device)(packed(x, logits))[:, 0]
        return out

    return score
