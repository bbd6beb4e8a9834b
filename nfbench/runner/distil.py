"""Distilling: a student learns a detector's scores on and off the clean images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.errors import UsageError
from nfbench.core.values import Images, Labels, Scores, Split, per_image
from nfbench.core.victim import Alarm
from nfbench.runner.measuring import scores
from nfbench.runner.student import Student, packed

LEAST = 64
"""Images below which there is too little to learn from and to be judged by."""
ROWS = 50_000
"""Rows of the classifier that scoring the lessons may take, about."""
HELD_OUT = 5
"""One image of so many, with all that it is changed into, is kept to judge by."""
RADII = (0.02, 0.5)
"""Largest pixel changes, drawn for each image evenly on a logarithmic scale."""
WAYS = 6
"""Ways in which each image is changed; see `_changes`."""
ROUNDS, UPDATES, BATCH, RATE = 2, 800, 128, 2e-3
STEPS = 10
DRAWS = 4
"""Draws that the scores of a stochastic detector are the mean of; none is the one it is judged by."""
SMALL = 0.01
"""Class margin from which on a walk turns from the classifier to the detector."""


@dataclass(frozen=True, eq=False)
class Distilled:
    """What was learnt, and how well it orders images that it has not seen."""

    tensors: dict[str, Tensor]
    rank_correlation: float
    """Spearman's, of its scores and the detector's; of held-out images and all they are changed into."""


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Images with their logits, and what the detector says of them."""

    packed: Tensor
    score: Scores

    def __add__(self, more: _Lesson) -> _Lesson:
        return _Lesson(torch.cat([self.packed, more.packed]), torch.cat([self.score, more.score]))


def distil(
    detector: Detector, images: Split, seed: int, tick: Callable[[float], None] | None = None
) -> Distilled:
    """Teach a student the scores of `detector`. Deterministic; leaves torch's global seed alone.

    It learns from clean images, noisy ones, and ones attacked with the classifier's gradient alone, and
    once more from those that it was itself misled about: images that walk down its own score.

    Args:
        detector: in eval mode and frozen.
        images: clean ones that nothing is judged by.
        seed: of everything random.
        tick: called with the share that is done, in (0, 1].

    Raises:
        UsageError: if there are too few images.
    """
    if len(images) < LEAST:
        raise UsageError(
            "the score has no gradient and no surrogate is given: distilling one needs "
            f"{LEAST} images, got {len(images)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _distil(detector, images, tick or (lambda _share: None))


def _distil(detector: Detector, images: Split, tick: Callable[[float], None]) -> Distilled:
    classifier, device = detector.classifier, images.x.device
    count = max(LEAST, ROWS // ((WAYS + ROUNDS) * detector.rows_per_image))
    some = images.take(torch.randperm(len(images))[:count].sort().values.to(device))
    held = torch.arange(len(some), device=device) % HELD_OUT == 0
    taught, judged = some.take(~held), some.take(held)
    lesson = _lesson(detector, torch.cat(list(_changes(classifier, taught))))
    alarm = Alarm.calibrated(lesson.score[: len(taught)])
    student = Student(tuple(images.x.shape[1:]), classifier.num_classes).to(device)
    logits = lesson.packed[:, images.x[0].numel() :]
    student.mean.copy_(logits.mean(0))
    student.scale.copy_(logits.std().clamp_min(1e-6))
    target = _flattened(lesson.score, alarm)
    mean, size = target.mean(), target.std().clamp_min(1e-6)
    for number in range(ROUNDS):
        if number:
            misled = [_walk(classifier, taught, _radii(taught.x), student) for _ in range(2)]
            lesson += _lesson(detector, torch.cat(misled))
        _train(student, lesson.packed, (_flattened(lesson.score, alarm) - mean) / size)
        tick((number + 1) / ROUNDS)
    test = _lesson(detector, torch.cat(list(_changes(classifier, judged))))
    with torch.no_grad():
        told = student(test.packed)[:, 0]
    student.origin.copy_(alarm.median + alarm.unit * mean)
    student.unit.copy_(alarm.unit * size)
    return Distilled(student.state_dict(), _rank_correlation(told, test.score))


def _flattened(score: Scores, alarm: Alarm) -> Tensor:
    """Clean interquartile ranges above the clean median, large ones made small. (B,)"""
    return ((score - alarm.median) / alarm.unit).asinh()


@torch.no_grad()
def _lesson(detector: Detector, x: Images) -> _Lesson:
    """What the detector says; infinite scores are as large as the largest finite one."""
    draws = range(1, DRAWS + 1) if detector.stochastic else (0,)
    told = torch.stack([scores(detector, x, draw=draw) for draw in draws]).mean(0)
    finite = told[told.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return _Lesson(packed(x, detector.classifier(x)), told.clamp(low, high))


def _changes(classifier: Classifier, clean: Split) -> Iterator[Images]:
    """The images; with noise; attacked in one step and in several; towards a class; between two."""
    x = clean.x
    yield x
    yield (x + _radii(x) * (2 * torch.rand(x.shape).to(x) - 1)).clamp(0, 1)
    yield _attacked(classifier, clean, _radii(x), 1)
    yield _attacked(classifier, clean, _radii(x), STEPS)
    yield _attacked(classifier, clean, _radii(x), STEPS, _wrong(classifier, clean.y))
    other = x[torch.randperm(len(x)).to(x.device)]
    between = x.lerp(other, per_image(torch.rand(len(x)).to(x), x))
    yield _attacked(classifier, Split(between, clean.y, clean.index), _radii(x), 3)


def _radii(x: Images) -> Tensor:
    """(B, 1, 1, 1)"""
    low, high = (math.log(radius) for radius in RADII)
    return per_image((low + (high - low) * torch.rand(len(x))).exp().to(x), x)


def _wrong(classifier: Classifier, y: Labels) -> Labels:
    """A class other than its own for each image. (B,)"""
    further = torch.randint(1, classifier.num_classes, y.shape).to(y)
    return (y + further) % classifier.num_classes


def _attacked(
    classifier: Classifier, clean: Split, radius: Tensor, steps: int, targets: Labels | None = None
) -> Images:
    """Signed steps up the classifier's own loss, or down that of `targets`."""
    labels, sign = (clean.y, 1) if targets is None else (targets, -1)
    length = radius if steps == 1 else 1.5 * radius / steps

    def loss(x: Images) -> Tensor:
        each: Tensor = F.cross_entropy(classifier(x), labels, reduction="none")
        return sign * each

    return _climbed(loss, clean.x, radius, [length] * steps)


def _walk(classifier: Classifier, clean: Split, radius: Tensor, student: Student) -> Images:
    """To another class, and then wherever the student is least suspicious."""

    def loss(x: Images) -> Tensor:
        logits = classifier(x)
        own = logits.gather(1, clean.y[:, None])[:, 0]
        margin = logits.scatter(1, clean.y[:, None], -torch.inf).amax(1) - own
        hidden: Tensor = -student(packed(x, logits))[:, 0]
        return hidden.where(margin.detach() > SMALL, margin)

    waves = [(1 + math.cos(math.pi * k / (2 * STEPS))) / 4 + 0.005 for k in range(2 * STEPS)]
    return _climbed(loss, clean.x, radius, [radius * wave for wave in waves])


def _climbed(
    loss: Callable[[Images], Tensor], x: Images, radius: Tensor, lengths: list[Tensor]
) -> Images:
    x_adv = x
    for length in lengths:
        leaf = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            gradient = torch.autograd.grad(loss(leaf).sum(), leaf)[0]
        moved = x_adv + length * gradient.sign()
        x_adv = (x + (moved - x).clamp(-radius, radius)).clamp(0, 1)
    return x_adv


def _train(student: Student, lessons: Tensor, target: Tensor) -> None:
    """Fit `student` to `target`, (B,), by Adam with a rate that rises and falls."""
    student.requires_grad_(True)
    optimizer = torch.optim.AdamW(student.parameters(), RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=UPDATES)
    for _ in range(UPDATES):
        rows = torch.randint(len(lessons), (BATCH,)).to(lessons.device)
        optimizer.zero_grad()
        F.smooth_l1_loss(student(lessons[rows])[:, 0], target[rows]).backward()
        optimizer.step()
        schedule.step()
    student.requires_grad_(False)


def _rank_correlation(a: Scores, b: Scores) -> float:
    """Spearman's; ties have their mean rank, and a constant is correlated with nothing."""
    ranks = torch.stack([_ranks(a), _ranks(b)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    sizes = ranks.square().sum(1).sqrt()
    return float((ranks[0] * ranks[1]).sum() / sizes.prod()) if bool((sizes > 0).all()) else 0.0


def _ranks(values: Scores) -> Tensor:
    """(B,) float64, from 0."""
    _, place, counts = values.double().unique(return_inverse=True, return_counts=True)
    mean_rank: Tensor = (counts.cumsum(0) - (counts + 1) / 2).double()
    return mean_rank[place]
