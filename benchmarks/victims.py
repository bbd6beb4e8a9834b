"""What benchmarks of adaptive attacks share: trained victims."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from nfbench import Alarm, Budget, Draws, Objective, Recorder, Split, Victim
from nfbench.core.registry import Registry
from nfbench.report.metrics import auroc, success_rate_at
from nfbench.runner.driver import Driver
from nfbench.runner.guides import guides
from nfbench.runner.measuring import measure, predict, scores
from nfbench.runner.options import Options
from nfbench.runner.workshop import Workshop
from nfbench.session import plan_of
from nfbench.store import Job, Store

DETECTORS = ("neuralfp", "lid", "kd", "bu", "kd+bu", "mahalanobis", "feature-squeezing")
Kind = TypeVar("Kind", bound=Objective)


class Silent:
    """Progress that speaks only of failures, and ends with them."""

    def failed(self, job: Job, reason: str) -> None:
        raise SystemExit(f"{job.label}: {reason}")

    def total(self, weight: float, jobs: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def finished(self, job: Job, seconds: float) -> None: ...
    def advanced(self, job: Job, share: float) -> None: ...
    def warned(self, message: str) -> None: ...
    def noted(self, message: str) -> None: ...


@dataclass(frozen=True)
class Target:
    """A defended classifier of digits, the images it gets right, and what an attacker may imitate."""

    victim: Victim
    split: Split
    guides: Split
    seed: int

    def recorder(self, budget: Budget) -> Recorder:
        return Recorder(self.victim, self.split.x, self.split.y, budget, guides=self.guides)

    def objective(self, kind: type[Kind], recorder: Recorder) -> Kind:
        return kind(recorder, self.split.y, self.victim.alarm)

    @property
    def draws(self) -> Draws:
        return Draws(self.seed, self.split.index.tolist())

    def judged(self, recorder: Recorder) -> dict[str, float]:
        """SR@5, the worst-case AUROC, and passes an image, as reports have them."""
        detector, alarm = self.victim.detector, self.victim.alarm
        assert detector is not None
        assert alarm is not None
        vectors, _ = measure(detector, self.split, [recorder.best])
        evasion = vectors["evasion_score"].numpy().astype(np.float64)
        return {
            "sr": success_rate_at(alarm.threshold, evasion),
            "auroc": auroc(self._clean, evasion),
            "passes": float((recorder.forward + recorder.backward).float().mean()),
        }

    @cached_property
    def _clean(self) -> np.ndarray:
        assert self.victim.detector is not None
        return scores(self.victim.detector, self.split.x).numpy().astype(np.float64)


def target(defense: str, seed: int, cache: Path, limit: int | None = None) -> Target:
    """The victim that a run with this seed would attack, made or read from the cache."""
    registry = Registry.load()
    options = Options(
        defense=(defense,),
        attacks=("fgsm",),
        threat_model=("adaptive-whitebox",),
        seed=(seed,),
        limit=limit,
    )
    plan, shop, store = plan_of(options, registry), Workshop(registry), Store(cache)
    Driver(plan, store, shop, Silent(), {}).run()
    train_key, fit_key, clean_key = plan.jobs[plan.cells[0].crafts[0]].needs
    classifier = shop.classifier(plan.jobs[train_key].recipe, store.get(train_key))
    recipe = plan.jobs[fit_key].recipe
    detector = shop.detector(recipe, classifier, store.get(fit_key))
    alarm = Alarm.calibrated(store.get(clean_key).tensors["calibration_score"])
    victim = Victim(classifier, detector, alarm)
    test = shop.test(plan.jobs[clean_key].recipe)
    right = test.take(predict(classifier, test.x) == test.y)
    return Target(victim, right, guides(victim, shop.train(recipe), seed), seed)
