"""What it costs to break a detector: passes and seconds until nine of ten images are evaded.

The attacks of nfbench beside PGD on a weighted sum with a grid of weights, run here and through the
loops of Foolbox and ART.
"""

import argparse
import contextlib
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import eagerpy as ep
import foolbox
import numpy as np
import torch
from harness import show
from torch import Tensor, nn
from victims import Target, target

from nfbench import OBJECTIVES, Budget, Objective, Recorder
from nfbench_attacks.climbing import climb, likeliest
from nfbench_attacks.detector_breaker import DetectorBreaker
from nfbench_attacks.probing import guide

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

SETTINGS = (("neuralfp", 0.25), ("kd", 0.15), ("kd", 0.20), ("kd", 0.25))
GOAL = 0.9
STEPS, TARGETS = 100, 3
GAMMAS = [10.0**k for k in range(-2, 5)]
Term = Literal["min", "target"]
TERMS: tuple[Term, ...] = ("min", "target")


class Reached(Exception):
    """Enough images are evaded."""


@dataclass
class Trial:
    """One attack on one victim, which ends when `GOAL` is reached."""

    on: Target
    budget: Budget
    recorder: Recorder = field(init=False)
    passes: float = math.nan
    """Forward and backward passes an image."""
    seconds: float = math.nan
    rate: float = 0.0

    def run(self, attack: Callable[["Trial"], None]) -> None:
        asked = 0

        def watch(rows: int) -> None:
            nonlocal asked
            if self.rate_now() >= GOAL:
                asked = rows  # not asked for any more
                raise Reached

        split = self.on.split
        self.recorder = Recorder(
            self.on.victim, split.x, split.y, self.budget, guides=self.on.guides, tick=watch
        )
        start = time.process_time()
        with contextlib.suppress(Reached):
            attack(self)
        self.seconds = time.process_time() - start
        spent = int(self.recorder.forward.sum() + self.recorder.backward.sum()) - asked
        self.passes, self.rate = spent / len(split), self.rate_now()

    @property
    def reached(self) -> bool:
        return self.rate >= GOAL

    def rate_now(self) -> float:
        return float(self.recorder.evaded.float().mean())

    def objective(self, kind: str) -> Objective:
        return self.on.objective(OBJECTIVES[kind], self.recorder)

    def targets(self) -> list[Tensor]:
        return likeliest(self.objective("dual"), self.on.split.x, TARGETS)

    def climb(self, objective: Objective, start: Tensor) -> Tensor:
        return climb(objective, self.on.split.x, start, self.budget, STEPS)


def dual(trial: Trial) -> None:
    for aim in trial.targets():
        trial.climb(trial.objective("dual").towards(aim), trial.on.split.x)


def matching_then_dual(trial: Trial) -> None:
    for aim in trial.targets():
        start = guide(trial.objective("dual"), trial.on.split.x, 0, aim)
        assert start is not None
        reached = trial.climb(trial.objective("matching").towards(aim), start)
        trial.climb(trial.objective("dual").towards(aim), reached)


def breaker(trial: Trial) -> None:
    objective = trial.objective("dual")
    DetectorBreaker(budget="quick").perturb(objective, trial.on.split.x, trial.budget, trial.on.draws)


Loop = Callable[[Trial, Objective], None]


def over_grid(loop: Loop, term: Term, gammas: list[float] = GAMMAS) -> Callable[[Trial], None]:
    """A loop for each weight and, where the term is the target's, for each target."""

    def attack(trial: Trial) -> None:
        base: Any = trial.objective("lagrangian")
        aims = trial.targets() if term == "target" else [None]
        for gamma in gammas:
            for aim in aims:
                weighed = base.with_gamma(gamma, term)
                loop(trial, weighed if aim is None else weighed.towards(aim))

    return attack


def own(trial: Trial, objective: Objective) -> None:
    trial.climb(objective, trial.on.split.x)


class FoolboxPGD(foolbox.attacks.LinfProjectedGradientDescentAttack):  # type: ignore[misc]  # untyped
    """Foolbox's PGD on an objective of ours, whose every query is recorded."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(rel_stepsize=2.5 / STEPS, steps=STEPS)
        self.objective = objective

    def get_loss_fn(self, model: object, labels: object) -> Callable[[ep.Tensor], ep.Tensor]:
        return lambda x: ep.astensor(self.objective.loss(x.raw).sum())


def foolbox_loop(trial: Trial, objective: Objective) -> None:
    model = foolbox.PyTorchModel(trial.on.victim.classifier, bounds=(0, 1), device="cpu")
    x, y = trial.on.split.x, trial.on.split.y
    found = FoolboxPGD(objective).run(model, x, y, epsilon=trial.budget.eps)
    _look(objective, found)


class Injected(PyTorchClassifier):  # type: ignore[misc]  # ART is untyped
    """ART's classifier with the gradient of an objective of ours for its own."""

    objective: Objective

    def loss_gradient(self, x: Tensor, y: Tensor, **kwargs: object) -> Tensor:
        return self.objective.gradient(x)


def art_loop(trial: Trial, objective: Objective) -> None:
    split, eps = trial.on.split, trial.budget.eps
    shape = tuple(split.x.shape[1:])
    loss, classes = nn.CrossEntropyLoss(), trial.on.victim.classifier.num_classes
    network = trial.on.victim.classifier
    wrapped = Injected(network, loss, shape, classes, clip_values=(0, 1), device_type="cpu")
    wrapped.objective = objective
    attack = ProjectedGradientDescentPyTorch(
        wrapped,
        eps=eps,
        eps_step=2.5 * eps / STEPS,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=len(split),
        verbose=False,
    )
    _look(objective, torch.from_numpy(attack.generate(split.x.numpy(), split.y.numpy())))


@torch.no_grad()
def _look(objective: Objective, found: Tensor) -> None:
    """At where a library ended, which it does not ask about."""
    objective.query(found)


OURS: dict[str, Callable[[Trial], None]] = {
    "dual": dual,
    "matching, then dual": matching_then_dual,
    "detector-breaker, quick": breaker,
}
RIVALS: dict[str, Callable[[Trial], None]] = {
    f"{name}, {term}": over_grid(loop, term)
    for name, loop in (("PGD, grid", own), ("Foolbox, grid", foolbox_loop), ("ART, grid", art_loop))
    for term in TERMS
}
SINGLE = {term: [over_grid(own, term, [gamma]) for gamma in GAMMAS] for term in TERMS}


def measure(on: Target, eps: float) -> dict[str, Trial]:
    """Every attack on one victim; of the single weights the best of each term, which warm up as well."""

    def run(attack: Callable[[Trial], None]) -> Trial:
        torch.manual_seed(on.seed)
        np.random.seed(on.seed)  # noqa: NPY002  # ART draws from it
        trial = Trial(on, Budget("linf", eps))
        trial.run(attack)
        return trial

    alone = {
        f"PGD, the best weight, {term}": min((run(attack) for attack in attacks), key=_cost)
        for term, attacks in SINGLE.items()
    }
    return {name: run(attack) for name, attack in {**OURS, **RIVALS}.items()} | alone


def _cost(trial: Trial) -> tuple[bool, float]:
    return not trial.reached, trial.passes if trial.reached else -trial.rate


def rows(found: list[dict[str, Trial]]) -> list[list[object]]:
    """One row an attack: medians over the victims, and of the ratios to ours on the same victim."""
    table: list[list[object]] = []
    for name in found[0]:
        trials = [one[name] for one in found]
        reached = sum(trial.reached for trial in trials)
        beyond = "" if reached == len(found) else "> "
        table.append(
            [
                name,
                f"{reached} of {len(found)}",
                statistics.median(trial.rate for trial in trials),
                f"{beyond}{statistics.median(trial.passes for trial in trials):.0f}",
                f"{beyond}{statistics.median(trial.seconds for trial in trials):.2f}",
                *(_ratio(found, name, ours, lambda trial: trial.passes) for ours in OURS),
                *(_ratio(found, name, ours, lambda trial: trial.seconds) for ours in OURS),
            ]
        )
    return table


def _ratio(
    found: list[dict[str, Trial]], name: str, ours: str, what: Callable[[Trial], float]
) -> str | None:
    """How many times what ours takes; a lower bound where it never got there, None if ours did not."""
    pairs = [(one[name], one[ours]) for one in found if one[ours].reached]
    if not pairs or name == ours:
        return None
    bound = "" if all(it.reached for it, _ in pairs) else "> "
    return f"{bound}{statistics.median(what(it) / what(us) for it, us in pairs):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=100, help="test images attempted")
    given = parser.parse_args()
    torch.set_num_threads(1)
    headers = ["attack", "reached", "SR@5", "passes", "CPU, s"]
    headers += [f"{what} / {name}" for what in ("passes", "s") for name in OURS]
    for detector, eps in SETTINGS:
        found = [
            measure(target(detector, seed, given.cache_dir, given.limit), eps) for seed in given.seeds
        ]
        show(f"{detector}, digits, linf {eps:g}, until SR@5 = {GOAL}", headers, rows(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
