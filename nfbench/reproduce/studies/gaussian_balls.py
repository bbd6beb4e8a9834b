"""Two Gaussian balls: what fingerprints do to a decision boundary, and which sizes can be learnt.

Figure 3 of the NeuralFP paper, and figures 2 and 3 of the EPFL reproduction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, MinLen
from numpy.typing import NDArray
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Splits, Training
from nfbench.core.defense import Detector, FitData, cross_entropy
from nfbench.core.draws import seed_of
from nfbench.core.recipe import Count, Positive, Recipe
from nfbench.core.threshold import threshold
from nfbench.core.values import Split
from nfbench.records import Value
from nfbench.report.values import auroc as auroc_of
from nfbench.reproduce.studies.boundaries import Lines, regions
from nfbench.reproduce.studies.seeds import mean, share
from nfbench.reproduce.study import Bench, Made, later
from nfbench.runner.train import train
from nfbench.stats.auroc import influence
from nfbench.stats.intervals import over_seeds, threshold_variance

Array = NDArray[Any]

CENTRE = 3.0
"""The classes are at (-3, -3) and (3, 3), with identity covariance (EPFL, III-A)."""
HALF = 8.0
"""Half the side of the square that is looked at, five standard deviations beyond the centres."""
TARGETS = {"preset": "code", "dy_on": -0.75, "dy_off": 0.25, "dx_range": "sym"}
"""The negative of eq. (11), as the paper has it here (2.3), with dx from U(-size, size)."""
LEARNING_RATE = 3e-3
HELD_OUT, OUTLIERS = 2000, 4000
FAR = 3.0
"""Outliers farther from both centres are none of the data: 1.1 % of a ball lies beyond."""
FALSE_ALARMS = 0.05


class Balls(Recipe):
    """All parameters of the study."""

    name = "gaussian-balls"
    paper = "https://arxiv.org/abs/1803.03870"

    seeds: Count = 5
    """Each has training points, initial weights and fingerprints of its own."""
    steps: Count = 800
    """Of Adam; nearly so many, in whole epochs."""
    batch: Count = 64
    points: Annotated[int, Ge(2)] = 1280
    """Training points of both classes together."""
    sizes: Annotated[tuple[Positive, ...], MinLen(1)] = (0.1, 1.0, 6.0)
    """Largest coordinates of dx, in standard deviations of a ball. The last is drawn."""
    fingerprints: Count = 5
    """Number N of fingerprints."""
    grid: Annotated[int, Ge(2)] = 81
    """Points along a side of the square."""

    @property
    def training(self) -> Training:
        epochs = max(1, round(self.steps / max(1, self.points // self.batch)))
        return Training(learning_rate=LEARNING_RATE, batch_size=self.batch, epochs=epochs)


class _Ground:
    """What all networks are judged on."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(seed_of("outliers"))
        self.real = balls(HELD_OUT, seed_of("held out"))
        self.outliers = HALF * (2 * torch.rand(OUTLIERS, 1, 1, 2, generator=generator) - 1)
        self.axis = np.linspace(-HALF, HALF, size)
        points = np.stack(np.meshgrid(self.axis, self.axis), axis=-1).reshape(-1, 2)
        self.grid = torch.tensor(points, dtype=torch.float32).view(-1, 1, 1, 2)
        self.lines = Lines(points)

    @property
    def far(self) -> Array:
        """Which outliers are none of the data, (OUTLIERS,)."""
        return np.asarray(_distances(self.outliers).min(1) > FAR)


class _Found(NamedTuple):
    """What one network turned out to be; scores only where it has fingerprints."""

    correct: Array  # (HELD_OUT,)
    decision: Array  # (G, G), second logit less the first
    detector: Detector | None = None
    left: float = 1.0
    real: Array = np.zeros(0)  # scores (HELD_OUT,)
    outlying: Array = np.zeros(0)  # scores (OUTLIERS,)


def gaussian_balls(bench: Bench, **parameters: Any) -> Made:
    """Networks of two hidden layers of 200 ReLU units on two balls, without and with fingerprints.

    Values are means over seeds, with 95 % intervals, on points that were not trained on. SIZE is a
    size as `%g` prints it:

    - loss_left_SIZE: the fingerprint loss, over that of a network that does not answer (whose
      normalised logits are the same at x and x + dx); 1 where nothing was learnt.
    - accuracy_SIZE, and accuracy_plain without fingerprints.
    - nonlinear_SIZE, nonlinear_plain: share of the square on the wrong side of the straight line that
      suits the network's decisions best, see `Lines.missed`; nonlinear_more: the last size less plain.
    - regions_SIZE, regions_plain: connected decision regions in the square.
    - auroc_SIZE: of min_j D_j, uniform points of the square against points of the balls; auroc_ideal:
      the same of the balls' own density, which nothing exceeds but by chance.
    - accepted_far_SIZE: share accepted of the uniform points farther than 3 from both centres, at the
      threshold that accepts 95 % of the balls' points.

    Args:
        bench: `tick` is called after each training step.
        parameters: those of `Balls`.

    Returns:
        These values. Of the last size and the seed `drawn` (), where its loss is the median: `axis`
        (G,); `decision_plain` and `decision` (G, G), second logit less first, a row for each second
        coordinate; `loss` (G, G), min_j D_j; `threshold` (), as of accepted_far; `points` (P, 2) and
        `labels` (P,); `directions` (N, 2), the dx. Of all, `sizes` and `loss_left` (S, sizes).

    Raises:
        UsageError: a parameter is unknown or out of range.
    """
    asked, recipe = Balls.from_params(parameters), bench.registry.find("defense", "neuralfp").load()
    ground, kinds = _Ground(asked.grid), ("plain", *(f"{size:g}" for size in asked.sizes))
    found: dict[str, list[_Found]] = {kind: [] for kind in kinds}
    whole = asked.seeds * len(kinds)
    for seed in range(asked.seeds):
        for i, kind in enumerate(kinds):
            done = seed * len(kinds) + i
            defense = _defense(recipe, asked, seed, asked.sizes[i - 1]) if i else None
            classifier = _trained(defense, asked, seed, later(bench.tick, done, whole))
            found[kind].append(_looked_at(classifier, defense, ground))
    values: dict[str, Value] = {"auroc_ideal": _ideal(ground)}
    for kind in kinds:
        values |= {f"{name}_{kind}": value for name, value in _values(found[kind], ground).items()}
    bent = [_nonlinear(found[kind], ground) for kind in (kinds[-1], "plain")]
    values["nonlinear_more"] = mean(bent[0] - bent[1])
    left = np.array([[one.left for one in found[kind]] for kind in kinds[1:]]).T  # (S, sizes)
    drawn = int(np.argsort(left[:, -1])[(asked.seeds - 1) // 2])
    arrays = _drawn(ground, found["plain"][drawn], found[kinds[-1]][drawn])
    data = balls(asked.points, seed_of("train", drawn))
    arrays |= {"points": data.x.view(-1, 2).numpy(), "labels": data.y.numpy()}
    return Made(
        values, arrays | {"sizes": np.array(asked.sizes), "loss_left": left, "drawn": np.array(drawn)}
    )


def balls(points: int, seed: int) -> Split:
    """Points of the two balls in turn, as images of one row of two pixels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(points) % 2
    at = torch.randn(points, 2, generator=generator) + (2 * labels - 1)[:, None] * CENTRE
    return Split(at.view(-1, 1, 1, 2), labels, torch.arange(points))


def network() -> nn.Module:
    """Two hidden layers with 200 ReLU nodes each (2.3)."""
    hidden = [nn.Linear(2, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(200, 2))


def loss_left(defense: Any, classifier: Classifier, data: Split) -> float:
    """The fingerprint loss over that of a network whose normalised logits never change."""
    _, dy = defense.secrets(tuple(data.x.shape[1:]), classifier.num_classes)
    still = torch.zeros(len(data), len(dy), classifier.num_classes)
    both = defense.training_loss(classifier, data.x, data.y)
    own = both - F.cross_entropy(classifier(data.x), data.y)
    return float(own / defense.alpha / defense.fingerprint_loss(still, dy, data.y))


def _defense(recipe: type[Recipe], asked: Balls, seed: int, size: float) -> Any:
    chosen = {"fingerprints": asked.fingerprints, "eps": size, "secret": seed_of("dx", seed) % 2**31}
    return recipe.from_params(TARGETS | chosen)


def _trained(defense: Any, asked: Balls, seed: int, tick: Callable[[float], None]) -> Classifier:
    data = balls(asked.points, seed_of("train", seed))
    loss = cross_entropy if defense is None else defense.training_loss
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("weights", seed))
        classifier = Classifier(network(), 2)
        return train(classifier, Splits(data, data, data), asked.training, loss, tick)


@torch.no_grad()
def _looked_at(classifier: Classifier, defense: Any, ground: _Ground) -> _Found:
    logits, side = classifier(ground.grid), len(ground.axis)
    correct = (classifier(ground.real.x).argmax(1) == ground.real.y).numpy()
    decision = (logits[:, 1] - logits[:, 0]).view(side, side).numpy()
    if defense is None:
        return _Found(correct, decision)
    detector = defense.detector(classifier, defense.fit(classifier, FitData(ground.real)))
    scores = [detector.score(x).numpy() for x in (ground.real.x, ground.outliers)]
    left = loss_left(defense, classifier, ground.real)
    return _Found(correct, decision, detector, left, *scores)


def _values(found: Sequence[_Found], ground: _Ground) -> dict[str, Value]:
    """What is told of networks that differ in their seeds."""
    values = {
        "accuracy": share(np.array([one.correct for one in found])),
        "nonlinear": mean(_nonlinear(found, ground), bounded=True),
        "regions": mean([regions(one.decision > 0) for one in found]),
    }
    if found[0].detector is None:
        return values
    taus = np.array([threshold(one.real, FALSE_ALARMS) for one in found])
    outlying = np.array([one.outlying[ground.far] for one in found])
    apart = np.arange(OUTLIERS) + HELD_OUT
    own = [influence(one.real, one.outlying, np.arange(HELD_OUT), apart) for one in found]
    span = over_seeds(np.array([o.value for o in own]), np.array([o.total for o in own]), n=HELD_OUT)
    return values | {
        "loss_left": mean([one.left for one in found]),
        "auroc": Value(value=float(np.mean([one.value for one in own])), **span._asdict()),
        "accepted_far": share(outlying <= taus[:, None], _moved(found, outlying)),
    }


def _moved(found: Sequence[_Found], outlying: Array) -> float:
    """Variance that the thresholds' own errors add to the share accepted, a mean over seeds."""

    def accepted(scores: Array) -> Callable[[Array], Array]:
        ordered = np.sort(scores)
        return lambda taus: np.searchsorted(ordered, taus, side="right") / len(ordered)

    pairs = zip(found, outlying, strict=True)
    return float(
        np.mean([threshold_variance(accepted(far), one.real, FALSE_ALARMS)[1] for one, far in pairs])
    )


def _nonlinear(found: Sequence[_Found], ground: _Ground) -> Array:
    return np.array([ground.lines.missed((one.decision > 0).ravel()) for one in found])


def _distances(x: Tensor) -> Array:
    """Of points to both centres, (P, 2)."""
    centres = torch.tensor([[-CENTRE, -CENTRE], [CENTRE, CENTRE]])
    return torch.cdist(x.view(-1, 2), centres).numpy()


def _ideal(ground: _Ground) -> Value:
    """AUROC of the density of the balls themselves."""
    real, outlying = (
        -np.logaddexp(*(-(_distances(x).T.astype(float) ** 2) / 2))
        for x in (ground.real.x, ground.outliers)
    )
    return auroc_of(real, outlying, np.arange(HELD_OUT), np.arange(OUTLIERS) + HELD_OUT)


@torch.no_grad()
def _drawn(ground: _Ground, plain: _Found, last: _Found) -> dict[str, Array]:
    """What the figures show."""
    assert last.detector is not None
    return {
        "axis": ground.axis,
        "decision_plain": plain.decision,
        "decision": last.decision,
        "loss": last.detector.score(ground.grid).numpy().reshape(last.decision.shape),
        "threshold": np.array(threshold(last.real, FALSE_ALARMS)),
        "directions": cast("Tensor", last.detector.dx).view(-1, 2).numpy(),
    }
