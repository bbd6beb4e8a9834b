"""Evaluating one's own detector from Python, without files: `nfbench.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import torch
from tabulate import tabulate
from torch import Tensor, nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.defense import Gradient
from nfbench.core.draws import seed_of
from nfbench.core.errors import UsageError
from nfbench.core.recipe import Recipe
from nfbench.core.registry import Kind, Registry
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Budget, Images, Labels, Scores, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.records import Value
from nfbench.report.cells import measures
from nfbench.report.metrics import Vector
from nfbench.report.run import as_numpy
from nfbench.runner.attacking import (
    CALIBRATION_LEAST,
    Attempt,
    craft,
    measure,
    measure_noise,
    predict,
    scores,
)
from nfbench.runner.distil import Distilled, distil
from nfbench.runner.functions import Function, Scoring
from nfbench.runner.guides import guides
from nfbench.runner.negatives import benign_changes
from nfbench.runner.surrogates import followed, note, surrogate_of, unfollowable

Pair: TypeAlias = tuple[str, str]
Given: TypeAlias = str | Mapping[str, Any] | Recipe
_KINDS: Mapping[Kind, type[Recipe]] = {"attack": Attack, "threat-model": ThreatModel}


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
    reference = _recipe(registry, "threat-model", "partial-whitebox")
    threats = [_recipe(registry, "threat-model", t) for t in threat_models]
    chosen = [_recipe(registry, "attack", a) for a in attacks]
    _require_runnable(chosen, threats, eps)
    _require_images(x, y)
    if calibration is None:
        half = len(x) // 2
        calibration, x, y = (x[:half], y[:half]), x[half:], y[half:]
    _require_images(*calibration)
    split = Split(x, y, torch.arange(len(x), device=x.device))
    bench = _Bench.of(classifier, Scoring(score_fn, surrogate), split, calibration, seed)
    _require_followable(chosen, threats, bench.detector.gradient)
    found: dict[Pair, _Cell] = {}
    for attack in chosen:
        budget = Budget(attack.norm, math.inf if attack.minimises else eps)
        undefended = bench.cell(attack, reference, budget)
        error = float(
            (undefended.vectors["adversarial_prediction"] != undefended.vectors["label"]).mean()
        )
        for threat in threats:
            same = threat == reference
            chooses = threat.adaptive and threat.keeps_best and threat.access >= reference.access
            ignorant = [undefended.images] if chooses else []
            cell = undefended if same else bench.cell(attack, threat, budget, *ignorant)
            stops = threat.adaptive and attack.rests
            cell.metrics = measures(cell.vectors, error, stopped_at_median=stops)
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
    guides: Split
    """Calibration images that are classified correctly and accepted."""
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
        classes = _classes(network, split.x)
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
        return cls(victim, detector, split, common, guides(victim, known, seed), known, seed)

    @cached_property
    def _distilled(self) -> Distilled:
        return distil(self.detector, self.calibration, seed_of("distil", self.seed))

    def _craft(self, attempt: Attempt) -> Tensor:
        surrogate = surrogate_of(self.detector.gradient, attempt.attack, attempt.threat_model)
        learnt = self._distilled.tensors if surrogate == "distilled" else {}
        detector = followed(self.detector, surrogate, learnt, self.split.x.shape[1:])
        victim = replace(self.victim, detector=detector)
        images: Tensor = craft(attempt, victim, self.split, guides=self.guides).vectors["images"]
        return images

    def cell(self, attack: Attack, threat: ThreatModel, budget: Budget, *given: Images) -> _Cell:
        """One attack under one threat model, all its objectives, the best of each image.

        `given` are images that an attacker who knows the detector has anyway.
        """
        names = threat.objectives(attack)
        attempts = [Attempt(attack, threat, name, budget, self.seed) for name in names]
        candidates = [self._craft(attempt) for attempt in attempts]
        clean = self.split.take(self.common["test_prediction"] == self.split.y)
        vectors, images = measure(self.detector, clean, [*candidates, *given])
        vectors |= measure_noise(self.detector, clean, images, attack.norm, self.seed)
        surrogate = surrogate_of(self.detector.gradient, attack, threat)
        correlations = [self._distilled.rank_correlation] if surrogate == "distilled" else []
        return _Cell(as_numpy({**vectors, **self.common}), images, note(surrogate, correlations))


def _classes(network: nn.Module, x: Images) -> int:
    """How many classes the network tells apart; it is tried on two images."""
    try:
        with torch.no_grad():
            logits = network.eval()(x[:2])
    except Exception as error:  # whatever the network raises on images it was not made for
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the classifier can't take images (N, C, H, W) of shape {tuple(x.shape)}: {reason}"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape[:1] != x[:2].shape[:1] or logits.dim() != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"the classifier must return logits (B, K); got {got} for {len(x[:2])} images")
    return logits.shape[1]


def _require_runnable(attacks: Sequence[Attack], threats: Sequence[ThreatModel], eps: float) -> None:
    """Refuse what would fail, or overwrite another result, after hours of work."""
    if not eps > 0:
        raise UsageError(f"eps must be positive, in pixel units of [0, 1]; got {eps}")
    names = [recipe.name for recipe in (*attacks, *threats)]
    if len(set(names)) < len(names):
        raise UsageError(f"results are told apart by name, give each once; got {', '.join(names)}")
    for attack, threat in product(attacks, threats):
        if not attack.minimises and math.isinf(eps):
            raise UsageError(f"{attack.name} needs a bound; got eps = {eps}")
        if threat.transfers:
            raise UsageError(
                f"{threat.name} needs replicas, which nothing here can train: make classifier and "
                "detector plugins and use `nfbench run`"
            )
        if reason := threat.mismatch(attack):
            raise UsageError(f"{attack.name} can't run under {threat.name}: {reason}")


def _require_followable(
    attacks: Sequence[Attack], threats: Sequence[ThreatModel], gradient: Gradient
) -> None:
    """Refuse gradient attacks where there is none and a surrogate's is not to be followed."""
    for attack, threat in product(attacks, threats):
        if reason := unfollowable("score_fn", gradient, attack, threat):
            raise UsageError(f"{attack.name} can't run under {threat.name}: {reason}")


def _require_images(x: Images, y: Labels) -> None:
    if not all(isinstance(given, Tensor) for given in (x, y)):
        raise UsageError(
            f"images and labels must be torch tensors, got {type(x).__name__} and {type(y).__name__}"
        )
    if x.dim() != 4 or y.shape != x.shape[:1] or len(x) == 0:
        raise UsageError(
            f"expected images (N, C, H, W) and N labels, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageError(f"images must be (N, C, H, W), got {tuple(x.shape)}; move the channels first")
    if x.dtype != torch.float32 or not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise UsageError(
            f"images must be float32 in [0, 1], got {x.dtype} in [{x.min().item():.6g}, "
            f"{x.max().item():.6g}]; normalise inside the classifier"
        )
    if y.dtype != torch.int64 or int(y.min()) < 0:
        raise UsageError(f"labels must be int64 from 0, got {y.dtype} from {y.min().item()}")


def _recipe(registry: Registry, kind: Kind, given: Given) -> Any:
    """A recipe as it is, or the plugin of that name with its own defaults under what is given."""
    if isinstance(given, Recipe):
        if not isinstance(given, _KINDS[kind]):
            raise UsageError(f"{given.name} is no {kind}")
        return given
    params = {"name": given} if isinstance(given, str) else dict(given)
    return registry.find(kind, str(params.pop("name", ""))).load().from_params(params)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
