"""The networks of the code of LID, and dropout in the others: layers, order, and nothing else moved."""

import pytest
import torch
from torch import nn

from nfbench import UsageError
from nfbench_models.lid_nets import CIFARLid, MNISTLid
from nfbench_models.nets import DigitsMLP, FourConv, SmallConv, Table8, Table9

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
WITHOUT = [(DigitsMLP, (1, 8, 8), 2), (Table8, MNIST, 2), (FourConv, MNIST, 2), (Table9, CIFAR, 2)]
WITHOUT.append((SmallConv, CIFAR, 1))


def layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if not list(module.children())]


def kinds(network: nn.Module) -> str:
    """A letter a layer: Shift, Conv, ReLU, Pool, Dropout, Flatten, Linear, BatchNorm."""
    return "".join(type(layer).__name__.replace("Max", "")[0] for layer in layers(network))


def test_the_mnist_net_has_the_layers_of_its_source():
    network = MNISTLid().build(MNIST, 10)
    assert kinds(network) == "SCRCRPDFLRDL"
    weights = [tuple(p.shape) for p in network.parameters() if p.dim() > 1]
    assert weights == [(64, 1, 3, 3), (64, 64, 3, 3), (128, 9216), (10, 128)]
    assert [layer.p for layer in layers(network) if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_the_cifar_net_has_the_layers_of_its_source():
    network = CIFARLid().build(CIFAR, 10)
    assert kinds(network) == "SCRCRPCRCRPCRCRPFDLRDLRDL"
    convolutions = [layer for layer in layers(network) if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64, 128, 128]
    assert {layer.padding for layer in convolutions} == {(1, 1)}
    dense = [layer for layer in layers(network) if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in dense] == [(1024, 2048), (512, 1024), (10, 512)]
    assert [layer.p for layer in layers(network) if isinstance(layer, nn.Dropout)] == [0.5] * 3


@pytest.mark.parametrize(("model", "shape"), [(MNISTLid, MNIST), (CIFARLid, CIFAR)])
def test_images_are_shifted_by_a_half_and_logits_come_out(model, shape):
    network = model(dropout=0.3).build(shape, 7)
    assert network.training
    given = []
    layers(network)[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    logits = network.eval()(torch.full((2, *shape), 0.75))
    assert torch.equal(given[0], torch.full((2, *shape), 0.25))
    assert logits.shape == (2, 7)
    assert not torch.allclose(logits.sum(1), torch.ones(2))
    assert {layer.p for layer in layers(network) if isinstance(layer, nn.Dropout)} == {0.3}


def test_images_too_small_are_refused_by_name():
    with pytest.raises(UsageError, match="mnist-lid can't take images of shape"):
        MNISTLid().build((1, 4, 4), 10)
    with pytest.raises(UsageError, match="cifar-lid can't take images of shape"):
        CIFARLid().build((3, 4, 4), 10)


@pytest.mark.parametrize(("model", "shape", "blocks"), WITHOUT)
def test_dropout_follows_every_hidden_dense_block_and_is_absent_at_zero(model, shape, blocks):
    bare, dropping = (model(dropout=p).build(shape, 10) for p in (0.0, 0.2))
    assert "D" not in kinds(bare)
    assert kinds(bare).endswith("LRB" * blocks + "L")
    assert kinds(dropping) == kinds(bare).removesuffix("LRB" * blocks + "L") + "LRBD" * blocks + "L"
    assert {layer.p for layer in layers(dropping) if isinstance(layer, nn.Dropout)} == {0.2}


@pytest.mark.parametrize(("model", "shape", "blocks"), WITHOUT)
def test_dropout_moves_no_weight_of_a_fresh_network(model, shape, blocks):
    networks = []
    for dropout in (0.0, 0.2):
        torch.manual_seed(5)
        networks.append(model(dropout=dropout).build(shape, 10))
    for ours, others in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(ours, others)


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(UsageError, match=r"digits-mlp\.dropout"):
        DigitsMLP.from_params({"dropout": rate})
