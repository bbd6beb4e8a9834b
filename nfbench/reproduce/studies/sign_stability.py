"""Does the sign of the expected responses decide how steadily NeuralFP trains? EPFL, II and figure 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Dataset, Training
from nfbench.core.draws import seed_of
from nfbench.core.model import Model
from nfbench.core.recipe import Count, Positive, Recipe
from nfbench.core.values import Images, Labels
from nfbench.records import Value
from nfbench.report.values import deviation
from nfbench.reproduce.studies.courses import averaged, decreased, steepest, steps_until
from nfbench.reproduce.studies.seeds import geometric_mean, mean, share
from nfbench.reproduce.study import Bench, Made, later
from nfbench.runner.networks import build_network
from nfbench.runner.train import train
from nfbench.stats.intervals import wilson

Array = NDArray[Any]

SIGNS, _LOSSES = ("given", "negated"), ("data", "fingerprint")
COMPARED = ("data_wait", "fingerprint_wait", "data_final", "fingerprint_final", "accuracy")
MOST = 0.9
"""Share of its decrease after which the fingerprint loss counts as converged."""
ONE = "one seed: no spread"
ON_ITS_WAY = 0.5
"""Share of the loss of a guess at which the data loss is no longer that of a guess."""


class Signs(Recipe):
    """All parameters of the study."""

    name = "sign-stability"
    paper = "https://openreview.net/forum?id=SJekyhCctQ"

    dataset: str = "mnist"
    model: str = "mnist-table8"
    """Its dropout, if it has any, is off."""
    batch_norm: bool = False
    """Keep the batch normalisation of the network; the report does not say whether theirs had any."""
    loss: Literal["mean", "sum"] = "sum"
    """Squared error summed over classes (paper, eq. 5) or averaged (released code)."""
    fingerprints: Count = 5
    size: Positive = 0.1
    """Largest pixel change of a fingerprint."""
    dx_range: Literal["pos", "sym"] = "pos"
    on: float = 0.75
    """Response of the image's own class, eq. (11); the other sign is its negative."""
    off: float = -0.25
    """Response of every other class."""
    seeds: Count = 3
    """Each has an order of images, initial weights and fingerprints of its own."""
    images: Count = 60_000
    """Training images, at most."""
    epochs: Count = 10
    batch_size: Count = 64
    learning_rate: Positive = 1e-3


class _Course(NamedTuple):
    """How one training went."""

    data: Array  # (steps,), cross-entropy
    fingerprint: Array  # (steps,)
    correct: Array  # (I,), test images without perturbation


def sign_stability(bench: Bench, **parameters: Any) -> Made:
    """Train with the responses (on, off) and with their negative, and watch both losses.

    Both losses are averaged over the latest 2 % of all steps. Values, over seeds with 95 % intervals,
    where SIGN is `given` or `negated`:

    - data_wait_SIGN: steps until the data loss is half of that of a guess, ln K; all steps, which is
      too few, where that never happens. never_SIGN: share of the seeds where it never does.
    - fingerprint_wait_SIGN: steps until the fingerprint loss has done 90 % of its decrease.
    - data_spread_SIGN, fingerprint_spread_SIGN: standard deviations over seeds of these steps.
    - data_final_SIGN, over the loss of a guess; fingerprint_final_SIGN, over that of a network whose
      normalised logits never change.
    - data_jump_SIGN, fingerprint_jump_SIGN: the fall within the steepest 5 % of the steps, over the
      same; 1 where a network learns all at once.
    - accuracy_SIGN: of test images without perturbation.

    and data_wait_more, fingerprint_wait_more, data_final_more, fingerprint_final_more and
    accuracy_more: given less negated, in pairs that have images, order, weights and dx in common; and
    data_wait_times, how many times as long the given ones wait, a geometric mean.

    Args:
        bench: `tick` is called after each training step.
        parameters: those of `Signs`.

    Returns:
        These values; the averaged losses `data_SIGN` and `fingerprint_SIGN`, (S, steps); `targets`
        (2, 2), on and off of each sign; `guess` () and `still` (), what these two losses are over;
        `batch_norm` (), whether there is any.

    Raises:
        UsageError: a parameter is unknown or out of range, or nothing is called so.
        DataMissing: the files of the data set are absent.
    """
    task = _Task(Signs.from_params(parameters), bench)
    seeds, found = task.asked.seeds, {sign: list[_Course]() for sign in SIGNS}
    for seed in range(seeds):
        for i, sign in enumerate(SIGNS):
            tick = later(bench.tick, 2 * seed + i, 2 * seeds)
            found[sign].append(task.trained(seed, sign, tick))
    arrays = {"targets": task.targets, "guess": task.guess, "still": task.still}
    arrays["batch_norm"] = np.array(task.asked.batch_norm)
    values: dict[str, Value] = {}
    measured = {}
    for sign, courses in found.items():
        losses = {name: np.stack([averaged(getattr(c, name)) for c in courses]) for name in _LOSSES}
        arrays |= {f"{name}_{sign}": loss for name, loss in losses.items()}
        measured[sign] = _measured(losses, float(task.guess), float(task.still))
        measured[sign]["accuracy"] = np.array([course.correct.mean() for course in courses])
        told = _told(measured[sign], np.array([course.correct for course in courses]))
        values |= {f"{name}_{sign}": value for name, value in told.items()}
    return Made(values | _compared(measured["given"], measured["negated"]), arrays)


class _Watch:
    """The loss of a defense, with both of its parts written down."""

    def __init__(self, defense: Any) -> None:
        self.defense = defense
        self.data: list[float] = []
        self.fingerprint: list[float] = []

    def __call__(self, classifier: Classifier, x: Images, y: Labels) -> Tensor:
        seen: list[Tensor] = []
        handle = classifier.register_forward_hook(lambda _net, _inputs, logits: seen.append(logits))
        try:
            both: Tensor = self.defense.training_loss(classifier, x, y)
        finally:
            handle.remove()
        data = F.cross_entropy(seen[0][: len(x)].detach(), y)  # the images themselves go first
        self.data.append(float(data))
        self.fingerprint.append(float(both.detach() - data) / self.defense.alpha)
        return both


class _Task:
    """The data, and how networks are trained on them."""

    def __init__(self, asked: Signs, bench: Bench) -> None:
        data = bench.registry.find("dataset", asked.dataset).load().from_params({})
        model = bench.registry.find("model", asked.model).load()
        assert isinstance(data, Dataset)
        bare = {"dropout": 0.0} if "dropout" in model.model_fields else {}
        self.model = cast("Model", model.from_params(bare))
        self.asked, self.splits = asked, data.splits(bench.data_dir)
        self.facts = data.describe(bench.data_dir)
        self.recipe = bench.registry.find("defense", "neuralfp").load()

    @property
    def targets(self) -> Array:
        one = np.array([self.asked.on, self.asked.off])
        return np.stack([one, -one])

    @property
    def guess(self) -> Array:
        """The data loss of a network that finds all classes equally likely."""
        return np.array(math.log(self.facts.num_classes))

    @property
    def still(self) -> Array:
        """The fingerprint loss of a network whose normalised logits never change; of either sign."""
        defense, classes = self.defense(0, "given"), self.facts.num_classes
        _, dy = defense.secrets(self.facts.shape, classes)
        unmoved = torch.zeros(1, len(dy), classes)
        return np.array(float(defense.fingerprint_loss(unmoved, dy, torch.zeros(1, dtype=torch.int64))))

    def defense(self, seed: int, sign: str) -> Any:
        asked, (on, off) = self.asked, self.targets[SIGNS.index(sign)].tolist()
        chosen = {"fingerprints": asked.fingerprints, "eps": asked.size, "dx_range": asked.dx_range}
        secret = seed_of("dx", seed) % 2**31
        return self.recipe.from_params(
            {
                **chosen,
                "preset": "epfl",
                "loss": asked.loss,
                "dy_on": on,
                "dy_off": off,
                "secret": secret,
            }
        )

    def trained(self, seed: int, sign: str, tick: Callable[[float], None]) -> _Course:
        """One training; what is drawn at random is the same for both signs."""
        kept = ("images", "epochs", "batch_size", "learning_rate")
        training = Training(**{name: getattr(self.asked, name) for name in kept})
        watch, test = _Watch(self.defense(seed, sign)), self.splits.test
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("weights", seed))
            network = build_network(self._network, self.facts, self.asked.model)
            classifier = Classifier(network, self.facts.num_classes)
            train(classifier, self.splits, training, watch, tick)
        with torch.no_grad():
            correct = (classifier(test.x).argmax(1) == test.y).numpy()
        return _Course(np.array(watch.data), np.array(watch.fingerprint), correct)

    def _network(self) -> nn.Module:
        network = self.model.build(self.facts.shape, self.facts.num_classes)
        if not self.asked.batch_norm:
            without_norm(network)
        return network


def without_norm(network: nn.Module) -> None:
    """Take every batch normalisation out of a network."""
    for name, part in network.named_children():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(network, name, nn.Identity())
        else:
            without_norm(part)


def _measured(losses: Mapping[str, Array], guess: float, still: float) -> dict[str, Array]:
    """One number a seed of everything, (S,)."""
    data, fingerprint = (losses[name] for name in _LOSSES)
    wait = steps_until(data, ON_ITS_WAY * guess)
    return {
        "never": np.isinf(wait),
        "data_wait": np.minimum(wait, data.shape[1]),
        "fingerprint_wait": steps_until(decreased(fingerprint), 1 - MOST),
        "data_jump": steepest(data) / guess,
        "fingerprint_jump": steepest(fingerprint) / still,
        "data_final": data[:, -1] / guess,
        "fingerprint_final": fingerprint[:, -1] / still,
    }


def _told(measured: Mapping[str, Array], correct: Array) -> dict[str, Value]:
    """Of one sign, over seeds."""
    never, seeds = int(measured["never"].sum()), len(correct)
    late = f"{never} of {seeds} seeds did not get there in all steps" if never else ""
    return {
        "never": Value(value=never / seeds, **wilson(never, seeds)._asdict()),
        "data_wait": mean(measured["data_wait"], flag=late),
        "fingerprint_wait": mean(measured["fingerprint_wait"]),
        "data_spread": Value(value=None, flag=late) if never else deviation(measured["data_wait"], ONE),
        "fingerprint_spread": deviation(measured["fingerprint_wait"], ONE),
        "data_jump": mean(measured["data_jump"]),
        "fingerprint_jump": mean(measured["fingerprint_jump"]),
        "data_final": mean(measured["data_final"]),
        "fingerprint_final": mean(measured["fingerprint_final"]),
        "accuracy": share(correct),
    }


def _compared(given: Mapping[str, Array], negated: Mapping[str, Array]) -> dict[str, Value]:
    """Given less negated, in pairs; a seed that never gets there waits for all steps or longer."""
    found = {f"{name}_more": mean(given[name] - negated[name]) for name in COMPARED}
    if negated["never"].any():
        late = "the negated responses did not get there in all steps either"
        return found | dict.fromkeys(("data_wait_more", "data_wait_times"), Value(value=None, flag=late))
    waits, flag = (given["data_wait"], negated["data_wait"]), "or more" if given["never"].any() else ""
    found["data_wait_more"] = mean(waits[0] - waits[1], flag=flag)
    return found | {"data_wait_times": geometric_mean(waits[0] / waits[1], flag=flag)}
