"""What `check_defense` demands of a score, and each mistake that it refuses."""

import pytest
import torch
from planted import Good, GoodDetector

from nfbench import Observation
from nfbench.testing import check_defense


def defense_that_scores(name, formula, **declared):
    """A defense whose detector has another `score`."""

    def score(self, x):
        return formula(x.flatten(1).mean(1) - self.mean)

    detector = type("Planted", (GoodDetector,), {"score": score, **declared})
    made = type("Planted", (Good,), {"name": name, "__doc__": "Planted."})
    made.detector = lambda self, classifier, state: detector(classifier, state["mean"])
    return made()


class Constant(torch.autograd.Function):
    """A step with a hand-made gradient."""

    @staticmethod
    def forward(ctx, s):
        return (s > 0).float()

    @staticmethod
    def backward(ctx, g):
        return g


def test_a_good_defense_passes():
    check_defense(Good())


def test_a_threshold_with_a_gradient_written_down_passes():
    check_defense(defense_that_scores("bpda", Constant.apply))


SCORES = {
    "detached": (lambda s: s.detach(), "cut off from the image"),
    "thresholded": (lambda s: (s > 0).float(), "cut off from the image"),
    "saturated": (lambda s: torch.sigmoid(1e9 * s), "has no gradient on"),
    "root": (lambda s: (s - s).abs().sqrt(), "gradient of the score is NaN"),
    "wrong-shape": (lambda s: s[:, None], "one number an image"),
    "reduced": (lambda s: s.mean(), "one number an image"),
    "whole-numbers": (lambda s: (100 * s).long(), "floating point"),
    "nan": (lambda s: torch.where(s > s.median(), torch.nan, s), "NaN or infinite"),
    "batch-mean": (lambda s: s - s.mean(), "scored alone"),
    "batch-norm": (lambda s: s / s.norm(), "scored alone"),
    "ranked": (lambda s: s + 0.1 * torch.arange(len(s)), "scored alone"),
    "noisy": (lambda s: s + 0.1 * torch.randn(len(s)), "another number each time"),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_bad_score_is_refused(refused, name):
    formula, cause = SCORES[name]
    refused(check_defense, defense_that_scores(name, formula), cause)


@pytest.mark.parametrize(
    ("name", "declared"), [("thresholded", "differentiable"), ("noisy", "stochastic")]
)
def test_what_is_declared_is_not_held_against_a_defense(name, declared):
    formula, _ = SCORES[name]
    value = declared == "stochastic"
    defense = defense_that_scores(name, formula, **{declared: value})
    type(defense).gradient = "exact" if value else "none"
    check_defense(defense)


def observing(name, change):
    """A defense whose `observe` says something else than it should."""

    class Planted(GoodDetector):
        def observe(self, x):
            return change(super().observe(x))

    made = type("Planted", (Good,), {"name": name, "__doc__": "Planted."})
    made.detector = lambda self, classifier, state: Planted(classifier, state["mean"])
    return made()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda o: o._replace(logits=o.logits.softmax(1)), "logits of observe"),
        (lambda o: o._replace(score=o.score + 1), "observe and score disagree"),
        (lambda o: o._replace(penalties=o.score), r"penalties must be \(B, K\)"),
        (lambda o: o._replace(penalties=o.penalties - 1), "below the score"),
        (lambda o: Observation(o.logits), "must fill score and penalties"),
    ],
)
def test_a_bad_observation_is_refused(refused, change, cause):
    refused(check_defense, observing("observing", change), cause)


class Greedy(GoodDetector):
    def score(self, x):
        rows = self.classifier(torch.cat([x, x + 0.1, x - 0.1]))
        return rows.view(3, len(x), -1).std(0).sum(1)


class Uncounted(Good):
    """Planted."""

    name = "uncounted"

    def detector(self, classifier, state):
        return Greedy(classifier, state["mean"])


def test_a_detector_that_hides_how_many_rows_it_needs_is_refused(refused):
    refused(check_defense, Uncounted(), "144 rows for 48 images and declares rows_per_image = 1")


class Unflattened(GoodDetector):
    def features(self, x):
        return x


class Features(Good):
    """Planted."""

    name = "features"

    def detector(self, classifier, state):
        return Unflattened(classifier, state["mean"])


def test_features_that_are_no_rows_are_refused(refused):
    refused(check_defense, Features(), r"features must be \(B, D\) or None, got \(48, 1, 4, 4\)")
