"""The contract of a defense, second half: what a score has to be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nfbench.testing.checks import expect, kind, same
from nfbench.testing.fixtures import CLASSES
from nfbench.testing.trial import IMAGES, Trial


def scores_are_one_finite_number_an_image(trial: Trial) -> None:
    """Scores are one finite number an image"""
    scores = trial.scores
    expect(isinstance(scores, Tensor), f"score must return a tensor, got {kind(scores)}")
    expect(
        scores.shape == (IMAGES,),
        f"score must return one number an image, ({IMAGES},) for {IMAGES} images; got "
        f"{tuple(scores.shape)}",
    )
    expect(scores.is_floating_point(), f"scores must be floating point, got {scores.dtype}")
    bad = int((~scores.isfinite()).sum())
    expect(not bad, f"{bad} of {IMAGES} clean images have a score that is NaN or infinite")


def score_leaves_images_alone(trial: Trial) -> None:
    """Score leaves images alone"""
    x = trial.x.clone()
    with torch.no_grad():
        trial.detector.score(x)
    expect(
        torch.equal(x, trial.x),
        "score wrote into the images it was given: clone before changing in place",
    )


def score_repeats_itself(trial: Trial) -> None:
    """Score gives an image the same number twice"""
    if trial.detector.stochastic:
        return
    torch.manual_seed(123)
    with torch.no_grad():
        again = trial.detector.score(trial.x)
    expect(
        torch.equal(trial.scores, again),
        "score gives an image another number each time: seed whatever it draws from `secret`, or "
        "declare "
        "`stochastic = True`",
    )


def score_ignores_the_batch(trial: Trial) -> None:
    """A score does not depend on the other images of the batch"""
    if trial.detector.stochastic or trial.detector.paired:
        return
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        shuffled = trial.detector.score(trial.x[order])
        alone = torch.cat([trial.detector.score(image[None]) for image in trial.x])
    advice = "look for a mean, norm, sort or maximum over the batch dimension"
    lone = int((~same(trial.scores, alone)).sum())
    expect(
        not lone, f"the scores of {lone} of {IMAGES} images change when they are scored alone: {advice}"
    )
    moved = int((~same(trial.scores[order], shuffled)).sum())
    expect(not moved, f"the scores of {moved} of {IMAGES} images change with their order: {advice}")


def score_has_a_gradient(trial: Trial) -> None:
    """The score can be followed downhill"""
    if not trial.detector.differentiable:
        return
    x = trial.x.clone().requires_grad_()
    score = trial.detector.score(x)
    expect(
        score.requires_grad,
        "the score is cut off from the image: look for .detach(), .data, numpy, no_grad or a "
        "comparison; "
        "declare `differentiable = False` if it has no gradient by nature",
    )
    gradient = torch.autograd.grad(score.sum(), x, allow_unused=True)[0]
    if gradient is None:
        raise AssertionError("the score does not depend on the image")
    expect(
        gradient.isfinite().all(),
        "the gradient of the score is NaN or infinite: look for sqrt(0) or log(0)",
    )
    flat = int((gradient.flatten(1) == 0).all(1).sum())
    expect(
        flat <= IMAGES // 2,
        f"the score has no gradient on {flat} of {IMAGES} images: look for a threshold or a saturated "
        "step; "
        "give it a gradient with torch.autograd.Function or declare `differentiable = False`",
    )


def gradient_is_declared(trial: Trial) -> None:
    """The defense says whose gradient its detector has"""
    said, detector = trial.defense.gradient, trial.detector
    x = trial.x.clone().requires_grad_()
    stand_in = None if detector.differentiable else detector.surrogate(x)
    has = "none" if stand_in is None else "surrogate"
    if detector.differentiable:
        has = "exact"
    expect(
        said == has,
        f"the defense declares gradient = {said!r} and its detector has {has!r}: 'exact' goes with "
        "differentiable = True, 'surrogate' with a detector whose surrogate returns scores, 'none' with "
        "one that is not differentiable and returns None",
    )
    if stand_in is None:
        return
    expect(
        stand_in.shape == (IMAGES,),
        f"surrogate must return one number an image, ({IMAGES},); got {tuple(stand_in.shape)}",
    )
    expect(stand_in.requires_grad, "the surrogate is cut off from the image")
    gradient = torch.autograd.grad(stand_in.sum(), x, materialize_grads=True)[0]
    expect(
        gradient.isfinite().all() and gradient.any(),
        "the surrogate has no finite gradient other than zero: there is nothing to follow",
    )


def observation_agrees(trial: Trial) -> None:
    """Observe says what the classifier and score say"""
    with torch.no_grad():
        seen, logits = trial.detector.observe(trial.x), trial.classifier(trial.x)
    expect(
        seen.logits.shape == logits.shape and same(logits, seen.logits).all(),
        "the logits of observe are not the classifier's",
    )
    if seen.score is None or seen.penalties is None:
        raise AssertionError(
            "observe must fill score and penalties; leave it out if it has nothing to add"
        )
    expect(seen.score.shape == trial.scores.shape, "the score of observe must have shape (B,)")
    if not trial.detector.stochastic:
        expect(
            same(trial.scores, seen.score).all(),
            "observe and score disagree: compute the score in one place",
        )
    expect(
        seen.penalties.shape == (IMAGES, CLASSES),
        f"penalties must be (B, K) = ({IMAGES}, {CLASSES}), got {tuple(seen.penalties.shape)}",
    )
    least, slack = seen.penalties.amin(1), 1e-4 * (1 + seen.score.abs())
    expect(
        (least >= seen.score - slack).all(),
        "a class's penalty is below the score: no class may look less suspicious than the image itself",
    )


def features_are_rows(trial: Trial) -> None:
    """Features are one row an image"""
    with torch.no_grad():
        features = trial.detector.features(trial.x)
    if features is None:
        return
    fits = features.dim() == 2 and len(features) == IMAGES
    expect(fits, f"features must be (B, D) or None, got {tuple(features.shape)}: flatten them")


def rows_per_image_is_honest(trial: Trial) -> None:
    """It declares how many rows the classifier sees an image"""
    rows = 0

    def count(_module: nn.Module, inputs: Any, _output: Any) -> None:
        nonlocal rows
        rows = max(rows, len(inputs[0]))

    handle = trial.classifier.network.register_forward_hook(count)
    try:
        trial.detector.score(trial.x.clone().requires_grad_())
    finally:
        handle.remove()
    declared = trial.detector.rows_per_image
    expect(
        rows <= declared * IMAGES,
        f"score runs the classifier on {rows} rows for {IMAGES} images and declares rows_per_image = "
        f"{declared}: batches would not fit in memory; set it in the detector",
    )
