"""SPSA: how good its estimate of a gradient is, what it asks for, and that it sees the detector."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, digits
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.draws import Draws
from nfbench.core.objectives import Margin
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Victim
from nfbench_attacks.spsa import PROBES, SPSA


class Linear:
    """A margin that is linear in the pixels, so that its gradient is known everywhere."""

    def __init__(self, shape, images):
        torch.manual_seed(1)
        size = math.prod(shape)
        layer = nn.Linear(size, 2).requires_grad_(False)
        classifier = Classifier(nn.Sequential(nn.Flatten(), layer), 2).eval()
        self.gradient = (layer.weight[1] - layer.weight[0]).view(shape)
        self.x, labels = torch.rand(images, *shape), torch.zeros(images, dtype=torch.int64)
        self.recorder = Recorder(Victim(classifier), self.x, labels, Budget("linf", 0.1), Access.SCORES)
        self.objective = Margin(self.recorder, labels)


@pytest.mark.parametrize(
    ("queries", "expected"), [(128, 0.275), (1024, 0.629), (4096, 0.851)], ids=["128", "1024", "4096"]
)
def test_the_estimate_lies_as_close_to_the_gradient_as_theory_says(queries, expected):
    case, pairs = Linear((1, 28, 28), 12), queries // 2
    assert math.sqrt(pairs / (pairs + 784 - 1)) == pytest.approx(expected, abs=1e-3)
    found = SPSA(samples=queries).estimate(case.objective, case.x, Draws(0, range(12)))
    cosine = torch.cosine_similarity(found.flatten(1), case.gradient.flatten()[None])
    assert cosine.mean().item() == pytest.approx(expected, abs=0.03)


def test_the_estimate_is_unbiased():
    case = Linear((1, 3, 3), 8)
    attack = SPSA(samples=2**14, delta=0.02)
    found = attack.estimate(case.objective, case.x, Draws(0, range(8))).mean(0) / attack.delta
    assert (found - case.gradient).norm() < 0.02 * case.gradient.norm()


def test_the_estimate_of_a_curved_objective_points_along_its_gradient():
    b = digits().take(24)
    objective, _ = b.objective(Budget("linf", 0.1), ADAPTIVE, "margin")
    exact = objective.gradient(b.split.x).flatten(1)
    found = SPSA(samples=2048, delta=1e-3).estimate(objective, b.split.x, Draws(0, range(24)))
    cosine = torch.cosine_similarity(found.flatten(1), exact)
    assert cosine.median().item() == pytest.approx(math.sqrt(1024 / (1024 + 63)), abs=0.05)


def test_only_values_are_asked_for():
    case = Linear((1, 5, 5), 3)
    images = SPSA(steps=20, samples=8).perturb(
        case.objective, case.x, Budget("linf", 0.1), Draws(0, range(3))
    )
    assert (case.objective.margin(images) > case.objective.margin(case.x)).all()
    assert case.recorder.backward.sum() == 0


@pytest.mark.parametrize(
    ("threat", "iterates"), [(STATIC, 0), (ADAPTIVE, 1)], ids=["static", "adaptive"]
)
def test_it_asks_samples_queries_a_step_and_shows_its_iterates_where_they_count(threat, iterates):
    b = digits().take(10)
    found = b.attack(SPSA(steps=7, samples=12), Budget("linf", 0.1), threat)
    assert found.recorder.forward.tolist() == [7 * (12 + iterates)] * 10


@pytest.mark.parametrize(
    ("threat", "iterates"), [(STATIC, 0), (ADAPTIVE, 1)], ids=["static", "adaptive"]
)
def test_probes_are_no_points_that_count(threat, iterates, monkeypatch):
    shown, real = [], Recorder._remember

    def remember(recorder, x, rows, seen):
        shown.append(x)
        real(recorder, x, rows, seen)

    monkeypatch.setattr(Recorder, "_remember", remember)
    b = digits().take(10)
    found = b.attack(SPSA(steps=3, samples=8), Budget("linf", 0.3), threat)
    assert [len(x) for x in shown] == 3 * iterates * [10]
    assert not iterates or torch.equal(shown[-1], found.images)


def test_the_detector_changes_the_path():
    b, budget = digits(), Budget("linf", 0.25)
    attack = SPSA(steps=12, samples=48, learning_rate=0.05)
    blind, seeing = b.attack(attack, budget), b.attack(attack, budget, ADAPTIVE)
    detector, label = b.victim.detector, b.split.y
    both = (b.classifier(blind.images).argmax(1) != label) & seeing.recorder.evasion_score.isfinite()
    assert both.float().mean() > 0.3
    lower = seeing.recorder.evasion_score[both] < detector.score(blind.images)[both]
    assert lower.float().mean() > 0.6


def test_uneven_chunks_of_probes_change_nothing(monkeypatch):
    b, budget = digits().take(11), Budget("linf", 0.1)
    whole = b.attack(SPSA(steps=2, samples=16), budget).images
    monkeypatch.setitem(PROBES, "cpu", 64)  # 4 images at once
    assert torch.equal(whole, b.attack(SPSA(steps=2, samples=16), budget).images)
