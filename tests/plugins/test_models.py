"""The networks: their sizes, the order of their layers, and the images they refuse."""

import pytest
import torch
from torch import nn

from nfbench import Model, UsageError
from nfbench_models.nets import DigitsMLP, FourConv, SmallConv, Table7, Table8, Table9

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
BODIES = [(DigitsMLP, (1, 8, 8)), (Table8, MNIST), (FourConv, MNIST), (Table9, CIFAR)]
BODIES.append((SmallConv, CIFAR))
WEIGHTED = (nn.Linear, nn.Conv2d)


def run_layers(network: nn.Module, shape: tuple[int, int, int]) -> list[tuple[nn.Module, torch.Tensor]]:
    """Every layer without parts and its output for one image, in order of execution."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, _, output: seen.append((layer, output)))
    with torch.no_grad():
        network.eval()(torch.rand(1, *shape))
    return seen


def multiply_adds(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Products in all linear layers and convolutions, for one image."""
    total = 0
    for layer, output in run_layers(network, shape):
        if isinstance(layer, WEIGHTED):
            total += output[0].numel() * layer.weight[0].numel()
    return total


def test_the_digits_network_has_at_most_twenty_thousand_multiply_adds():
    assert multiply_adds(DigitsMLP().build((1, 8, 8), 10), (1, 8, 8)) == 17_024


@pytest.mark.parametrize(
    ("model", "shape", "widths", "flat"),
    [
        (Table8, MNIST, [32, 64, 200, 200, 10], 1024),
        (FourConv, MNIST, [32, 32, 64, 64, 200, 200, 10], 1024),
        (Table9, CIFAR, [32, 64, 128, 128, 256, 256, 10], 3200),
    ],
)
def test_a_papers_network_has_its_widths_and_its_flat_size(model, shape, widths, flat):
    seen = run_layers(model().build(shape, 10), shape)
    weighted = [layer for layer, _ in seen if isinstance(layer, WEIGHTED)]
    assert [len(layer.weight) for layer in weighted] == widths
    (flattened,) = [output for layer, output in seen if isinstance(layer, nn.Flatten)]
    assert flattened.shape == (1, flat)


@pytest.mark.parametrize(("model", "size"), [(Table8, 5), (FourConv, 3), (Table9, 3)])
def test_convolutions_have_their_kernels_without_stride_or_padding(model, size):
    network = model().build(CIFAR if model is Table9 else MNIST, 10)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == ((size, size), (1, 1), (0, 0))
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            assert (layer.momentum, layer.eps) == (0.1, 1e-5)


@pytest.mark.parametrize(("model", "shape"), BODIES)
def test_every_hidden_layer_is_linear_then_relu_then_batch_norm_then_pool(model, shape):
    layers = [layer for layer, _ in run_layers(model().build(shape, 10), shape)]
    weighted = [i for i, layer in enumerate(layers) if isinstance(layer, WEIGHTED)]
    assert isinstance(layers[weighted[-1]], nn.Linear)
    assert weighted[-1] == len(layers) - 1  # logits, not probabilities
    for i in weighted[:-1]:
        assert isinstance(layers[i + 1], nn.ReLU)
        assert isinstance(layers[i + 2], nn.BatchNorm1d | nn.BatchNorm2d)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            assert isinstance(layers[i - 1], nn.BatchNorm2d)


@pytest.mark.parametrize(("model", "shape"), BODIES)
def test_images_are_shifted_by_a_half_before_the_first_layer(model, shape):
    network = model().build(shape, 10).eval()
    inputs = []
    first = next(layer for layer in network.modules() if isinstance(layer, WEIGHTED))
    first.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    network(torch.full((1, *shape), 0.75))
    assert torch.equal(inputs[0], torch.full_like(inputs[0], 0.25))


@pytest.mark.parametrize(("model", "shape"), BODIES[1:])
def test_a_fresh_network_is_in_training_mode_with_fresh_batch_statistics(model, shape):
    network = model().build(shape, 10)
    assert all(layer.training for layer in network.modules())
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert int(layer.num_batches_tracked) == 0
            assert not layer.running_mean.any()


@pytest.mark.parametrize(("model", "shape"), BODIES)
def test_the_head_has_as_many_logits_as_there_are_classes(model, shape):
    assert model().build(shape, 7).eval()(torch.rand(2, *shape)).shape == (2, 7)


def test_the_same_seed_builds_the_same_network():
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(torch.cat([p.flatten() for p in Table8().build(MNIST, 10).parameters()]))
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


def test_the_alexnet_like_network_runs_on_large_images_with_twenty_classes():
    network, shape = Table7().build((3, 224, 224), 20), (3, 224, 224)
    seen = run_layers(network, shape)
    widths = [len(layer.weight) for layer, _ in seen if isinstance(layer, WEIGHTED)]
    assert widths == [64, 192, 384, 256, 156, 3072, 1024, 20]
    kernels = [layer.kernel_size[0] for layer, _ in seen if isinstance(layer, nn.Conv2d)]
    assert kernels == [11, 5, 3, 3, 3]
    assert seen[-1][1].shape == (1, 20)
    assert sum(isinstance(layer, nn.Dropout) for layer, _ in seen) == 2
    assert Table7(dropout=0.25).build(shape, 20)[-2].p == 0.25


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Table8, (1, 8, 8)),
        # A 1 x 1 map can't be pooled.
        (Table8, (1, 14, 14)),
        (FourConv, (1, 12, 12)),
        (Table9, (3, 4, 4)),
        (Table7, (3, 4, 4)),
    ],
)
def test_images_of_the_wrong_size_are_refused_by_name_and_shape(model: type[Model], shape):
    message = rf"{model.name} can't take images of shape \({', '.join(map(str, shape))}\)"
    with pytest.raises(UsageError, match=message):
        model().build(shape, 10)


@pytest.mark.parametrize("size", [5, 17, 40])
def test_the_small_network_takes_images_of_any_size(size):
    assert SmallConv().build((3, size, size), 4).eval()(torch.rand(2, 3, size, size)).shape == (2, 4)
