"""SPSA: how good its estimate of a gradient is, what it asks for, and that it sees the detector."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, digits
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.draws import Draws
from nfbench.core.losses import Margin
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Victim
from nfbench_attacks import spsa
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


def weighted(name, gamma, b, budget):
    """Where one ascent of a weighted sum ends that gives the detector this weight."""
    objective, _ = b.objective(budget, ADAPTIVE, name)
    attack, draws = SPSA(steps=5, samples=16, learning_rate=0.05), Draws(0, b.split.index.tolist())
    return attack.climb(objective.with_gamma(gamma), b.split.x, budget, draws)


@pytest.mark.parametrize("name", ["paper", "lagrangian"])
def test_the_weight_of_the_detector_changes_the_path(name):
    b, budget = digits().take(12), Budget("linf", 0.2)
    one, again, other = (weighted(name, gamma, b, budget) for gamma in (0.1, 0.1, 10.0))
    assert torch.equal(one, again)
    assert (one != other).flatten(1).any(1).all()


def test_as_released_it_does_not_depend_on_the_weight_at_all():
    b, budget = digits().take(12), Budget("linf", 0.2)
    one, other = (weighted("released-code", gamma, b, budget) for gamma in (0.1, 1e4))
    assert torch.equal(one, other)


@pytest.fixture
def trials(monkeypatch):
    """Three ascents in place of a search of the weight, and what each was told."""
    told = []

    def over_gamma(objective, run, steps=6):
        for gamma in (0.1, 1.0, 10.0):
            told.append(objective.with_gamma(gamma))
            images = run(told[-1])
        return images

    monkeypatch.setattr(spsa, "over_gamma", over_gamma)
    return told


@pytest.mark.parametrize("name", ["paper", "released-code", "lagrangian"])
def test_the_weight_of_a_weighted_sum_is_searched(name, trials):
    b = digits().take(6)
    found = b.attack(SPSA(steps=2, samples=8), Budget("linf", 0.2), ADAPTIVE, name)
    assert [told.gamma for told in trials] == [0.1, 1.0, 10.0]
    assert found.recorder.forward.tolist() == [3 * 2 * (8 + 1)] * 6


@pytest.mark.parametrize("name", ["margin", "dual", "selective"])
def test_of_anything_else_there_is_one_ascent(name, trials):
    b = digits().take(6)
    found = b.attack(SPSA(steps=2, samples=8), Budget("linf", 0.2), ADAPTIVE, name)
    assert not trials
    assert found.recorder.forward.tolist() == [2 * (8 + 1)] * 6


def limited(b, budget, queries, name="margin"):
    recorder = Recorder(b.victim, b.split.x, b.split.y, budget, Access.SCORES, queries=queries)
    return OBJECTIVES[name](recorder, b.split.y, b.victim.alarm), recorder


@pytest.mark.parametrize("queries", [1, 16, 17, 18, 60])
def test_it_stops_before_the_queries_run_out(queries):
    b, budget = digits().take(8), Budget("linf", 0.2)
    objective, recorder = limited(b, budget, queries)
    images = SPSA(samples=16).perturb(objective, b.split.x, budget, Draws(0, range(8)))
    assert recorder.forward.tolist() == [(queries - 1) // 17 * 17] * 8
    assert budget.contains(b.split.x, images).all()


def test_a_search_of_the_weight_shares_the_queries(trials):
    b, budget = digits().take(8), Budget("linf", 0.2)
    objective, recorder = limited(b, budget, 6 * 40, "paper")
    SPSA(samples=16).perturb(objective, b.split.x, budget, Draws(0, range(8)))
    assert recorder.forward.tolist() == [3 * 2 * 17] * 8


def test_what_a_neighbour_has_used_up_is_its_own_affair():
    b, budget = digits().take(8), Budget("linf", 0.2)
    attack, results = SPSA(samples=16, learning_rate=0.05), []
    for used in (0, 50):
        objective, recorder = limited(b, budget, 100)
        for _ in range(used):
            objective.query(b.split.x[:1], torch.tensor([0]))
        results.append(attack.perturb(objective, b.split.x, budget, Draws(0, range(8))))
        assert recorder.forward.max() <= 100
    assert torch.equal(results[0][1:], results[1][1:])
    assert not torch.equal(results[0][0], results[1][0])


@pytest.mark.parametrize("name", ["margin", "paper"])
def test_every_ascent_begins_the_objective_anew(name, trials, monkeypatch):
    begun, kind = [], OBJECTIVES[name]
    monkeypatch.setattr(kind, "begin", lambda objective: begun.append(objective) or objective)
    b = digits().take(4)
    b.attack(SPSA(steps=1, samples=4), Budget("linf", 0.2), ADAPTIVE, name)
    assert len(begun) == (3 if name == "paper" else 1)


@pytest.mark.parametrize("name", ["paper", "released-code", "lagrangian"])
@pytest.mark.parametrize("queries", [1, 100, 700])
def test_the_search_of_the_weight_keeps_to_the_queries_too(name, queries):
    b, budget = digits().take(6), Budget("linf", 0.2)
    objective, recorder = limited(b, budget, queries, name)
    images = SPSA(samples=16, steps=8).perturb(objective, b.split.x, budget, Draws(0, range(6)))
    assert recorder.forward.max() <= queries
    assert budget.contains(b.split.x, images).all()
