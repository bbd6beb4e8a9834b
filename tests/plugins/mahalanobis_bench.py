"""A small network, images and examples, and what a Mahalanobis detector must make of them."""

import torch
from torch import nn

from nfbench import Classifier, Examples, FitData, Split
from nfbench_defenses.mahalanobis import Mahalanobis

CLASSES, COUNT = 3, 120


class Net(nn.Module):
    """Two convolutions and two dense layers, with one ReLU that runs twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(5, 6, 3)
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(24, 7)
        self.tanh = nn.Tanh()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x):
        x = self.relu(self.conv2(self.relu(self.conv(x))))
        return self.head(self.dropout(self.tanh(self.dense(self.flatten(x)))))


def classifier(network=Net, dtype=torch.float64):
    torch.manual_seed(0)
    return Classifier(network(), CLASSES).eval().requires_grad_(False).to(dtype)


def images(count=COUNT, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return Split(x, torch.arange(count) % CLASSES, torch.arange(count))


def data(dtype=torch.float64, *, supervised=True):
    clean = images(dtype=dtype)
    if not supervised:
        return FitData(clean)
    chosen = clean.take(torch.arange(40))
    shift = torch.linspace(-0.3, 0.4, 36, dtype=dtype).view(1, 6, 6)
    return FitData(clean, Examples(chosen, chosen.x + shift, chosen.x + 0.05 * shift.flip(1), "planted"))


def fitted(victim=None, given=None, dtype=torch.float64, **knobs):
    victim = victim or classifier(dtype=dtype)
    defense = Mahalanobis(**knobs)
    given = given or data(dtype, supervised=defense.learns_from is not None)
    state = defense.fit(victim, given)
    return defense.detector(victim, state).eval().requires_grad_(False), state


def independent(victim, state, x, layer=1, run="relu#2"):
    """Distances at one layer, from the stored tensors alone. (B, K)"""
    rows = victim.trace(x, [run.split("#")[0]]).activations[run]
    white = (rows.flatten(2).mean(2) if rows.dim() > 2 else rows) - state[f"layer{layer}.shift"]
    white = white @ state[f"layer{layer}.whiten"]
    return torch.cdist(white, state[f"layer{layer}.centres"]).square()


def stepped(victim, state, x, size, **where):
    start = x.clone().requires_grad_()
    nearest = independent(victim, state, start, **where).amin(1)
    return (x - size * torch.autograd.grad(nearest.sum(), start)[0].sign()).detach()


RUNS = {"relu": 0, "relu#2": 1, "tanh": 2}
