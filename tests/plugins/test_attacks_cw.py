"""CW: what Foolbox minimises, against a loop written out; failures, targets and given balls."""

import math

import eagerpy as ep
import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, differing, digits
from foolbox.attacks import carlini_wagner

from nfbench import OBJECTIVES, Alarm, Detector, Recorder, Victim
from nfbench.core.draws import Draws
from nfbench.core.values import Budget, norm
from nfbench.runner.attacking import Attempt, craft
from nfbench.testing.fixtures import linear_classifier, linear_images
from nfbench_attacks.cw import CarliniWagner
from nfbench_attacks.targets import aim
from nfbench_datasets.digits import Digits

ANYWHERE = Budget("l2", math.inf)
WAYS = pytest.mark.parametrize(
    ("threat", "target"),
    [(STATIC, "untargeted"), (STATIC, "auto"), (ADAPTIVE, "untargeted"), (ADAPTIVE, "auto")],
    ids=["static-untargeted", "static-random", "adaptive-untargeted", "adaptive-runner-up"],
)


def margin_of(b, x, threat, targets=None):
    """The evasion margin of each image, term by term."""
    rows, classes = torch.arange(len(x)), b.split.y if targets is None else targets
    logits = b.classifier(x)
    others = logits.masked_fill(torch.eye(10, dtype=torch.bool)[classes], -torch.inf).amax(1)
    fooled = (others - logits[rows, classes]) * (1 if targets is None else -1)
    if not threat.adaptive:
        return fooled
    seen = b.victim.detector.observe(x)
    term = seen.score if targets is None else seen.penalties[rows, targets]
    hidden = (b.victim.alarm.threshold - term) / b.victim.alarm.unit
    return torch.where(fooled > 0, torch.minimum(fooled, hidden), fooled + hidden.clamp_max(0))


def targets_of(b, threat, target):
    """The classes an attack with seed 0 aims at; None if untargeted."""
    objective, _ = b.objective(ANYWHERE, threat, "margin")
    return aim(objective, b.split.x, Draws(0, b.split.index.tolist()), target).targets


def hinge(b, x, threat, targets, kappa):
    return (kappa - margin_of(b, x, threat, targets)).clamp_min(0)


@WAYS
def test_foolbox_descends_the_distance_plus_c_times_the_hinge(threat, target, monkeypatch):
    b = digits().take(24)
    seen, real = [], ep.value_and_grad_fn

    def spying(x, loss, **options):
        function = real(x, loss, **options)

        def call(delta, consts):
            result = function(delta, consts)
            seen.append([t.raw.clone() for t in (delta, consts, result[-1])])
            return result

        return call

    monkeypatch.setattr(carlini_wagner.ep, "value_and_grad_fn", spying)
    attack = CarliniWagner(
        binary_search_steps=2, steps=20, learning_rate=0.05, initial_const=0.5, kappa=0.3, target=target
    )
    b.attack(attack, ANYWHERE, threat)
    targets, double = targets_of(b, threat, target), b.double()
    flat = (0.999999 * (2 * b.split.x - 1)).atanh().double()
    errors = []
    for delta, consts, gradient in seen:
        at = delta.double().requires_grad_()
        x = ((flat + at).tanh() + 1) / 2
        distance = (x - (flat.tanh() + 1) / 2).square().flatten(1).sum(1)
        wanted = (distance + consts * hinge(double, x, threat, targets, 0.3)).sum()
        wanted = torch.autograd.grad(wanted, at)[0].flatten(1)
        errors.append((gradient.flatten(1) - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-9))
    assert len(seen) == 40
    assert torch.stack(errors).median() <= 1e-5


def plain_cw(b, threat, targets, attack):
    """Carlini & Wagner's attack on `hinge` for each image: Adam in tanh space, c by bisection."""
    x, count = b.split.x, len(b.split.x)
    start = (0.999999 * (2 * x - 1)).atanh()
    low, high = torch.zeros(count), torch.full((count,), torch.inf)
    c, best, size = (
        torch.full((count,), attack.initial_const),
        x.clone(),
        torch.full((count,), torch.inf),
    )
    for _ in range(attack.binary_search_steps):
        w = start.clone().requires_grad_()
        adam = torch.optim.Adam([w], lr=attack.learning_rate)
        found = torch.zeros(count, dtype=torch.bool)
        for _ in range(attack.steps):
            moved = (w.tanh() + 1) / 2
            penalty = hinge(b, moved, threat, targets, attack.kappa)
            squared = (moved - (start.tanh() + 1) / 2).square().flatten(1).sum(1)
            w.grad = torch.autograd.grad((squared + c * penalty).sum(), w)[0]
            adam.step()
            length = norm(moved.detach() - x, "l2")
            found |= penalty <= 0
            better = (penalty <= 0) & (length < size)
            best[better], size[better] = moved.detach()[better], length[better]
        high, low = torch.where(found, c, high), torch.where(found, low, c)
        c = torch.where(high.isinf(), 10 * c, (low + high) / 2)
    return best


@WAYS
def test_the_images_are_those_of_the_attack_written_out(threat, target):
    b = digits().take(32)
    attack = CarliniWagner(
        binary_search_steps=4, steps=60, learning_rate=0.04, initial_const=1.0, target=target
    )
    expected = plain_cw(b, threat, targets_of(b, threat, target), attack)
    ours = b.attack(attack, ANYWHERE, threat).images
    assert (expected != b.split.x).flatten(1).any(1).float().mean() > 0.5
    assert (ours - expected).abs().amax() < 1e-3


@pytest.mark.parametrize("threat", [STATIC, ADAPTIVE], ids=["static", "adaptive"])
def test_failures_come_back_as_they_were_not_black(threat):
    b = digits().take(20)
    hopeless = CarliniWagner(binary_search_steps=2, steps=10, kappa=1e6)
    assert differing(b.attack(hopeless, ANYWHERE, threat).images, b.split.x) == 0
    brief = CarliniWagner(binary_search_steps=1, steps=40, learning_rate=0.02, initial_const=1.0)
    images = b.attack(brief, ANYWHERE, threat).images
    failed = (images == b.split.x).flatten(1).all(1)
    assert 0 < int(failed.sum()) < 20
    assert (images.flatten(1).amax(1) > 0.2).all()


def test_what_comes_back_reaches_the_target_by_kappa():
    b = digits()
    attack = CarliniWagner(
        binary_search_steps=3, steps=60, learning_rate=0.05, initial_const=1.0, kappa=2.0
    )
    images = b.attack(attack, ANYWHERE).images
    moved = (images != b.split.x).flatten(1).any(1)
    targets = targets_of(b, STATIC, "random")
    assert moved.float().mean() > 0.5
    assert torch.equal(b.classifier(images).argmax(1)[moved], targets[moved])
    assert (margin_of(b, images, STATIC, targets)[moved] >= 2.0 - 1e-4).all()


def test_random_targets_are_wrong_classes_each_as_often_as_the_next():
    b = digits()
    objective, _ = b.objective(ANYWHERE)
    counts = torch.zeros(10, 10)
    for seed in range(150):
        aimed = aim(objective, b.split.x, Draws(seed, b.split.index.tolist()), "auto")
        counts.index_put_((b.split.y, aimed.targets), torch.ones(len(b.split)), accumulate=True)
    assert counts.diagonal().sum() == 0
    expected = counts.sum(1, keepdim=True) / 9
    chi_square = ((counts - expected).square() / expected).fill_diagonal_(0).sum()
    assert chi_square < 80 + 5 * math.sqrt(2 * 80)  # 10 x 8 degrees of freedom


def test_the_target_is_the_runner_up_where_the_detector_is_known():
    b = digits()
    order = b.classifier(b.split.x).argsort(1, descending=True)
    assert torch.equal(order[:, 0], b.split.y)
    assert torch.equal(targets_of(b, ADAPTIVE, "auto"), order[:, 1])
    assert torch.equal(targets_of(b, STATIC, "runner-up"), order[:, 1])
    assert not torch.equal(targets_of(b, STATIC, "auto"), order[:, 1])


@pytest.mark.parametrize("threat", [STATIC, ADAPTIVE], ids=["static", "adaptive"])
def test_a_given_ball_is_kept(threat):
    b, budget = digits().take(40), Budget("l2", 0.9)
    attack = CarliniWagner(binary_search_steps=3, steps=60, learning_rate=0.05, initial_const=1.0)
    free = b.attack(attack, ANYWHERE, threat)
    bound = b.attack(attack, budget, threat)
    size = norm(free.images - b.split.x, "l2")
    kept = size <= 0.9
    assert int((size > 0).logical_and(~kept).sum()) > 0
    assert int((size > 0).logical_and(kept).sum()) > 0
    assert budget.contains(b.split.x, bound.images).all()
    assert torch.equal(bound.images[kept], free.images[kept])
    assert torch.equal(bound.images[~kept], b.split.x[~kept])
    assert budget.contains(b.split.x, bound.recorder.best).all()


class Border(Detector):
    """Images near the border between the two classes are very suspicious."""

    def score(self, x):
        logits = self.classifier(x)
        return (-((logits[:, 0] - logits[:, 1]) / 0.2).square()).exp() + x.flatten(1).mean(1)


def test_a_detector_that_guards_the_border_does_not_stop_it():
    classifier, split = linear_classifier(), linear_images(30)
    detector = Border(classifier)
    alarm = Alarm.calibrated(detector.score(linear_images(400, seed=1).x))
    attack = CarliniWagner(
        binary_search_steps=4, steps=100, learning_rate=0.05, initial_const=0.1, target="untargeted"
    )
    fooled = {}
    for name in attack.adaptive_objectives:
        attempt = Attempt(attack, ADAPTIVE, name, ANYWHERE, 0)
        images = craft(attempt, Victim(classifier, detector, alarm), split).vectors["images"]
        accepted = detector.score(images) <= alarm.threshold
        fooled[name] = float(((classifier(images).argmax(1) != split.y) & accepted).float().mean())
    assert fooled["selective"] == 1
    assert fooled["margin"] < 0.7  # the term of the detector pushes it back


def test_what_it_climbs_may_be_the_likeness_to_guides():
    b = digits().take(24)
    train = Digits().splits(None).train.take(torch.arange(300))
    with torch.no_grad():
        seen = b.victim.detector.observe(train.x)
    good = (seen.logits.argmax(1) == train.y) & (seen.score <= b.victim.alarm.threshold)
    recorder = Recorder(b.victim, b.split.x, b.split.y, ANYWHERE, guides=train.take(good))
    objective = OBJECTIVES["matching"](recorder, b.split.y, b.victim.alarm)
    attack = CarliniWagner(
        binary_search_steps=5, steps=80, learning_rate=0.05, initial_const=10.0, target="untargeted"
    )
    images = attack.perturb(objective, b.split.x, ANYWHERE, Draws(0, b.split.index.tolist()))
    seen = b.victim.detector.observe(images)
    evaded = (seen.logits.argmax(1) != b.split.y) & (seen.score <= b.victim.alarm.threshold)
    assert evaded.float().mean() > 0.9
