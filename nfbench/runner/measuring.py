"""Measuring: what a score job computes of adversarial images, as functions of live objects."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nfbench.core.classifier import memory_on
from nfbench.core.defense import Detector, minibatches
from nfbench.core.errors import ContractViolation, UsageError
from nfbench.core.recorder import column
from nfbench.core.values import NORMS, Images, Labels, Mask, Norm, Split, norm
from nfbench.runner.negatives import matching_noise

Vectors = dict[str, Tensor]
CALIBRATION_LEAST = 19
"""Correct calibration images below which no threshold of 5 % exists."""
FRESH_DRAWS = 100
FRESH_FROM = 2**40
"""First of the draws of a stochastic detector by which a result is judged again; attacks see others."""
CHOICE_DRAWS = range(2**41, 2**41 + 16)
"""Draws by which an attacker chooses among his results; by none of these is the chosen one judged."""


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
def scores(detector: Detector, x: Images, originals: Images | None = None, *, draw: int = 0) -> Tensor:
    """Detector scores in batches that fit in memory; checked. (N, ...) -> (N,)

    A stochastic detector makes draw 0 unless told otherwise; a paired one sees the clean `originals`
    of `x` (`x` itself where none are given), in minibatches of the size it asks for.

    Raises:
        ContractViolation: for scores of the wrong shape or that are NaN.
        UsageError: if there are fewer images than a paired detector scores at once.
    """
    detector.draw = draw
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


def measure(
    detector: Detector,
    clean: Split,
    candidates: list[Images],
    *,
    own: int | None = None,
    threshold: float = math.nan,
    claimed: Tensor | None = None,
) -> tuple[Vectors, Images]:
    """Score what an attack's objectives made of `clean`, and keep each image's best.

    Args:
        detector: the victim's.
        clean: the attacked images.
        candidates: one set of images for each objective, and for each smaller radius.
        own: how many of them, the first ones, were made at this radius; all if None.
        threshold: score above which 5 % of clean images are rejected; NaN: not known.
        claimed: what each candidate is worth to an attacker who cannot ask the victim and must choose
            all the same, (O, B); None: he asks it.

    Returns:
        One row an attacked image: who it is, what was predicted and scored before and after, S* as
        `evasion_score` (infinity: never misclassified), the same of this radius alone and again after
        rounding to 8 bits, sizes, and `winner`, the position of the objective that won (-1: none
        succeeded); of stochastic detectors `fresh_acceptance` and `expected_score`, the mean over other
        draws by which the best was chosen; and the images kept.
    """
    clean_prediction, clean_score = predict(detector.classifier, clean.x), scores(detector, clean.x)
    predictions = torch.stack([predict(detector.classifier, x) for x in candidates])  # (O, B)
    all_scores = torch.stack([scores(detector, x, clean.x) for x in candidates])
    evasion = all_scores.where(predictions != clean.y, torch.inf)
    judged = evasion if claimed is None else claimed
    if detector.stochastic and claimed is None:  # the luckiest of several draws is nobody's to choose
        judged = _expected(detector, clean, candidates).where(predictions != clean.y, torch.inf)
    expected, winner = judged.min(0)
    lowest = evasion.gather(0, winner[None])[0]
    rows = torch.arange(len(clean), device=clean.x.device)
    images = torch.stack(candidates)[winner, rows]
    delta = (images - clean.x).double()
    rounded = (images * 255).round() / 255
    fooled = predict(detector.classifier, rounded) != clean.y
    fresh = {}
    if detector.stochastic:
        if claimed is not None:
            expected = _expected(detector, clean, [images])[0].where(lowest.isfinite(), torch.inf)
        fresh["expected_score"] = expected
        if not math.isnan(threshold):
            found = lowest.isfinite()
            fresh["fresh_acceptance"] = _accepted(detector, clean, images, found, threshold)
    return {
        "index": clean.index,
        "label": clean.y,
        "clean_prediction": clean_prediction,
        "clean_score": clean_score,
        "adversarial_prediction": predictions[winner, rows],
        "adversarial_score": all_scores[winner, rows],
        "evasion_score": lowest,
        "evasion_score_own": evasion.gather(0, judged[:own].argmin(0)[None])[0],
        "evasion_score_8bit": scores(detector, rounded, clean.x).where(fooled, torch.inf),
        "winner": winner.where(lowest.isfinite(), -1),
        **{kind: norm(delta, kind).float() for kind in NORMS},
        **fresh,
    }, images


@torch.no_grad()
def _expected(detector: Detector, clean: Split, candidates: list[Images]) -> Tensor:
    """Mean score of each candidate over the draws by which it may be chosen. (O, B)"""
    means = [
        torch.stack([scores(detector, x, clean.x, draw=draw) for draw in CHOICE_DRAWS]).mean(0)
        for x in candidates
    ]
    return torch.stack(means)


@torch.no_grad()
def _accepted(
    detector: Detector, clean: Split, images: Images, fooled: Mask, threshold: float
) -> Tensor:
    """Share of fresh draws by which each image that is misclassified is accepted; 0 for others. (B,)

    The draws are none that an attack has seen, so the luckiest one is not taken for the rule.
    """
    share = torch.zeros(len(images), device=images.device)
    if fooled.any():
        kept, originals = images[fooled], clean.x[fooled]
        draws = range(FRESH_FROM, FRESH_FROM + FRESH_DRAWS)
        accepted = [scores(detector, kept, originals, draw=draw) <= threshold for draw in draws]
        share[fooled] = torch.stack(accepted).float().mean(0)
    return share


@torch.no_grad()
def distances(
    detector: Detector, clean: Split, nearest: list[Images], threshold: float, kind: Norm
) -> Tensor:
    """Size of the smallest perturbation that is misclassified and accepted; infinite without one. (B,)

    Args:
        detector: the victim's.
        clean: the attacked images.
        nearest: what attacks that minimise returned, one set of images for each objective.
        threshold: score above which images are rejected.
        kind: norm of the size.
    """
    found = torch.full((len(clean),), torch.inf, device=clean.x.device)
    for images in nearest:
        size = norm((images - clean.x).double(), kind).float()
        wrong = predict(detector.classifier, images) != clean.y
        accepted = wrong & (scores(detector, images, clean.x) <= threshold)
        found = torch.minimum(found, size.where(accepted, torch.inf))
    return found


def at_half_budget(history: Tensor, forward: Tensor) -> Tensor:
    """S* after at most half of the passes that the image which took most of them took. (B,)

    Args:
        history: S* by the columns of a recorder, (B, A).
        forward: passes of each image, (B,).
    """
    reached = int(column(forward.max() // 2 + 1))  # holds passes beyond half, so it does not count
    return history[:, : max(reached, 1)].amin(1)


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
