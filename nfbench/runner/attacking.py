"""Attacking and measuring: what a craft and a score job compute, as functions of live objects."""

from __future__ import annotations

import math
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
from nfbench.core.values import NORMS, Access, Budget, Images, Labels, Mask, Norm, Split, norm, per_image
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.negatives import matching_noise

Vectors = dict[str, Tensor]
MAX_IMAGES = 512
DECISIONS = Alarm(threshold=0.5, median=0.0, unit=1.0)
"""What who sees decisions only is told of a detector: accepted is 0 and rejected is 1."""
CALIBRATION_LEAST = 19
"""Correct calibration images below which no threshold of 5 % exists."""
FRESH_DRAWS = 100
FRESH_FROM = 1_000_000
"""First of the draws of a stochastic detector by which a result is judged again; attacks see others."""


@dataclass(frozen=True)
class Attempt:
    """One attack under one threat model: what runs, not on whom."""

    attack: Attack
    threat_model: ThreatModel
    objective: str
    budget: Budget
    seed: int


@dataclass(frozen=True, eq=False)
class Crafted:
    """What came of an attempt."""

    vectors: Vectors
    """One row an attacked image: index, label, images, prediction, stage, forward, backward."""
    stages: list[str]
    """What the numbers in `stage` stand for: the parts of the attack, by the names it gave them."""


def craft(
    attempt: Attempt,
    victim: Victim,
    split: Split,
    tick: Callable[[int], None] | None = None,
    *,
    guides: Split | None = None,
) -> Crafted:
    """Attack `split` in batches that fit in memory; only what the known classifier gets right.

    Whoever has none but replicas attacks all of it: what the victim gets wrong he cannot know.

    Args:
        attempt: what runs.
        victim: what the attacker has; its detector is hidden where he does not know of it.
        split: the images.
        tick: called with the number of rows of each query.
        guides: training images that the attacker may look at.
    """
    victim_sees = victim if attempt.threat_model.adaptive else Victim(victim.classifier)
    attacked = split
    if attempt.threat_model.classifier == "victim":
        attacked = split.take(predict(victim.classifier, split.x) == split.y)
    if not len(attacked):
        raise ContractViolation("the classifier gets none of the images right; nothing to attack")
    size = min(MAX_IMAGES, victim_sees.images_within(memory_on(split.x), split.x))
    parts: list[Vectors] = []
    stages: list[str] = []
    for rows in torch.arange(len(attacked)).split(size):
        part, names = _craft_batch(attempt, victim_sees, attacked.take(rows), tick, guides)
        stages += [name for name in names if name not in stages]
        order = torch.tensor([*map(stages.index, names), -1], device=part["stage"].device)
        parts.append(part | {"stage": order[part["stage"]]})  # a batch may skip stages of another
    vectors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    vectors["prediction"] = predict(victim.classifier, vectors["images"])
    return Crafted({"index": attacked.index, "label": attacked.y, **vectors}, stages)


def _craft_batch(
    attempt: Attempt,
    victim: Victim,
    batch: Split,
    tick: Callable[[int], None] | None,
    guides: Split | None,
) -> tuple[Vectors, list[str]]:
    attack, threat = attempt.attack, attempt.threat_model
    recorder = Recorder(
        victim,
        batch.x,
        batch.y,
        attempt.budget,
        threat.access,
        queries=threat.query_limit,
        replicas=threat.transfers,
        guides=guides,
        tick=tick,
    )
    alarm = victim.alarm
    if alarm is not None and threat.access is Access.DECISION:
        alarm = DECISIONS
    objective = threat.objective(attempt.objective, recorder, batch.y, alarm)
    untouched = batch.x.clone()
    draws = Draws(attempt.seed, batch.index.tolist())
    images = attack.perturb(objective, batch.x, attempt.budget, draws).detach()
    if not torch.equal(untouched, batch.x):
        raise ContractViolation(f"{attack.name} wrote into the images it was given")
    require_within(attack.name, attempt.budget, batch.x, images)
    if threat.adaptive and threat.keeps_best:
        images = recorder.best.where(per_image(recorder.evasion_score.isfinite(), images), images)
        require_within(attack.name, attempt.budget, batch.x, images)
    found = {"images": images, "stage": recorder.winner, "history": recorder.history}
    counted = {"forward": recorder.forward, "backward": recorder.backward}
    return found | counted, recorder.stages


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
) -> tuple[Vectors, Images]:
    """Score what an attack's objectives made of `clean`, and keep each image's best.

    Args:
        detector: the victim's.
        clean: the attacked images.
        candidates: one set of images for each objective, and for each smaller radius.
        own: how many of them, the first ones, were made at this radius; all if None.
        threshold: score above which 5 % of clean images are rejected; NaN: not known.

    Returns:
        One row an attacked image: who it is, what was predicted and scored before and after, S* as
        `evasion_score` (infinity: never misclassified), the same of this radius alone and again after
        rounding to 8 bits, sizes, and `winner`, the position of the objective that won (-1: none
        succeeded); `fresh_acceptance` of stochastic detectors; and the images kept.
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
    fresh = {}
    if detector.stochastic and not math.isnan(threshold):
        fresh = {"fresh_acceptance": _accepted(detector, clean, images, lowest.isfinite(), threshold)}
    return {
        "index": clean.index,
        "label": clean.y,
        "clean_prediction": clean_prediction,
        "clean_score": clean_score,
        "adversarial_prediction": predictions[winner, rows],
        "adversarial_score": all_scores[winner, rows],
        "evasion_score": lowest,
        "evasion_score_own": evasion[:own].amin(0),
        "evasion_score_8bit": scores(detector, rounded, clean.x).where(fooled, torch.inf),
        "winner": winner.where(lowest.isfinite(), -1),
        **{kind: norm(delta, kind).float() for kind in NORMS},
        **fresh,
    }, images


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


def at_half_budget(history: Tensor, forward: Tensor) -> Tensor:
    """S* after at most half of the passes that the image which took most of them took. (B,)

    Args:
        history: S* after passes from 2^k to below 2^(k + 1) in column k, (B, A).
        forward: passes of each image, (B,).
    """
    columns = max(int(forward.max()).bit_length() - 2, 1)  # up to below 2^columns, half at most
    return history[:, :columns].amin(1)


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
