"""Attacking: what a craft job computes, as a function of live objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nfbench.checkpoints import Checkpoint, Progressed
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
    checkpoint: Checkpoint | None = None,
) -> Crafted:
    """Attack `split` in batches that fit in memory; only what the known classifier gets right.

    Whoever has none but replicas attacks all of it: what the victim gets wrong he cannot know.

    Args:
        attempt: what runs.
        victim: what the attacker has; its detector is hidden where he does not know of it.
        split: the images.
        tick: called with the number of rows of each query.
        guides: training images that the attacker may look at.
        checkpoint: where batches that are done are kept, and taken from.
    """
    victim_sees = victim if attempt.threat_model.adaptive else Victim(victim.classifier)
    attacked = split
    if attempt.threat_model.classifier == "victim":
        attacked = split.take(predict(victim.classifier, split.x) == split.y)
    if not len(attacked):
        raise ContractViolation("the classifier gets none of the images right; nothing to attack")
    size = min(MAX_IMAGES, victim_sees.images_within(memory_on(split.x), split.x))
    so_far = _SoFar(attacked.x.device)
    if checkpoint is not None:
        so_far.restore(checkpoint.load())
    while so_far.rows < len(attacked):
        rows = torch.arange(so_far.rows, min(so_far.rows + size, len(attacked)))
        try:
            part, names = _craft_batch(attempt, victim_sees, attacked.take(rows), tick, guides)
        except Exception as error:
            if not out_of_memory(error) or len(rows) == 1:
                raise
            size = len(rows) // 2
            continue
        so_far.add(part, names)
        if checkpoint is not None and so_far.rows < len(attacked):
            checkpoint.save(so_far.progressed)
    vectors, stages = so_far.vectors(), so_far.stages
    vectors["prediction"] = predict(victim.classifier, vectors["images"])
    return Crafted({"index": attacked.index, "label": attacked.y, **vectors}, stages)


@dataclass(eq=False)
class _SoFar:
    """The batches that are done."""

    device: torch.device
    parts: list[Vectors] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(part["images"]) for part in self.parts)

    def add(self, part: Vectors, names: list[str]) -> None:
        """One more; it may skip stages of another."""
        self.stages += [name for name in names if name not in self.stages]
        order = torch.tensor([*map(self.stages.index, names), -1], device=part["stage"].device)
        self.parts.append(part | {"stage": order[part["stage"]]})

    def vectors(self) -> Vectors:
        return {key: torch.cat([part[key] for part in self.parts]) for key in self.parts[0]}

    def progressed(self) -> Progressed:
        return Progressed(self.vectors(), {"stages": self.stages})

    def restore(self, done: Progressed | None) -> None:
        if done is not None:
            self.stages = list(done.info["stages"])
            self.parts = [{name: tensor.to(self.device) for name, tensor in done.tensors.items()}]


def out_of_memory(error: Exception) -> bool:
    """Whether there was no room for something; the device is then tidied up for another try."""
    found = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(
        error
    )
    if found and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


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
