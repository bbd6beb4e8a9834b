"""Classifiers: the same bits alone as in a batch, and every layer within reach by name."""

import pytest
import torch
from torch import nn

from nfbench.core import classifier as module
from nfbench.core.classifier import MIN_ROWS, Classifier
from nfbench.core.errors import UsageError


class Twice(nn.Module):
    """One ReLU used twice, and an in-place one at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.relu, self.last = nn.ReLU(), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.relu(self.first(x.flatten(1)))
        return self.last(self.second(self.relu(hidden - 0.1)))


class Counting(nn.Module):
    """Remembers how many rows each forward pass had."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        return self.body(x)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    conv = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*conv, nn.Linear(8 * 25, 40), nn.ReLU(), nn.BatchNorm1d(40), nn.Linear(40, 5))


def images(count: int, size: int = 12) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def twice() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Twice(), 3).eval()


@pytest.mark.parametrize("count", [2, 31, 32, 33, 70])
def test_an_image_alone_has_the_bits_it_has_in_a_batch(count):
    classifier, x = Classifier(convolutional(), 5).eval(), images(count)
    with torch.no_grad():
        together = classifier(x)
        alone = torch.cat([classifier(row[None]) for row in x])
    assert torch.equal(together, alone)


def test_small_batches_are_padded_in_eval_mode_and_never_in_training():
    network = Counting(convolutional())
    classifier = Classifier(network, 5).eval()
    assert classifier(images(3)).shape == (3, 5)
    classifier.train()(images(3))
    assert network.rows == [MIN_ROWS, 3]


def test_padding_leaves_no_trace_in_logits_or_gradient():
    classifier, x = Classifier(convolutional().double(), 5).eval(), images(3).double().requires_grad_()
    plain = classifier.network(x)
    assert torch.allclose(classifier(x), plain, rtol=1e-12)
    (padded,) = torch.autograd.grad(classifier(x)[:, 0].sum(), x)
    (wanted,) = torch.autograd.grad(plain[:, 0].sum(), x)
    assert torch.allclose(padded, wanted, rtol=1e-10)


def test_chunks_give_the_bits_of_one_pass(monkeypatch):
    network = Counting(convolutional())
    classifier, x = Classifier(network, 5).eval(), images(150)
    with torch.no_grad():
        whole = classifier(x)
        monkeypatch.setattr(module, "MEMORY", {"cpu": 1})
        network.rows.clear()
        chunked = classifier(x)
    assert network.rows == [32, 32, 32, 32, 32]  # the last 22 rows padded
    assert torch.equal(whole, chunked)


def test_a_pass_that_keeps_a_gradient_is_not_chunked(monkeypatch):
    monkeypatch.setattr(module, "MEMORY", {"cpu": 1})
    network = Counting(convolutional())
    Classifier(network, 5).eval()(images(150))
    assert network.rows == [150]


def test_rows_within_divides_memory_by_the_bytes_of_a_row():
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 8)), 8).eval()
    x = torch.zeros(1, 1, 2, 2)
    row = 4 * (4 + 4 + 8)  # float32: the image, its flat copy, the logits
    assert classifier.rows_within(100 * row, x) == 100
    assert classifier.rows_within(100 * row - 1, x) == 99
    assert classifier.rows_within(1, x) == MIN_ROWS


def test_rows_within_knows_images_of_different_sizes_apart():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 8))
    classifier = Classifier(network, 8).eval()
    large, small = (classifier.rows_within(2**20, torch.zeros(1, 1, size, size)) for size in (64, 4))
    assert large < small


def test_a_trace_names_layers_in_order_and_numbers_those_that_run_again():
    trace = twice().trace(torch.rand(2, 1, 2, 2))
    assert list(trace.activations) == ["first", "relu", "relu#2", "second", "last"]
    assert [len(a) for a in trace.activations.values()] == [2] * 5


def test_a_trace_holds_what_each_layer_put_out_before_anything_changed_it_in_place():
    classifier, x = twice(), torch.rand(5, 1, 2, 2)
    trace, net = classifier.trace(x), classifier.network
    first = net.first(x.flatten(1))
    second = net.second((first.relu() - 0.1).relu())
    assert torch.allclose(trace.activations["first"], first, atol=1e-6)
    assert torch.allclose(trace.activations["relu"], first.relu(), atol=1e-6)
    assert torch.allclose(trace.activations["relu#2"], (first.relu() - 0.1).relu(), atol=1e-6)
    assert torch.allclose(trace.activations["second"], second, atol=1e-6)
    assert (second < 0).any()  # so an in-place ReLU would have shown
    assert torch.equal(trace.logits, classifier(x))


def test_a_trace_is_unflattened_and_attached_to_the_graph():
    classifier = Classifier(convolutional(), 5).eval()
    x = images(2).requires_grad_()
    trace = classifier.trace(x, ["0", "5"])
    assert trace.activations["0"].shape == (2, 8, 10, 10)
    assert trace.activations["5"].shape == (2, 40)
    (gradient,) = torch.autograd.grad(trace.activations["0"][1].sum(), x)
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == 0


def test_a_trace_leaves_no_hook_behind_even_when_the_network_fails():
    classifier = twice()
    with pytest.raises(RuntimeError):
        classifier.trace(torch.rand(2, 1, 3, 3))
    assert not any(m._forward_hooks for m in classifier.network.modules())


def test_an_unknown_layer_is_refused_with_the_nearest_names():
    message = r"no layer 'secnd'; did you mean 'second'\? \(layers: first, second, relu, last\)"
    with pytest.raises(UsageError, match=message):
        twice().trace(torch.rand(2, 1, 2, 2), ["secnd"])


def test_layers_lists_what_has_no_parts():
    assert twice().layers() == ["first", "second", "relu", "last"]
    assert Classifier(nn.Sequential(nn.Sequential(nn.Linear(1, 1))), 1).layers() == ["0.0"]
