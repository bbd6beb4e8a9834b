"""Attacking and measuring: what a craft and a score job compute, as functions of live objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nfbench.core.attack import Attack
from nfbench.core.classifier import memory_on
from nfbench.core.defense import Detector, minibatches
from nfbench.core.draws import Draws
from nfbench.core.errors import ContractViolation, UsageError
from nfbench.core.recorder import Recorder
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Images, Labels, Norm, Split, norm, per_image
from nfbench.core.victim import Victim
from nfbench.runner.negatives import matching_noise

Vectors = dict[str, Tensor]
MAX_IMAGES = 512
CALIBRATION_LEAST = 19
"""Correct calibration images below which no threshold of 5 % exists."""


@dataclass(frozen=True)
class Attempt:
    """One attack under one threat model: what runs, not on whom."""

    attack: Attack
    threat_model: ThreatModel
    objective: str
    budget: Budget
    seed: int


def craft(
    attempt: Attempt, victim: Victim, split: Split, tick: Callable[[int], None] | None = None
) -> Vectors:
    """Attack the correctly classified images of `split`, in batches that fit in memory.

    Returns:
        One row an attacked image: index, label, images, prediction, forward, backward.
    """
    victim_sees = victim if attempt.threat_model.adaptive else Victim(victim.classifier)
    prediction = predict(victim.classifier, split.x)
    attacked = split.take(prediction == split.y)
    if not len(attacked):
        raise ContractViolation("the classifier gets none of the images right; nothing to attack")
    size = min(MAX_IMAGES, victim_sees.images_within(memory_on(split.x), split.x))
    parts = [
        _craft_batch(attempt, victim_sees, attacked.take(rows), tick)
        for rows in torch.arange(len(attacked)).split(size)
    ]
    vectors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    vectors["prediction"] = predict(victim.classifier, vectors["images"])
    return {"index": attacked.index, "label": attacked.y, **vectors}


def _craft_batch(
    attempt: Attempt, victim: Victim, batch: Split, tick: Callable[[int], None] | None
) -> Vectors:
    attack, threat = attempt.attack, attempt.threat_model
    recorder = Recorder(victim, batch.x, batch.y, attempt.budget, threat.access, tick=tick)
    objective = threat.objective(attempt.objective, recorder, batch.y, victim.alarm)
    untouched = batch.x.clone()
    draws = Draws(attempt.seed, batch.index.tolist())
    images = attack.perturb(objective, batch.x, attempt.budget, draws).detach()
    if not torch.equal(untouched, batch.x):
        raise ContractViolation(f"{attack.name} wrote into the images it was given")
    require_within(attack.name, attempt.budget, batch.x, images)
    if threat.adaptive:
        images = recorder.best.where(per_image(recorder.evasion_score.isfinite(), images), images)
    return {"images": images, "forward": recorder.forward, "backward": recorder.backward}


def require_within(name: str, budget: Budget, x: Images, images: Images) -> None:
    """Refuse what is no set of images in the box and the ball.

    Raises:
        ContractViolation: naming the attack and the first thing that is wrong.
    """
    if images.shape != x.shape or images.dtype != x.dtype:
        raise ContractViolation(
            f"{name} must return images of shape {tuple(x.shape)} and {x.dtype}, "
            f"got {tuple(images.shape)} and {images.dtype}"
        )
    if not images.isfinite().all():
        raise ContractViolation(f"{name} returned pixels that are not finite")
    inside = budget.contains(x, images)
    if not inside.all():
        low, high, size = float(images.min()), float(images.max()), budget.size(x, images).max()
        raise ContractViolation(
            f"{name} left the ball or the box on {int((~inside).sum())} of {len(x)} images: "
            f"{budget.norm} {float(size):.6g} of {budget.eps:.6g}, pixels {low:.6g} to {high:.6g}"
        )


@torch.no_grad()
def predict(classifier: torch.nn.Module, x: Images) -> Labels:
    """Predicted classes.

    Raises:
        ContractViolation: for logits of the wrong shape or that are not finite.
    """
    logits = classifier(x)
    classes = classifier.num_classes
    if logits.shape != (len(x), classes):
        raise ContractViolation(
            f"the model must return ({len(x)}, {classes}) logits, got {tuple(logits.shape)}"
        )
    if not logits.isfinite().all():
        raise ContractViolation("the model returns logits that are not finite")
    return logits.argmax(1)  # type: ignore[no-any-return]  # torch's argmax


@torch.no_grad()
def scores(detector: Detector, x: Images, originals: Images | None = None) -> Tensor:
    """Detector scores in batches that fit in memory; checked. (N, ...) -> (N,)

    A stochastic detector makes draw 0; a paired one sees the clean `originals` of `x` (`x` itself
    where none are given), in minibatches of the size it asks for.

    Raises:
        ContractViolation: for scores of the wrong shape or that are NaN.
        UsageError: if there are fewer images than a paired detector scores at once.
    """
    detector.draw = 0
    if detector.paired:
        parts = _paired(detector, x, x if originals is None else originals)
    else:
        rows = detector.classifier.rows_within(memory_on(x), x) // detector.rows_per_image
        parts = [detector.score(part) for part in x.split(max(1, rows))]
    result = torch.cat(parts) if all(p.dim() == 1 for p in parts) else parts[0]
    if result.shape != (len(x),):
        shape = tuple(parts[0].shape)
        raise ContractViolation(f"score must return one number an image, (B,); got {shape}")
    if result.isnan().any():
        raise ContractViolation(f"the detector returned NaN for {int(result.isnan().sum())} images")
    return result.float()


def _paired(detector: Detector, x: Images, originals: Images) -> list[Tensor]:
    """Scores by whole minibatches."""
    size, parts = detector.paired, []
    if len(x) < size:
        raise UsageError(
            f"the detector scores {size} images at once, beside their originals, and got {len(x)}: "
            "raise --limit, or ask for smaller minibatches"
        )
    for window, new in minibatches(len(x), size):
        parts.append(detector.bind(originals[window]).score(x[window])[new:])
    return parts


def measure(detector: Detector, clean: Split, candidates: list[Images]) -> tuple[Vectors, Images]:
    """Score what an attack's objectives made of `clean`, and keep each image's best.

    Returns:
        One row an attacked image: who it is, what was predicted and scored before and after, S* as
        `evasion_score` (infinity: never misclassified), again after rounding to 8 bits, sizes, and
        `winner`, the position of the objective that won (-1: none succeeded); and the images kept.
    """
    clean_prediction, clean_score = predict(detector.classifier, clean.x), scores(detector, clean.x)
    predictions = torch.stack([predict(detector.classifier, x) for x in candidates])  # (O, B)
    all_scores = torch.stack([scores(detector, x, clean.x) for x in candidates])
    evasion = all_scores.where(predictions != clean.y, torch.inf)
    lowest, winner = evasion.min(0)
    rows = torch.arange(len(clean), device=clean.x.device)
    images = torch.stack(candidates)[winner, rows]
    delta = (images - clean.x).double()
    rounded = (images * 255).round() / 255
    fooled = predict(detector.classifier, rounded) != clean.y
    return {
        "index": clean.index,
        "label": clean.y,
        "clean_prediction": clean_prediction,
        "clean_score": clean_score,
        "adversarial_prediction": predictions[winner, rows],
        "adversarial_score": all_scores[winner, rows],
        "evasion_score": lowest,
        "evasion_score_8bit": scores(detector, rounded, clean.x).where(fooled, torch.inf),
        "winner": winner.where(lowest.isfinite(), -1),
        **{kind: norm(delta, kind).float() for kind in ("linf", "l2", "l0")},
    }, images


def measure_noise(
    detector: Detector, clean: Split, adversarial: Images, kind: Norm, seed: int
) -> Vectors:
    """Score clean images with noise as large as the attack's perturbations, row by row."""
    noisy = matching_noise(clean, adversarial, kind, seed)
    return {
        "noisy_prediction": predict(detector.classifier, noisy),
        "noisy_score": scores(detector, noisy, clean.x),
        "noisy_l2": norm((noisy - clean.x).double(), "l2").float(),
    }
