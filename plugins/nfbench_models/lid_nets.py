"""Networks with dropout, of the code of LID (Ma et al. 2018) before it gained BatchNorm.

NeuralFP's baselines come from that code. Its last softmax is left out, as networks return logits;
images are shifted by -0.5 inside. Weights start as torch's do, not as Keras's.
"""

from itertools import pairwise

from torch import nn

from nfbench import Fraction, Model
from nfbench_models.nets import head


def _conv(inputs: int, outputs: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=padding), nn.ReLU()]


class MNISTLid(Model):
    """3x3x64 twice, pool, 128, with dropout: the MNIST net of the code of LID.

    Trained there for 50 epochs by Adadelta in batches of 128.
    """

    name = "mnist-lid"
    paper = "https://arxiv.org/abs/1801.02613"

    dropout: Fraction = 0.5
    """After the pooling and after the hidden dense layer."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        body = [*_conv(shape[0], 64, 0), *_conv(64, 64, 0), nn.MaxPool2d(2), nn.Dropout(self.dropout)]
        stem, width = head(body, shape, self.name)
        hidden = [nn.Linear(width, 128), nn.ReLU(), nn.Dropout(self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(128, num_classes))


class CIFARLid(Model):
    """Six padded 3x3 convolutions, 1024, 512, with dropout: the CIFAR-10 net of the code of LID.

    Trained there for 50 epochs by Adadelta in batches of 128, with a penalty of 0.01 times the squares
    of the hidden dense layers' weights; `training.weight_decay` falls on all layers instead.
    """

    name = "cifar-lid"
    paper = "https://arxiv.org/abs/1801.02613"

    dropout: Fraction = 0.5
    """Before each dense layer."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        body: list[nn.Module] = []
        widths = [shape[0], 32, 64, 128]
        for inputs, outputs in pairwise(widths):
            body += [*_conv(inputs, outputs, 1), *_conv(outputs, outputs, 1), nn.MaxPool2d(2)]
        stem, width = head(body, shape, self.name)
        hidden = [nn.Dropout(self.dropout), nn.Linear(width, 1024), nn.ReLU()]
        hidden += [nn.Dropout(self.dropout), nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(self.dropout)]
        return nn.Sequential(stem, *hidden, nn.Linear(512, num_classes))
