"""What `check_model` lets through, and each mistake that it refuses."""

import math

import pytest
import torch
from torch import nn

from nfbench import Model
from nfbench.testing import check_model


class Tiny(Model):
    """One layer."""

    name = "tiny"

    def build(self, shape, num_classes):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes)
        )


def building(change):
    """`Tiny` with its network changed."""

    def build(self, shape, num_classes):
        return change(Tiny.build(self, shape, num_classes))

    return type("Planted", (Tiny,), {"name": "planted", "__doc__": "Planted.", "build": build})()


class Wrapped(nn.Module):
    def __init__(self, network, forward):
        super().__init__()
        self.network, self.formula = network, forward

    def forward(self, x):
        return self.formula(self.network, x)


def wrapped(formula):
    return building(lambda network: Wrapped(network, formula))


def _idle(network):
    network.extra = nn.Parameter(torch.zeros(1))
    return network


def _moved(network):
    network.train()(torch.rand(4, 1, 8, 8))
    return network


def _random(network):
    generator = torch.Generator()
    generator.seed()
    nn.init.normal_(network[1].weight, generator=generator)
    return network


def test_a_good_model_passes():
    check_model(Tiny())


@pytest.mark.parametrize(
    ("planted", "cause"),
    [
        (building(lambda n: n.append(nn.Softmax(1))), "leave out the softmax"),
        (building(lambda n: n[:-1]), r"must return \(8, 7\) logits"),
        (
            building(lambda n: n.append(nn.BatchNorm1d(7, track_running_stats=False))),
            "with its neighbours",
        ),
        (building(lambda n: None), "must return a torch.nn.Module, got NoneType"),
        (building(_idle), "does not depend on extra"),
        (building(_moved), "moved the batch statistics of 1 layers"),
        (building(_random), "after the same"),
        (wrapped(lambda n, x: n(x.detach())), "cut off from the image"),
        (wrapped(lambda n, x: n(x) / 0), "not finite"),
    ],
)
def test_a_bad_model_is_refused(refused, planted, cause):
    refused(check_model, planted, cause)
