"""Evaluating one's own detector from Python, without files: `nfbench.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import torch
from tabulate import tabulate
from torch import Tensor, nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.draws import seed_of
from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Images, Labels, Scores, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.given import (
    Given,
    classes_of,
    recipe_of,
    require_followable,
    require_images,
    require_runnable,
)
from nfbench.records import Value
from nfbench.report.cells import Undefended, measures
from nfbench.report.entries import TOLERANCE
from nfbench.report.flags import faults
from nfbench.report.metrics import Vector
from nfbench.report.run import as_numpy
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.distil import Distilled, distil
from nfbench.runner.functions import Function, Scoring
from nfbench.runner.guides import guides
from nfbench.runner.health import gradient_health
from nfbench.runner.measuring import (
    CALIBRATION_LEAST,
    distances,
    measure,
    measure_noise,
    predict,
    scores,
)
from nfbench.runner.negatives import benign_changes
from nfbench.runner.surrogates import followed, note, surrogate_of

Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found, by (attack, threat model)."""

    vectors: Mapping[Pair, Mapping[str, Vector]]
    """Per-image vectors, as in a run's sample files."""
    images: Mapping[Pair, Tensor]
    """The adversarial images, one row for each entry of the vectors."""
    metrics: Mapping[Pair, Mapping[str, Value]]
    notes: Mapping[Pair, list[str]]
    """What a reader of the numbers must know, a line each; of pairs where there is anything."""

    def table(self, *names: str) -> str:
        """A Markdown table of some metrics; the headline ones if none are named."""
        columns = names or ("auroc_worst", "sr_at_5_fpr", "success_rate", "clean_accuracy")
        rows = [
            [*pair, *(_text(found[name].value) for name in columns)]
            for pair, found in self.metrics.items()
        ]
        return tabulate(rows, ["attack", "threat model", *columns], "github", disable_numparse=True)


def evaluate(  # noqa: PLR0913  # two required, the rest are options by name
    classifier: nn.Module,
    score_fn: Callable[[Images], Scores],
    x: Images,
    y: Labels,
    *,
    eps: float,
    attacks: Sequence[Given] = ("fgsm", "pgd"),
    threat_models: Sequence[Given] = ("partial-whitebox", "adaptive-whitebox"),
    calibration: tuple[Images, Labels] | None = None,
    surrogate: Callable[[Images], Scores] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Attack a classifier behind a detector and measure both.

    Args:
        classifier: (B, C, H, W) images in [0, 1] to (B, K) logits; put in eval mode and frozen.
        score_fn: suspicion, (B, C, H, W) -> (B,), higher = more suspicious; best differentiable.
        x: test images; float32 in [0, 1].
        y: their labels, int64.
        eps: radius of the ball, in the norm of each attack; ignored by attacks that minimise.
        attacks: names, `{"name": "pgd", "steps": 20}`, or recipes.
        threat_models: likewise.
        calibration: clean images and labels that fix the threshold; without them the first half of
            `x` is used for that and never attacked.
        surrogate: whose gradient is followed in place of `score_fn`'s; of a `score_fn` that has none,
            one is distilled from its scores on calibration images unless it is given.
        seed: of the attacks.

    Raises:
        NFBenchError: for unknown names, bad shapes, NaN, or too few images.
    """
    registry = Registry.load()
    reference = recipe_of(registry, "threat-model", "partial-whitebox")
    threats = [recipe_of(registry, "threat-model", t) for t in threat_models]
    chosen = [recipe_of(registry, "attack", a) for a in attacks]
    require_runnable(chosen, threats, eps)
    require_images(x, y)
    if calibration is None:
        half = len(x) // 2
        calibration, x, y = (x[:half], y[:half]), x[half:], y[half:]
    require_images(*calibration)
    split = Split(x, y, torch.arange(len(x), device=x.device))
    bench = _Bench.of(classifier, Scoring(score_fn, surrogate), split, calibration, seed)
    require_followable(chosen, threats, bench.detector.gradient)
    found: dict[Pair, _Cell] = {}
    for attack in chosen:
        budget = Budget(attack.norm, math.inf if attack.minimises else eps)
        undefended = bench.cell(attack, reference, budget)
        wrong = undefended.vectors["adversarial_prediction"] != undefended.vectors["label"]
        plain = Undefended.of(wrong)
        for threat in threats:
            same = threat == reference
            chooses = threat.chooses and threat.access >= reference.access
            ignorant = [undefended.images] if chooses else []
            cell = undefended if same else bench.cell(attack, threat, budget, *ignorant)
            stops = threat.adaptive and attack.rests
            cell.metrics = measures(
                cell.vectors,
                plain,
                stopped_at_median=stops,
                aims_at_threshold=threat.aims_at_threshold(attack),
            )
            found[attack.name, threat.name] = cell
    return Evaluation(
        {pair: cell.vectors for pair, cell in found.items()},
        {pair: cell.images for pair, cell in found.items()},
        {pair: cell.metrics for pair, cell in found.items()},
        {pair: cell.notes for pair, cell in found.items() if cell.notes},
    )


@dataclass(eq=False)
class _Cell:
    vectors: Mapping[str, Vector]
    images: Tensor
    notes: list[str]
    metrics: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Bench:
    """A calibrated victim, and the images it is attacked on."""

    victim: Victim
    detector: Function
    split: Split
    common: Mapping[str, Tensor]
    calibration: Split
    seed: int

    @classmethod
    def of(
        cls,
        network: nn.Module,
        scoring: Scoring,
        split: Split,
        calibration: tuple[Images, Labels],
        seed: int,
    ) -> _Bench:
        held_out, labels = calibration
        classes = classes_of(network, split.x)
        if (highest := max(int(split.y.max()), int(labels.max()))) >= classes:
            raise UsageError(f"label {highest} is none of the {classes} classes of the classifier")
        classifier = Classifier(network, classes).eval().requires_grad_(False)
        correct = held_out[predict(classifier, held_out) == labels]
        if len(correct) < CALIBRATION_LEAST:
            raise UsageError(
                f"only {len(correct)} calibration images are classified correctly; "
                f"a threshold at 5 % needs {CALIBRATION_LEAST}"
            )
        detector = Function(classifier, scoring, scoring.gradient(correct))
        common = {
            "calibration_score": scores(detector, correct),
            "test_prediction": predict(classifier, split.x),
            "test_label": split.y,
            "test_score": scores(detector, split.x),
        }
        for name, images in benign_changes(split, seed):
            common[f"benign_{name}_score"] = scores(detector, images)
            common[f"benign_{name}_prediction"] = predict(classifier, images)
        alarm = Alarm.calibrated(common["calibration_score"])
        victim = Victim(classifier, detector, alarm)
        known = Split(held_out, labels, torch.arange(len(labels), device=labels.device))
        return cls(victim, detector, split, common, known, seed)

    @cached_property
    def _distilled(self) -> Distilled:
        return distil(self.detector, self.calibration, seed_of("distil", self.seed))

    def _victim(self, attack: Attack, threat: ThreatModel) -> Victim:
        """What the attacker has: the detector's own values, with the gradient that is followed."""
        surrogate = surrogate_of(self.detector.gradient, attack, threat)
        learnt = self._distilled.tensors if surrogate == "distilled" else {}
        detector = followed(self.detector, surrogate, learnt, self.split.x.shape[1:])
        return replace(self.victim, detector=detector)

    def cell(self, attack: Attack, threat: ThreatModel, budget: Budget, *given: Images) -> _Cell:
        """One attack under one threat model, all its objectives, the best of each image.

        `given` are images that an attacker who knows the detector has anyway.
        """
        names = threat.objectives(attack)
        attempts = [Attempt(attack, threat, name, budget, self.seed) for name in names]
        victim = self._victim(attack, threat)
        seen = self.victim if threat.adaptive else Victim(self.victim.classifier)
        around = guides(seen, self.calibration, self.seed, threat.access)
        crafted = [craft(one, victim, self.split, guides=around).vectors for one in attempts]
        candidates = [one["images"] for one in crafted]
        clean = self.split.take(self.common["test_prediction"] == self.split.y)
        vectors, images = measure(self.detector, clean, [*candidates, *given])
        vectors |= measure_noise(self.detector, clean, images, attack.norm, self.seed)
        assert self.victim.alarm is not None
        tau = self.victim.alarm.threshold
        if nearest := [one["nearest"] for one in crafted if "nearest" in one]:
            vectors["distance"] = distances(self.detector, clean, nearest, tau, attack.norm)
        surrogate = surrogate_of(self.detector.gradient, attack, threat)
        correlations = [self._distilled.rank_correlation] if surrogate == "distilled" else []
        notes = note(surrogate, correlations)
        broken = float((vectors["evasion_score"] <= tau).double().mean())
        if threat.follows_gradient(attack) and broken < 1 - TOLERANCE:
            health = gradient_health(victim, clean.x, clean.y, self.seed)
            misled = {"surrogate_misled": 1 - min(correlations)} if correlations else {}
            notes += faults(health | misled)
        return _Cell(as_numpy({**vectors, **self.common}), images, notes)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
