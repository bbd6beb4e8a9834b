"""Evaluating one's own detector from Python, without files: `nfbench.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from tabulate import tabulate
from torch import Tensor, nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
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
from nfbench.runner.attacking import Attempt, craft, measure, predict, scores

Pair = tuple[str, str]
LEAST_CALIBRATION = 19


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found, by (attack, threat model)."""

    vectors: Mapping[Pair, Mapping[str, Vector]]
    """Per-image vectors, as in a run's sample files."""
    images: Mapping[Pair, Tensor]
    """The adversarial images, one row for each entry of the vectors."""
    metrics: Mapping[Pair, Mapping[str, Value]]

    def table(self, *names: str) -> str:
        """A Markdown table of some metrics; the headline ones if none are named."""
        columns = names or ("auroc_worst", "sr_at_5_fpr", "success_rate", "clean_accuracy")
        rows = [
            [*pair, *(_text(found[name].value) for name in columns)]
            for pair, found in self.metrics.items()
        ]
        return tabulate(rows, ["attack", "threat model", *columns], "github", disable_numparse=True)


def evaluate(
    classifier: nn.Module,
    score_fn: Callable[[Images], Scores],
    x: Images,
    y: Labels,
    *,
    eps: float,
    attacks: Sequence[str | Attack] = ("fgsm", "pgd"),
    threat_models: Sequence[str | ThreatModel] = ("partial-whitebox", "adaptive-whitebox"),
    calibration: tuple[Images, Labels] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Attack a classifier behind a detector and measure both.

    Args:
        classifier: (B, C, H, W) images in [0, 1] to (B, K) logits; put in eval mode and frozen.
        score_fn: differentiable suspicion, (B, C, H, W) -> (B,), higher = more suspicious.
        x: test images; float32 in [0, 1].
        y: their labels, int64.
        eps: radius of the ball, in the norm of each attack; ignored by attacks that minimise.
        attacks: names or recipes.
        threat_models: names or recipes.
        calibration: clean images and labels that fix the threshold; without them the first half of
            `x` is used for that and never attacked.
        seed: of the attacks.

    Raises:
        NFBenchError: for unknown names, bad shapes, NaN, or too few images.
    """
    registry = Registry.load()
    if calibration is None:
        half = len(x) // 2
        calibration, x, y = (x[:half], y[:half]), x[half:], y[half:]
    for images, labels in (calibration, (x, y)):
        _require_images(images, labels)
    bench = _Bench.of(classifier, score_fn, Split(x, y, torch.arange(len(x))), calibration, seed)
    threats = [_recipe(registry, "threat-model", t, ThreatModel) for t in threat_models]
    reference = _recipe(registry, "threat-model", "partial-whitebox", ThreatModel)
    found: dict[Pair, _Cell] = {}
    for attack in (_recipe(registry, "attack", a, Attack) for a in attacks):
        budget = Budget(attack.norm, math.inf if attack.minimises else eps)
        undefended = bench.cell(attack, reference, budget)
        error = float((undefended.vectors["adversarial_prediction"] != undefended.vectors["label"]).mean())
        for threat in threats:
            if reason := threat.mismatch(attack):
                raise UsageError(f"{attack.name} can't run under {threat.name}: {reason}")
            same = threat == reference
            cell = undefended if same else bench.cell(attack, threat, budget)
            stops = threat.adaptive and attack.rests
            cell.metrics = measures(cell.vectors, error, stopped_at_median=stops)
            found[attack.name, threat.name] = cell
    return Evaluation(
        {pair: cell.vectors for pair, cell in found.items()},
        {pair: cell.images for pair, cell in found.items()},
        {pair: cell.metrics for pair, cell in found.items()},
    )


@dataclass(eq=False)
class _Cell:
    vectors: Mapping[str, Vector]
    images: Tensor
    metrics: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Bench:
    """A calibrated victim, and the images it is attacked on."""

    victim: Victim
    detector: Detector
    split: Split
    common: Mapping[str, Tensor]
    seed: int

    @classmethod
    def of(
        cls,
        network: nn.Module,
        score_fn: Callable[[Images], Scores],
        split: Split,
        calibration: tuple[Images, Labels],
        seed: int,
    ) -> _Bench:
        with torch.no_grad():
            classes = network.eval()(split.x[:2]).shape[1]
        classifier = Classifier(network, classes).eval().requires_grad_(False)
        detector = _Function(classifier, score_fn)
        held_out, labels = calibration
        correct = held_out[predict(classifier, held_out) == labels]
        if len(correct) < LEAST_CALIBRATION:
            raise UsageError(
                f"only {len(correct)} calibration images are classified correctly; "
                f"a threshold at 5 % needs {LEAST_CALIBRATION}"
            )
        common = {
            "calibration_score": scores(detector, correct),
            "test_prediction": predict(classifier, split.x),
            "test_label": split.y,
            "test_score": scores(detector, split.x),
        }
        alarm = Alarm.calibrated(common["calibration_score"])
        return cls(Victim(classifier, detector, alarm), detector, split, common, seed)

    def cell(self, attack: Attack, threat: ThreatModel, budget: Budget) -> _Cell:
        """One attack under one threat model, all its objectives, the best of each image."""
        names = threat.objectives(attack)
        attempts = [Attempt(attack, threat, name, budget, self.seed) for name in names]
        candidates = [craft(attempt, self.victim, self.split)["images"] for attempt in attempts]
        correct = self.common["test_prediction"] == self.split.y
        vectors = measure(self.detector, self.split.take(correct), candidates)
        winner = vectors["winner"].clamp_min(0)
        images = torch.stack(candidates)[winner, torch.arange(len(winner))]
        return _Cell(as_numpy({**vectors, **self.common}), images)


class _Function(Detector):
    """A detector that is just a function."""

    def __init__(self, classifier: Classifier, function: Callable[[Images], Scores]) -> None:
        super().__init__(classifier)
        self.function = function

    def score(self, x: Images) -> Scores:
        return self.function(x)


def _require_images(x: Images, y: Labels) -> None:
    if x.dim() != 4 or len(x) != len(y) or len(x) == 0:
        raise UsageError(
            f"expected images (N, C, H, W) and N labels, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.dtype != torch.float32 or not (0 <= float(x.min()) and float(x.max()) <= 1):
        raise UsageError("images must be float32 in [0, 1]; normalise inside the classifier")
    if y.dtype != torch.int64:
        raise UsageError(f"labels must be int64, got {y.dtype}")


T = TypeVar("T", bound=Recipe)


def _recipe(registry: Registry, kind: Kind, given: str | Recipe, base: type[T]) -> T:
    """A recipe as it is, or the plugin of that name with its own defaults."""
    if isinstance(given, str):
        given = registry.find(kind, given).load().from_params({})
    if not isinstance(given, base):
        raise UsageError(f"{given!r} is no {base.__name__}")
    return given


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
