"""Networks of the NeuralFP papers and a small one for digits.

Everywhere: linear operation, ReLU, BatchNorm, then pooling; images are shifted by -0.5 inside. The
papers' networks have no dropout; `dropout` adds it for detectors that need some.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from nfbench import Fraction, Model, UsageError

Rate = Annotated[float, Ge(0), Lt(1)]
"""Share of activations that dropout zeroes; 0 leaves the layer out."""
_DIGITS_DROPOUT = 0.2


class Shift(nn.Module):
    """[0, 1] to [-0.5, 0.5], the papers' normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding)
    return [conv, nn.ReLU(), nn.BatchNorm2d(outputs)]


def _dense(inputs: int, outputs: int, dropout: float = 0.0) -> list[nn.Module]:
    block = [nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs)]
    return [*block, nn.Dropout(dropout)] if dropout else block


def head(body: list[nn.Module], shape: tuple[int, int, int], name: str) -> tuple[nn.Module, int]:
    """The convolutional part and the number of features it yields for images of `shape`."""
    stem = nn.Sequential(Shift(), *body, nn.Flatten()).eval()
    try:
        with torch.no_grad():
            width = stem(torch.zeros(1, *shape)).shape[1]
    except RuntimeError as error:
        raise UsageError(f"{name} can't take images of shape {shape}: {error}") from None
    return stem.train(), width


class DigitsMLP(Model):
    """64-128-64-10 on 8 x 8 digits; 17 024 multiply-adds."""

    name = "digits-mlp"

    dropout: Rate = _DIGITS_DROPOUT
    """After each hidden dense block."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        inputs = shape[0] * shape[1] * shape[2]
        hidden = [*_dense(inputs, 128, self.dropout), *_dense(128, 64, self.dropout)]
        return nn.Sequential(Shift(), nn.Flatten(), *hidden, nn.Linear(64, num_classes))


class Table8(Model):
    """5x5x32, pool, 5x5x64, pool, 200, 200: the paper's MNIST net."""

    name = "mnist-table8"
    paper = "https://arxiv.org/abs/1803.03870"

    dropout: Rate = 0.0
    """After each hidden dense block."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        body = [*_conv(shape[0], 32, 5), nn.MaxPool2d(2), *_conv(32, 64, 5), nn.MaxPool2d(2)]
        stem, width = head(body, shape, self.name)
        hidden = [*_dense(width, 200, self.dropout), *_dense(200, 200, self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(200, num_classes))


class FourConv(Model):
    """Four 3x3 convolutions and 200, 200: the MNIST net of the released code."""

    name = "mnist-4conv"
    paper = "https://arxiv.org/abs/1803.03870"

    dropout: Rate = 0.0
    """After each hidden dense block."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        first = [*_conv(shape[0], 32, 3), *_conv(32, 32, 3), nn.MaxPool2d(2)]
        second = [*_conv(32, 64, 3), *_conv(64, 64, 3), nn.MaxPool2d(2)]
        stem, width = head(first + second, shape, self.name)
        hidden = [*_dense(width, 200, self.dropout), *_dense(200, 200, self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(200, num_classes))


class Table9(Model):
    """Four 3x3 convolutions and 256, 256: the CIFAR-10 net of the paper and of the released code."""

    name = "cifar-table9"
    paper = "https://arxiv.org/abs/1803.03870"

    dropout: Rate = 0.0
    """After each hidden dense block."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        first = [*_conv(shape[0], 32, 3), *_conv(32, 64, 3), nn.MaxPool2d(2)]
        second = [*_conv(64, 128, 3), *_conv(128, 128, 3), nn.MaxPool2d(2)]
        stem, width = head(first + second, shape, self.name)
        hidden = [*_dense(width, 256, self.dropout), *_dense(256, 256, self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(256, num_classes))


class Table7(Model):
    """The AlexNet-like MiniImagenet-20 net of the paper.

    The paper gives kernels and widths only; strides and paddings are AlexNet's, pooling is 3x3 with
    stride 2 and padding 1, and the 156 of its fifth convolution is kept.
    """

    name = "alexnet-table7"
    paper = "https://arxiv.org/abs/1803.03870"

    dropout: Fraction = 0.5
    """Not given in the paper; AlexNet's."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, 1)

        first = [*_conv(shape[0], 64, 11, 4, 2), pool(), *_conv(64, 192, 5, 1, 2), pool()]
        second = [*_conv(192, 384, 3, 1, 1), pool(), *_conv(384, 256, 3, 1, 1)]
        third = [*_conv(256, 156, 3, 1, 1), pool()]
        stem, width = head(first + second + third, shape, self.name)
        hidden = [*_dense(width, 3072), nn.Dropout(self.dropout)]
        hidden += [*_dense(3072, 1024), nn.Dropout(self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(1024, num_classes))


class SmallConv(Model):
    """Two 3x3 convolutions and 128, for images whose dataset names no model."""

    name = "small-conv"

    dropout: Rate = 0.0
    """After each hidden dense block."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        first = [*_conv(shape[0], 32, 3, 1, 1), nn.MaxPool2d(2)]
        second = [*_conv(32, 64, 3, 1, 1), nn.AdaptiveMaxPool2d(4)]
        stem, width = head(first + second, shape, self.name)
        hidden = _dense(width, 128, self.dropout)
        return nn.Sequential(stem, *hidden, nn.Linear(128, num_classes))
