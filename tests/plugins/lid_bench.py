"""Small networks and images that LID is tried on."""

from collections import OrderedDict

import torch
from torch import nn

from nfbench import Classifier, Examples, FitData, Split
from nfbench_defenses.lid import LID

SHAPE, CLASSES = (1, 8, 8), 4


class Net(nn.Module):
    """One ReLU at two places, in place; dropout and flatten change nothing in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(1, 12, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.dropout, self.flatten = nn.Dropout(), nn.Flatten()
        self.dense, self.head = nn.Linear(108, 20), nn.Linear(20, CLASSES)

    def forward(self, x):
        x = self.dropout(self.pool(self.relu(self.conv(x))))
        return self.head(self.relu(self.dense(self.flatten(x))))


class Functional(Net):
    """What happens between two modules is no layer, and makes the dropout a layer of its own."""

    def forward(self, x):
        x = self.dropout(torch.tanh(self.conv(x) * 3))
        return self.head(self.dense(self.flatten(self.pool(x))))


class Smooth(nn.Sequential):
    """No kinks, so that finite differences tell the slope."""

    def __init__(self) -> None:
        conv, tail = nn.Conv2d(1, 12, 3), [nn.Flatten(), nn.Dropout(), nn.Linear(432, CLASSES)]
        super().__init__(OrderedDict(conv=conv, tanh=nn.Tanh(), tail=nn.Sequential(*tail)))


def classifier_of(network=Net) -> Classifier:
    torch.manual_seed(0)
    return Classifier(network(), CLASSES).eval().requires_grad_(False)


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def fit_data(count: int = 90, attacked: int = 70) -> FitData:
    clean = Split(images(count), torch.arange(count) % CLASSES, torch.arange(count) + 1000)
    some = clean.take(torch.arange(count) >= count - attacked)
    step = images(attacked, 2) - 0.5
    adversarial, noisy = (some.x + 0.6 * step.sign()).clamp(0, 1), (some.x + 0.3 * step).clamp(0, 1)
    return FitData(clean, Examples(some, adversarial, noisy, "planted"))


def detector_of(defense: LID, classifier: Classifier, data: FitData | None = None):
    state = defense.fit(classifier, data or fit_data())
    return defense.detector(classifier, state).eval()
