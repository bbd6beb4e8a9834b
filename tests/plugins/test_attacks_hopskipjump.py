"""HopSkipJump: known distances, Foolbox at equal queries, a detector in the way, and queries kept."""

import math
from functools import cache

import pytest
import torch
from attack_bench import digits, foolbox_model
from torch import nn

from nfbench.core.draws import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.guides import guides
from nfbench.testing import check_attack
from nfbench.testing.fixtures import linear_classifier, linear_images, optimum
from nfbench_attacks.hopskipjump import HopSkipJump, HopSkipJumpLinf, _Walk
from nfbench_datasets.digits import Digits

BOTH = pytest.mark.parametrize("kind", [HopSkipJump, HopSkipJumpLinf], ids=["l2", "linf"])


@cache
def looked_at(adaptive):
    b = digits()
    return guides(b.victim if adaptive else Victim(b.classifier), Digits().splits(None).train, 0)


def told(b, budget, *, queries=None, adaptive=False, starts=True, access=Access.DECISION):
    victim = b.victim if adaptive else Victim(b.classifier)
    known = looked_at(adaptive) if starts else None
    recorder = Recorder(victim, b.split.x, b.split.y, budget, access, queries=queries, guides=known)
    return OBJECTIVES["margin"](recorder, b.split.y, victim.alarm), recorder


def walked(b, kind, most, budget=None, **known):
    budget = budget or Budget(kind.norm, math.inf)
    objective, recorder = told(b, budget, **known)
    draws = Draws(0, b.split.index.tolist())
    return kind(queries=most).perturb(objective, b.split.x, budget, draws), recorder


@BOTH
def test_the_contract_is_kept(kind):
    check_attack(kind(queries=800))


@BOTH
def test_it_comes_near_the_smallest_perturbation_of_a_linear_classifier(kind):
    split, budget = linear_images(24), Budget(kind.norm, math.inf)
    recorder = Recorder(Victim(linear_classifier()), split.x, split.y, budget, Access.DECISION)
    objective = OBJECTIVES["margin"](recorder, split.y)
    images = kind(queries=3000).perturb(objective, split.x, budget, Draws(0, range(24)))
    ratio = budget.size(split.x, images) / optimum(split.x, split.y, kind.norm)
    assert ratio.min() > 0.999  # nothing lies nearer
    assert ratio.max() < (1.03 if kind.norm == "l2" else 1.15)


class Counted(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.rows = network, 0

    def forward(self, x):
        self.rows += len(x)
        return self.network(x)


@BOTH
@pytest.mark.parametrize("steps", [4, 12])
def test_at_equal_queries_it_comes_no_less_near_than_foolbox(kind, steps):
    from foolbox.attacks import HopSkipJumpAttack

    b, known = digits().take(60), looked_at(adaptive=False)
    x, y, budget = b.split.x, b.split.y, Budget(kind.norm, math.inf)
    far = torch.cdist(x.flatten(1), known.x.flatten(1)).masked_fill(known.y == y[:, None], math.inf)
    counted = Counted(b.classifier).eval()
    attack = HopSkipJumpAttack(steps=steps, constraint=kind.norm)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        starts = known.x[far.argmin(1)]
        theirs = attack.run(foolbox_model(counted), x, y, starting_points=starts)
    queries = counted.rows // len(x)
    ours, recorder = walked(b, kind, queries)
    assert recorder.forward.max() <= queries
    assert (b.classifier(ours).argmax(1) != y).all()
    assert budget.size(x, ours).median() <= 1.01 * budget.size(x, theirs).median()


@BOTH
@pytest.mark.parametrize("access", [Access.DECISION, Access.SCORES])
def test_where_the_detector_is_known_what_it_returns_is_accepted(kind, access):
    b = strict(digits().take(50))
    images, recorder = walked(b, kind, 1000, adaptive=True, access=access)
    seen = b.victim.observe(images)
    moved = (images != b.split.x).flatten(1).any(1)
    assert moved.float().mean() > 0.95
    assert (seen.logits.argmax(1) != b.split.y)[moved].all()
    assert (seen.score <= b.victim.alarm.threshold)[moved].all()
    if access is Access.DECISION:
        assert torch.equal(recorder.best[moved], images[moved])
    blind = b.victim.observe(walked(b, kind, 1000)[0])
    assert (blind.score > b.victim.alarm.threshold).float().mean() > 0.1  # it is in the way


def strict(b):
    """The same victim, whose alarm goes off for half of the clean images."""
    alarm = b.victim.alarm
    alarm = Alarm(alarm.median, alarm.median, alarm.unit)
    return type(b)(Victim(b.classifier, b.victim.detector, alarm), b.split)


@BOTH
@pytest.mark.parametrize("queries", [1, 2, 9, 40, 333])
@pytest.mark.parametrize("starts", [True, False])
def test_no_image_is_asked_about_more_often_than_granted(kind, queries, starts):
    b = digits().take(20)
    images, recorder = walked(b, kind, 5000, queries=queries, starts=starts)
    assert recorder.forward.max() <= queries
    moved = (images != b.split.x).flatten(1).any(1)
    assert (b.classifier(images).argmax(1) != b.split.y)[moved].all()
    assert moved.any() == (queries > 1)


@BOTH
def test_more_queries_never_come_less_near_and_mostly_nearer(kind):
    b, budget = digits().take(30), Budget(kind.norm, math.inf)
    sizes = [budget.size(b.split.x, walked(b, kind, n)[0]) for n in (300, 1200)]
    assert (sizes[1] < sizes[0]).float().mean() > 0.9


@BOTH
@pytest.mark.parametrize("adaptive", [False, True])
def test_given_a_ball_it_comes_inside_and_stops(kind, adaptive):
    b = digits()
    budget = Budget(kind.norm, {"l2": 0.6, "linf": 0.12}[kind.norm])
    images, recorder = walked(b, kind, 1500, budget, adaptive=adaptive)
    inside = recorder.finished
    assert 0.1 < inside.float().mean() < 0.95
    assert torch.equal((images != b.split.x).flatten(1).any(1), inside)
    assert budget.contains(b.split.x, images).all()
    seen = b.victim.observe(images[inside])
    assert (seen.logits.argmax(1) != b.split.y[inside]).all()
    assert not adaptive or (seen.score <= b.victim.alarm.threshold).all()
    assert recorder.forward[inside].float().mean() < 0.6 * recorder.forward[~inside].float().mean()


def test_where_nothing_evades_the_image_comes_back():
    split = linear_images(10)
    stubborn = linear_classifier()
    dict(stubborn.network.named_children())["head"].bias.copy_(torch.tensor([100.0, 0.0]))
    split = split.take(split.y == 0)
    recorder = Recorder(Victim(stubborn), split.x, split.y, Budget("l2", math.inf), Access.DECISION)
    objective = OBJECTIVES["margin"](recorder, split.y)
    draws = Draws(0, range(len(split)))
    images = HopSkipJump().perturb(objective, split.x, Budget("l2", math.inf), draws)
    assert torch.equal(images, split.x)
    assert recorder.forward.max() < 50  # and it gave up early


@BOTH
@pytest.mark.parametrize("adaptive", [False, True])
def test_alone_an_image_becomes_what_it_becomes_in_company(kind, adaptive):
    b = digits().take(13)
    together, recorder = walked(b, kind, 500, adaptive=adaptive)
    for row in (0, 6, 12):
        one = type(b)(b.victim, b.split.take(torch.tensor([row])))
        alone, single = walked(one, kind, 500, adaptive=adaptive)
        assert torch.equal(alone[0], together[row])
        assert single.forward[0] == recorder.forward[row]


@BOTH
def test_it_starts_from_the_nearest_guides_of_other_classes_in_order(kind):
    b, known = digits().take(15), looked_at(adaptive=False)
    budget = Budget(kind.norm, math.inf)
    objective, _ = told(b, budget)
    walk = _Walk(objective, b.split.x, budget, torch.full((15,), 1000))
    found = list(walk.openings(3))
    assert len(found) == 3
    for row in range(15):
        others = known.x[known.y != b.split.y[row]]
        far = budget.size(b.split.x[row].expand_as(others), others).sort().values
        for k, (points, rows) in enumerate(found):
            point = points[rows == row]
            assert budget.size(b.split.x[row][None], point)[0] == pytest.approx(far[k].item(), rel=1e-5)


def test_aiming_at_a_class_it_starts_from_guides_of_that_class_and_ends_in_it():
    b = digits().take(15)
    budget, targets = Budget("l2", math.inf), (b.split.y + 3) % 10
    objective, _ = told(b, budget)
    images = HopSkipJump(queries=400).perturb(
        objective.towards(targets), b.split.x, budget, Draws(0, range(15))
    )
    moved = (images != b.split.x).flatten(1).any(1)
    assert moved.float().mean() > 0.9
    assert torch.equal(b.classifier(images[moved]).argmax(1), targets[moved])


def on_the_border(planned):
    """A walk that has come to the border of a linear classifier, and what it takes for the slope."""
    split, budget = linear_images(24), Budget("l2", math.inf)
    recorder = Recorder(Victim(linear_classifier()), split.x, split.y, budget, Access.DECISION)
    objective = OBJECTIVES["margin"](recorder, split.y)
    walk = _Walk(objective, split.x, budget, torch.full((24,), 10**6))
    draws = Draws(0, range(24))
    walk.start(1, draws)
    x = split.x.clone().requires_grad_()
    logits = linear_classifier()(x)
    each = torch.arange(24)
    slope = torch.autograd.grad((logits[each, 1 - split.y] - logits[each, split.y]).sum(), x)[0]
    return walk, walk.direction(each, planned, draws), slope


@pytest.mark.parametrize("probes", [50, 400])
def test_the_direction_lies_as_close_to_the_slope_as_theory_says(probes):
    # The mean of sign(<g, u>) u over P unit vectors u in d dimensions, for large d.
    useful, pixels = probes * 2 / math.pi, 16
    expected = math.sqrt(useful / (useful + pixels - 1))
    _, direction, slope = on_the_border(probes)
    cosine = torch.cosine_similarity(direction.flatten(1), slope.flatten(1))
    assert cosine.mean().item() == pytest.approx(expected, abs=0.03)


def test_bisection_ends_on_the_wrong_side_as_near_the_border_as_it_promises():
    walk, _, slope = on_the_border(10)
    labels = walk.objective.labels
    logits = linear_classifier()(walk.at)
    each = torch.arange(24)
    margin = logits[each, 1 - labels] - logits[each, labels]
    assert (margin > 0).all()
    beyond = margin / slope.flatten(1).norm(dim=1)
    assert (beyond <= walk.distance * 2.0**-walk.halvings + 1e-6).all()
