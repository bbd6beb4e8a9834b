"""NeuralFP: score and loss against the papers' formulas in plain float64 loops."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call

from nfbench import Classifier, FitData, Split
from nfbench_defenses.neuralfp import NeuralFP, class_distances, responses
from nfbench_models.nets import DigitsMLP, FourConv, Table8

NETS = {
    "digits-mlp": (partial(DigitsMLP, dropout=0.0), (1, 8, 8)),
    "mnist-table8": (Table8, (1, 28, 28)),
}
NETS["mnist-4conv"] = (FourConv, (1, 28, 28))


class Table(nn.Module):
    """Logits looked up by the image's only pixel, scaled."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Buffer(torch.tensor(rows, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rows[x.flatten().long()]


class Rescaled(nn.Module):
    """A network whose logits are multiplied by a positive number that differs from row to row."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) * (20 * x.flatten(1).mean(1, keepdim=True) - 10).exp()


def trained_alike(net: str = "digits-mlp") -> tuple[Classifier, tuple[int, int, int]]:
    """A random network whose batch statistics are not the initial ones; and its images' shape."""
    model, shape = NETS[net]
    torch.manual_seed(0)
    classifier = Classifier(model().build(shape, 10), 10)
    classifier.train()(torch.rand(64, *shape))
    return classifier.eval().requires_grad_(False), shape


def images(shape: tuple[int, ...], count: int = 9) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def fitted(classifier: Classifier, shape: tuple[int, ...], **knobs):
    defense = NeuralFP(**{"fingerprints": 5, "secret": 3, **knobs})
    x, none = images(shape), torch.zeros(9, dtype=torch.int64)
    state = defense.fit(classifier, FitData(Split(x, none, none)))
    return defense, defense.detector(classifier, state).eval(), state


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in row))
    return [v / length for v in row]


def loop_distances(rows: list[list[float]], dy: list[list[list[float]]]) -> list[float]:
    """D_j from the logits at x, x+dx_1, …: mean over i of the length of F_i - dy_ij."""
    base, found = unit(rows[0]), []
    for j in range(len(rows[0])):
        lengths = []
        for i, row in enumerate(rows[1:]):
            change = [a - b for a, b in zip(unit(row), base, strict=True)]
            lengths.append(math.sqrt(sum((c - d) ** 2 for c, d in zip(change, dy[i][j], strict=True))))
        found.append(sum(lengths) / len(lengths))
    return found


def loop_loss(rows: list[list[list[float]]], dy, y: list[int], reduction: str, shift: float) -> float:
    """L_fp from logits [image][0..N], one number at a time."""
    total = 0.0
    for image, label in zip(rows, y, strict=True):
        base = unit(image[0])
        for i, row in enumerate(image[1:]):
            terms = zip(unit(row), base, dy[i][label], strict=True)
            error = sum((a - b + shift - d) ** 2 for a, b, d in terms)
            total += error / len(base) if reduction == "mean" else error
    return total / len(rows)


def logits_of(network: nn.Module, x: torch.Tensor, dx: torch.Tensor) -> list[list[list[float]]]:
    """Logits [image][0..N] in float64, every row on its own."""
    rows = [[one, *(one + d for d in dx.double())] for one in x.double()]
    return [[network(row[None])[0].tolist() for row in image] for image in rows]


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def test_the_score_has_its_known_value():
    classifier = Classifier(Table([[2, 0, 1], [1, 2, 2], [0, 3, 4]]), 3).eval()
    dx = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    _, dy = NeuralFP(fingerprints=2, dy_on=-0.6, dy_off=0.2).secrets((1, 1, 1), 3)
    x = torch.zeros(1, 1, 1, 1)
    _, change = responses(classifier, x, dx)
    known = torch.tensor([[-0.561094, 0.666667, 0.219453], [-0.894427, 0.6, 0.352786]])
    assert torch.allclose(change[0].float(), known, atol=1e-6)
    detector = NeuralFP(fingerprints=2).detector(classifier, {"dx": dx, "dy": dy.double()})
    seen = detector.observe(x)
    assert seen.penalties[0].tolist() == pytest.approx([0.494167, 1.554579, 1.358509], abs=2e-6)
    assert float(detector.score(x)) == pytest.approx(0.494167, abs=2e-6)
    assert int(seen.penalties.argmin()) == 0


@pytest.mark.parametrize(
    ("knobs", "known"),
    [
        ({"preset": "code", "shift": 0.0}, 0.163233648),
        ({"preset": "code"}, 0.163238871),
        ({"preset": "paper"}, 0.489700944),
        ({"preset": "code", "shift": 0.0, "loss": "sum"}, 0.489700944),
    ],
)
def test_the_loss_has_its_known_value(knobs, known):
    classifier = Classifier(Table([[2, 0, 1], [1, 2, 2], [0, 3, 4]]), 3).eval()
    defense = NeuralFP(fingerprints=2, dy_on=-0.6, dy_off=0.2, **knobs)
    dy = 0.2 - 0.8 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    dx = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    _, change = responses(classifier, torch.zeros(1, 1, 1, 1), dx)
    loss = defense.fingerprint_loss(change, dy, torch.tensor([0]))
    assert float(loss) == pytest.approx(known, abs=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_equals_a_loop_for_any_logits_and_targets(reduction):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, 5, generator=generator, dtype=torch.float64)  # images, rows, classes
    dy = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    y = torch.tensor([4, 0, 2, 2, 1, 3])
    direction = logits / logits.norm(dim=2, keepdim=True)
    defense = NeuralFP(fingerprints=3, loss=reduction, shift=0.01)
    found = defense.fingerprint_loss(direction[:, 1:] - direction[:, :1], dy, y)
    wanted = loop_loss(logits.tolist(), dy.tolist(), y.tolist(), reduction, 0.01)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("preset", ["code", "code-cifar10", "code-imagenet", "paper", "epfl"])
@pytest.mark.parametrize("net", ["digits-mlp", "mnist-4conv"])
def test_the_score_equals_a_loop_over_images_fingerprints_and_classes(net, preset):
    classifier, shape = trained_alike(net)
    _, detector, state = fitted(classifier, shape, preset=preset, random_sign=True)
    x = images(shape, 4)
    single = detector.observe(x)
    double = detector.double().observe(x.double())
    rows = logits_of(classifier.network, x, state["dx"])
    dy = state["dy"].tolist()
    wanted = torch.tensor([loop_distances(image, dy) for image in rows], dtype=torch.float64)
    assert error(single.penalties, wanted) <= 1e-5
    assert error(single.score, wanted.amin(1)) <= 1e-5
    assert error(double.penalties, wanted) <= 1e-12
    assert error(double.score, wanted.amin(1)) <= 1e-12


@pytest.mark.parametrize("preset", ["code", "paper"])
@pytest.mark.parametrize("concat", [True, False])
def test_the_training_loss_equals_a_loop_over_the_rows_of_its_batches(preset, concat):
    classifier, shape = trained_alike()
    defense = NeuralFP(fingerprints=3, secret=3, preset=preset, bn_concat=concat, alpha=0.7)
    x, y = images(shape), torch.arange(9)
    dx, dy = (part.double() for part in defense.secrets(shape, 10))
    network = classifier.double().train().network
    passes = [x.double(), *(x.double() + d for d in dx)]
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    if concat:
        stacked = functional_call(network, weights, torch.cat(passes)).split(9)
    else:
        stacked = [functional_call(network, weights, part) for part in passes]
    rows = [[part[i].tolist() for part in stacked] for i in range(9)]
    shift, reduction = {"code": (1e-5, "mean"), "paper": (0.0, "sum")}[preset]
    clean = [image[0] for image in rows]
    nll = [math.log(sum(map(math.exp, z))) - z[k] for z, k in zip(clean, y.tolist(), strict=True)]
    wanted = sum(nll) / 9 + 0.7 * loop_loss(rows, dy.tolist(), y.tolist(), reduction, shift)
    assert float(defense.training_loss(classifier, x.double(), y)) == pytest.approx(wanted, rel=1e-7)


def test_one_batch_and_separate_batches_differ_in_training_and_agree_in_eval_mode():
    classifier, shape = trained_alike()
    together, apart = (NeuralFP(fingerprints=5, secret=3, bn_concat=c) for c in (True, False))
    x, y = images(shape), torch.arange(9)
    evaluated = [float(d.training_loss(classifier, x, y)) for d in (together, apart)]
    assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-5)
    trained = [float(d.training_loss(classifier.train(), x, y)) for d in (together, apart)]
    assert abs(trained[0] - trained[1]) > 1e-3 * trained[0]


def test_the_gradient_of_the_score_equals_autograd_of_the_formula():
    classifier, shape = trained_alike("mnist-4conv")
    _, detector, state = fitted(classifier, shape)
    detector, x = detector.double(), images(shape, 3).double()
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(detector.score(leaf).sum(), leaf)
    wanted = []
    for image in x:
        one = image.clone().requires_grad_()
        rows = [classifier.network((one + d)[None])[0] for d in [0 * one, *state["dx"].double()]]
        units = [z / (z * z).sum().sqrt() for z in rows]
        gaps = [
            [u - units[0] - target for u, target in zip(units[1:], by_class, strict=True)]
            for by_class in state["dy"].double().transpose(0, 1)
        ]
        least = min(sum((g * g).sum().sqrt() for g in gap) / len(gap) for gap in gaps)
        wanted.append(torch.autograd.grad(least, one)[0])
    assert error(found, torch.stack(wanted)) <= 1e-6


def test_the_score_ignores_a_positive_scale_of_the_logits():
    classifier, shape = trained_alike()
    _, detector, state = fitted(classifier, shape)
    other, x = Classifier(Rescaled(classifier.network), 10).eval(), images(shape)
    rescaled = NeuralFP(fingerprints=5).detector(other, state)
    assert error(rescaled.observe(x).logits, detector.observe(x).logits) > 0.1
    assert error(rescaled.observe(x).penalties, detector.observe(x).penalties) <= 1e-5


def test_the_score_ignores_the_order_of_the_fingerprints():
    classifier, shape = trained_alike()
    defense, _, state = fitted(classifier, shape)
    state["dy"] = state["dy"] * torch.linspace(0.5, 1.5, 5)[:, None, None]
    detector = defense.detector(classifier, state)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = defense.detector(classifier, {k: v[order] for k, v in state.items()})
    mismatched = defense.detector(classifier, {"dx": state["dx"][order], "dy": state["dy"]})
    x = images(shape)
    assert error(shuffled.score(x), detector.score(x)) <= 1e-6
    assert error(mismatched.score(x), detector.score(x)) > 1e-4


def test_class_distances_take_the_root_before_the_mean():
    change = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])  # lengths 5 and 1
    assert class_distances(change, torch.zeros(2, 1, 2)).item() == pytest.approx(3.0)
