"""The contract of a defense, first half: what training and `fit` may do, and what they leave."""

from __future__ import annotations

import copy

import torch
from safetensors.torch import load, save
from torch import Tensor

from nfbench.testing.checks import expect, is_a, kind, same, tensors_equal
from nfbench.testing.fixtures import fit_data, linear_classifier
from nfbench.testing.trial import Trial


def loss_is_a_scalar(trial: Trial) -> None:
    """Its training loss is a finite scalar with a gradient"""
    classifier = linear_classifier().train().requires_grad_()
    loss = trial.defense.training_loss(classifier, trial.data.clean.x[:64], trial.data.clean.y[:64])
    expect(isinstance(loss, Tensor), f"training_loss must return a tensor, got {kind(loss)}")
    expect(
        loss.dim() == 0, f"training_loss must be a scalar, got shape {tuple(loss.shape)}: take its mean"
    )
    expect(
        loss.isfinite(), f"training_loss is {float(loss.detach()):g} on clean images; it must be finite"
    )
    expect(loss.requires_grad, "training_loss has no gradient: look for .detach(), .item() or no_grad")
    gradients = torch.autograd.grad(loss, list(classifier.parameters()), allow_unused=True)
    reached = [g for g in gradients if is_a(g, Tensor)]
    expect(all(g.isfinite().all() for g in reached), "the gradient of training_loss is not finite")
    expect(any(g.any() for g in reached), "training_loss does not depend on the classifier's parameters")


def fit_leaves_the_classifier_alone(trial: Trial) -> None:
    """Fit leaves the classifier alone"""
    before = {k: v.clone() for k, v in trial.classifier.state_dict().items()}
    _ = trial.state
    after = trial.classifier.state_dict()
    changed = [k for k in before if k not in after or not torch.equal(before[k], after[k])]
    expect(
        not changed,
        f"fit changed the classifier ({', '.join(changed)}): work on a copy, and stay in eval mode "
        "or batch statistics move",
    )
    expect(
        not any(m.training for m in trial.classifier.modules()),
        "fit left the classifier in training mode: never call classifier.train()",
    )
    expect(
        not any(p.requires_grad for p in trial.classifier.parameters()),
        "fit switched on gradients of the classifier's parameters",
    )
    hooked = [n for n, m in trial.classifier.named_modules() if m._forward_hooks]
    expect(
        not hooked, f"fit left hooks on {', '.join(hooked)}: use classifier.trace, which removes its own"
    )


def fit_leaves_the_data_alone(trial: Trial) -> None:
    """Fit leaves the data alone"""
    _ = trial.state
    fresh = fit_data(supervised=trial.data.examples is not None)
    untouched = torch.equal(fresh.clean.x, trial.data.clean.x) and torch.equal(
        fresh.clean.y, trial.data.clean.y
    )
    expect(untouched, "fit wrote into the images or labels it was given: clone before changing in place")


def state_is_tensors(trial: Trial) -> None:
    """Fit returns named tensors"""
    state = trial.state
    expect(isinstance(state, dict), f"fit must return a dict of tensors, got {kind(state)}")
    for name, value in state.items():
        expect(is_a(name, str), f"fit's keys must be strings, got {name!r}")
        expect(
            isinstance(value, Tensor),
            f"fit must return tensors only, got {kind(value)} as {name!r}: wrap numbers and arrays in "
            "torch.as_tensor, and build objects in `detector`",
        )


def detector_keeps_tensors_in_buffers(trial: Trial) -> None:
    """The detector keeps its tensors in buffers"""
    loose = [
        f"{type(module).__name__}.{name}"
        for module in trial.detector.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    expect(not loose, f"{', '.join(loose)} stays behind when the detector moves to a GPU: use nn.Buffer")


def state_restores_the_detector(trial: Trial) -> None:
    """Recipe and stored tensors restore the detector"""
    try:
        stored = load(save({k: v.detach().cpu().contiguous() for k, v in trial.state.items()}))
    except Exception as error:  # safetensors raises its own and builtin errors
        raise AssertionError(
            f"the state can't be stored: {error}; clone tensors that share memory"
        ) from error
    expect(
        tensors_equal(stored, {k: v.detach() for k, v in trial.state.items()}),
        "the state changes when stored",
    )
    recipe = type(trial.defense).from_params(trial.defense.model_dump())
    classifier = copy.deepcopy(trial.classifier)
    restored = recipe.detector(classifier, stored).eval().requires_grad_(False)
    restored = trial.beside_originals(restored)
    if trial.detector.stochastic:
        return
    with torch.no_grad():
        scores = restored.score(trial.x)
    expect(
        scores.shape == trial.scores.shape and same(trial.scores, scores).all(),
        "a detector restored from the stored state scores differently: put all that fit learnt into "
        "the state",
    )
