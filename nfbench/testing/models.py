"""The contract of a model: an architecture that trains and classifies."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.errors import UsageError
from nfbench.core.model import Model
from nfbench.testing.checks import Check, clauses, expect, is_a, kind, run_all, same

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 84, 84), (3, 224, 224))
CLASSES = 7
IMAGES = 8


def check_model(model: Model) -> None:
    """Build `model` for the first usual image shape that it takes; the first broken clause raises.

    Raises:
        AssertionError: naming the cause and what to do.
    """
    run_all(model_checks(model))


def model_checks(model: Model) -> list[Check]:
    """The contract of a model, clause by clause."""
    tests = [
        _takes_images,
        _returns_logits,
        _starts_from_the_seed,
        _starts_untouched,
        _ignores_the_batch,
        _trains,
        _passes_gradients_to_images,
    ]
    return clauses(model, _Trial(model), tests, vital=[_takes_images, _returns_logits])


class _Trial:
    """A model, a shape it takes, and a network for it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        for shape in SHAPES:
            try:
                self.build(shape)
            except UsageError:
                continue
            return shape
        raise AssertionError(f"it takes none of the usual shapes: {', '.join(map(str, SHAPES))}")

    @cached_property
    def network(self) -> nn.Module:
        return self.build(self.shape)

    @cached_property
    def classifier(self) -> Classifier:
        return Classifier(self.network, CLASSES).eval().requires_grad_(False)

    @cached_property
    def x(self) -> Tensor:
        return torch.rand(IMAGES, *self.shape, generator=torch.Generator().manual_seed(1))

    def build(self, shape: tuple[int, int, int]) -> nn.Module:
        """A network initialised as a job would."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.model.build(shape, CLASSES)


def _takes_images(trial: _Trial) -> None:
    """It builds a network for images of a usual shape"""
    expect(
        isinstance(trial.network, nn.Module),
        f"build must return a torch.nn.Module, got {kind(trial.network)}",
    )


def _returns_logits(trial: _Trial) -> None:
    """The network returns one logit a class"""
    with torch.no_grad():
        logits = trial.classifier(trial.x)
    expect(isinstance(logits, Tensor), f"the network must return logits, got {kind(logits)}")
    expect(
        logits.shape == (IMAGES, CLASSES),
        f"the network must return ({IMAGES}, {CLASSES}) logits for {IMAGES} images of {CLASSES} "
        "classes; got "
        f"{tuple(logits.shape)}",
    )
    expect(logits.isfinite().all(), "the logits of a fresh network are not finite")
    normalised = bool(((logits >= 0).all(1) & ((logits.sum(1) - 1).abs() < 1e-4)).all())
    expect(not normalised, "the network returns probabilities: leave out the softmax, losses apply it")


def _starts_from_the_seed(trial: _Trial) -> None:
    """Weights come from the global seed and nothing else"""
    state, again = trial.network.state_dict(), trial.build(trial.shape).state_dict()
    equal = state.keys() == again.keys() and all(torch.equal(state[k], again[k]) for k in state)
    expect(
        equal,
        "two networks built after the same torch.manual_seed differ: results could not be repeated",
    )


def _starts_untouched(trial: _Trial) -> None:
    """A fresh network has seen no images"""
    fresh = trial.build(trial.shape).state_dict()
    moved = [k for k, v in fresh.items() if k.endswith("num_batches_tracked") and v]
    expect(
        not moved,
        f"build moved the batch statistics of {len(moved)} layers of a fresh network, such as "
        f"{moved[:1]}: try images out in eval mode only",
    )


def _ignores_the_batch(trial: _Trial) -> None:
    """In eval mode an image's logits do not depend on its neighbours"""
    with torch.no_grad():
        together = trial.classifier(trial.x)
        alone = torch.cat([trial.classifier(image[None]) for image in trial.x])
    expect(
        same(together, alone, rtol=1e-3).all(),
        "in eval mode an image's logits change with its neighbours: normalise with statistics that "
        "training fixed",
    )


def _trains(trial: _Trial) -> None:
    """Every parameter gets a gradient in training"""
    network = trial.build(trial.shape).train()
    parameters = dict(network.named_parameters())
    expect(parameters, "the network has no parameters to train")
    loss = F.cross_entropy(network(trial.x), torch.arange(IMAGES) % CLASSES)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    idle = [
        name for name, gradient in zip(parameters, gradients, strict=True) if not is_a(gradient, Tensor)
    ]
    expect(not idle, f"the loss does not depend on {', '.join(idle)}: use them, or leave them out")


def _passes_gradients_to_images(trial: _Trial) -> None:
    """Gradients reach the image"""
    x = trial.x.clone().requires_grad_()
    logits = trial.classifier(x)
    expect(
        logits.requires_grad, "the logits are cut off from the image: look for .detach(), .data or numpy"
    )
    gradient = torch.autograd.grad(logits[:, 0].sum(), x, allow_unused=True)[0]
    expect(
        is_a(gradient, Tensor) and gradient.isfinite().all() and gradient.any(),
        "no gradient reaches the image",
    )
    expect(torch.equal(x.detach(), trial.x), "the network wrote into the images it was given")
