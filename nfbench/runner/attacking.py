"""Attacking: what a craft job computes, as a function of live objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nfbench.core.attack import Attack
from nfbench.core.classifier import memory_on
from nfbench.core.draws import Draws
from nfbench.core.errors import ContractViolation
from nfbench.core.recorder import Recorder
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access, Budget, Images, Split, per_image
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.measuring import Vectors, predict

MAX_IMAGES = 512
DECISIONS = Alarm(threshold=0.5, median=0.0, unit=1.0)
"""What who sees decisions only is told of a detector: accepted is 0 and rejected is 1."""


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
    """One row an attacked image: index, label, images, prediction, stage, history, forward, backward,
    and `claimed`, S* as far as the attacker knows.

    Of attacks that minimise also `nearest`, what they returned; `images` are those of lowest score.
    """
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
    nearest = {}
    if threat.adaptive and threat.keeps_best:
        nearest = {"nearest": images} if attack.minimises else {}
        images = recorder.best.where(per_image(recorder.evasion_score.isfinite(), images), images)
        require_within(attack.name, attempt.budget, batch.x, images)
    stage = recorder.winner if threat.keeps_best else torch.full_like(recorder.winner, -1)
    found = {
        "images": images,
        "claimed": recorder.evasion_score,
        "stage": stage,
        "history": recorder.history,
    }
    counted = {"forward": recorder.forward, "backward": recorder.backward}
    return found | nearest | counted, recorder.stages


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
