"""Auto-PGD against the algorithm of its paper, written out for one image, and against ART's."""

import math
from types import SimpleNamespace

import art.attacks.evasion.auto_projected_gradient_descent as art_apgd
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_bench import ADAPTIVE, STATIC, art_classifier, digits

from nfbench import Draws, UsageError
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
from nfbench.core.victim import Victim
from nfbench.testing.fixtures import linear_classifier, linear_images
from nfbench_attacks.apgd import APGD, APGDL2, _Best, _Problem, _View, checkpoints

LINF, L2 = Budget("linf", 0.1), Budget("l2", 0.6)
NORMS = pytest.mark.parametrize(("kind", "budget"), [(APGD, LINF), (APGDL2, L2)], ids=["linf", "l2"])


def watched(b, attack, budget, threat=STATIC, name="cross-entropy"):
    """What an attack returns, its recorder, and all it asked about with the rows it asked for."""
    objective, recorder = b.objective(budget, threat, name)
    query, asked = recorder.query, []

    def listening(x, rows=None, **options):
        asked.append((x.detach().clone(), rows))
        return query(x, rows, **options)

    recorder.query = listening
    return (
        attack.perturb(objective, b.split.x, budget, Draws(0, b.split.index.tolist())),
        recorder,
        asked,
    )


def wrong(b, x):
    return b.classifier(x).argmax(1) != b.split.y


def losses(b, x):
    return F.cross_entropy(b.classifier(x), b.split.y, reduction="none")


def runner_up(b):
    return b.classifier(b.split.x).scatter(1, b.split.y[:, None], -torch.inf).argmax(1)


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [3, 5, 6, 7, 8, 9, 10, 10]
    assert checkpoints(1) == [1] * 8


def moved(value, x, here, eta, budget):
    """A step from `here` up the gradient, back in the ball around `x` and the box."""
    z = here.clone().requires_grad_()
    gradient = torch.autograd.grad(value(z), z)[0]
    unit = gradient.sign() if budget.norm == "linf" else gradient / gradient.norm()
    return projected(x, here + eta * unit, budget)


def projected(x, z, budget):
    delta = z - x
    if budget.norm == "linf":
        return (x + delta.clamp(-budget.eps, budget.eps)).clamp(0, 1)
    return (x + delta * min(1.0, budget.eps / float(delta.norm()))).clamp(0, 1)


def algorithm_1(value, x, budget, steps):
    """Iterates, step lengths and best point of one image (1, C, H, W), as Croce & Hein print it."""
    w = [0, *(math.ceil(p * steps) for p in (0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93, 0.99))]
    points, lengths, best, previous = [x], [2 * budget.eps], x, x
    at_marks, rises = [(2 * budget.eps, float(value(x)))], 0
    for k in range(1, steps + 1):
        here, eta = points[-1], lengths[-1]
        z = moved(value, x, here, eta, budget)
        if k > 1:
            z = projected(x, here + 0.75 * (z - here) + 0.25 * (here - previous), budget)
        previous = here
        rises += float(value(z)) > float(value(here))
        best = z if float(value(z)) > float(value(best)) else best
        if k in w:
            j = w.index(k)
            now = eta, float(value(best))
            if rises < 0.75 * (w[j] - w[j - 1]) or now == at_marks[-1]:
                z, eta = best, eta / 2
            rises = 0
            at_marks.append(now)
        points.append(z)
        lengths.append(eta)
    return points, lengths, best


@NORMS
def test_it_is_the_algorithm_of_the_paper_image_by_image(kind, budget):
    b = digits().double().take(25)
    images, _, asked = watched(b, kind(steps=50, starts="image"), budget)
    assert len(asked) == 51
    halvings = set()
    for row in range(25):
        x, y = b.split.x[row : row + 1], b.split.y[row : row + 1]
        loss = lambda z, y=y: F.cross_entropy(b.classifier(z), y)  # noqa: E731
        points, lengths, best = algorithm_1(loss, x, budget, 50)
        halvings.add(round(math.log2(lengths[0] / lengths[-1])))
        marks = {0, *checkpoints(50)}
        for k in range(51):
            if k not in marks:  # there the written one has moved on to its best point already
                assert (points[k] - asked[k][0][row]).abs().max() < 1e-9, (row, k)
        if wrong(b, images)[row]:
            assert (images[row] - best).abs().max() < 1e-9
    assert len(halvings) > 1


class Scripted:
    """Values seen on a line without walls, whatever is done; remembers where it was asked."""

    budget = SimpleNamespace(eps=1.0, norm="linf", project=lambda x, z: z)
    x = torch.zeros(1, 1, 1, 1)

    def __init__(self, values):
        self.values, self.places = iter(values), []

    def look(self, at, kept):
        self.places.append(float(at))
        return _View(torch.ones(1, 1, 1, 1), torch.tensor([next(self.values)]), torch.zeros(1).bool())

    def length(self, k):
        """Length of the step that led to point k, from it and its two predecessors."""
        before, at, after = self.places[k - 2 : k + 1]
        return (after - at - 0.25 * (at - before)) / 0.75


FALLS, RISES = range(0, -23, -1), [0, *range(-50, -28)]
"""Values up to the first checkpoint; in both the first is the best, so that 2 eps is halved."""


@pytest.mark.parametrize(
    ("first", "second", "then"),
    [
        (FALLS, range(-90, -71), 1.0),  # just halved, a step gets its time though nothing is better
        (RISES, range(-50, -69, -1), 0.5),
        (RISES, [*range(-90, -95, -1), *range(-80, -66)], 0.5),  # 14 of 19 rise
        (FALLS, [*range(-90, -94, -1), *range(-80, -65)], 1.0),  # 15 of 19 rise
    ],
)
def test_a_step_is_halved_that_rarely_helps_or_that_found_nothing_better(first, second, then):
    problem = Scripted([float(value) for value in (*first, *second, *[-100] * 59)])
    APGD(steps=100).climb(problem, problem.x, None)
    assert [problem.length(k) for k in (20, 30, 50)] == pytest.approx([2.0, 1.0, then])


def of_art(b, budget, steps, monkeypatch):
    """ART's iterates from the images themselves, (steps, B, C, H, W), and what it returns."""
    seen = []
    classifier = art_classifier(b.classifier, b.split.x)
    gradient, norm = classifier.loss_gradient, np.inf if budget.norm == "linf" else 2

    def listening(x, y, **options):
        seen.append(torch.from_numpy(x.copy()))
        return gradient(x, y, **options)

    classifier.loss_gradient = listening
    monkeypatch.setattr(art_apgd, "random_sphere", lambda n, m, *_: np.zeros((n, m)))
    attack = art_apgd.AutoProjectedGradientDescent(
        classifier, norm, budget.eps, 2 * budget.eps, steps, False, 1, len(b.split), verbose=False
    )
    returned = torch.from_numpy(attack.generate(b.split.x.numpy(), b.split.y.numpy()))
    return torch.stack(seen), returned


def test_up_to_the_first_halving_its_iterates_are_arts(monkeypatch):
    b = digits().take(60)
    theirs, _ = of_art(b, LINF, 40, monkeypatch)
    _, _, asked = watched(b, APGD(steps=40, starts="image"), LINF)
    ours = torch.stack([x for x, _ in asked])
    first, near = checkpoints(40)[0], (ours[:40] - theirs).abs().flatten(2).amax(2) < 1e-5  # (40, B)
    # A gradient near 0 may differ in sign between two orders of summation.
    assert near[: first + 1].all(0).float().mean() > 0.9
    assert (theirs[first] - b.split.x).abs().amax() > 0.9 * LINF.eps


@NORMS
def test_it_finds_larger_losses_than_art(kind, budget, monkeypatch):
    b = digits()
    theirs, returned = of_art(b, budget, 40, monkeypatch)
    images, _, _ = watched(b, kind(steps=40, starts="image"), budget)
    assert budget.contains(b.split.x, images).all()
    assert 0.2 < float(wrong(b, images).float().mean()) < 0.95
    assert wrong(b, images).sum() > wrong(b, returned).sum()
    highest = torch.stack([losses(b, x) for x in theirs]).amax(0)
    assert (losses(b, images) - highest).mean() > -0.01 * highest.mean()
    assert (losses(b, images) >= 0.95 * highest).float().mean() > 0.9
    assert losses(b, images).mean() > losses(b, returned).mean()


@NORMS
def test_it_returns_the_misclassified_point_of_largest_loss_or_else_that_of_largest(kind, budget):
    b = digits()
    images, _, asked = watched(b, kind(steps=30), budget)
    value = torch.stack([losses(b, x) for x, _ in asked])
    hit = torch.stack([wrong(b, x) for x, _ in asked])
    best = value.masked_fill(~hit & hit.any(0), -torch.inf).amax(0)
    assert torch.allclose(losses(b, images), best, rtol=1e-4, atol=1e-6)
    assert torch.equal(wrong(b, images), hit.any(0))
    assert {True, False} == set(hit.any(0).tolist())


def test_further_runs_are_for_the_images_that_held():
    b, tight = digits().take(60), Budget("linf", 0.05)
    once, _, _ = watched(b, APGD(steps=10), tight)
    twice, _, asked = watched(b, APGD(steps=10, restarts=2), tight)
    held = ~wrong(b, once)
    assert torch.equal(twice[~held], once[~held])
    assert [len(x) for x, _ in asked] == [60] * 11 + [int(held.sum())] * 11
    assert torch.equal(asked[-1][1], held.nonzero()[:, 0])
    assert not torch.equal(asked[11][0], asked[0][0][held])


def test_each_class_is_aimed_at_from_the_likeliest_on():
    b, budget = digits().double(), Budget("linf", 0.12)
    plain, _, _ = watched(b, APGD(steps=20), budget)
    aimed, _, asked = watched(b, APGD(steps=20, targets=3), budget)
    assert wrong(b, aimed).sum() > wrong(b, plain).sum() + 2
    assert (~wrong(b, plain) | wrong(b, aimed)).all()
    # Between its first two points the likeliest wrong class gains, for images that still held.
    (start, rows), (moved, _) = asked[22:24]
    assert torch.equal(rows, (~wrong(b, plain)).nonzero()[:, 0])
    target = runner_up(b)[rows, None]
    sure = [b.classifier(x).log_softmax(1).gather(1, target) for x in (start, moved)]
    assert (sure[1] > sure[0]).float().mean() > 0.9


def test_aiming_at_a_class_any_wrong_one_is_a_success():
    b = digits().take(30)
    fooling = b.attack(APGD(), Budget("linf", 0.3)).images
    found = b.classifier(fooling).argmax(1)
    assert (found != b.split.y).all()
    aside = ((found + 1) % 10).where((found + 1) % 10 != b.split.y, (found + 2) % 10)
    objective, _ = b.objective(LINF)
    problem = _Problem(objective.towards(aside), objective, b.split.x, torch.arange(30), LINF, False)
    for x, hit in ((fooling, True), (b.split.x, False)):
        kept = _Best(x.clone(), torch.full((30, 2), -torch.inf))
        assert (problem.look(x, kept).hit == hit).all()
        assert (kept.worth[:, 0] == hit).all()


def ratio(logits, label, target=None):
    """Equations (6) and (7) of the paper for one image."""
    down = sorted(logits.tolist(), reverse=True)
    if target is None:
        other = max(z for k, z in enumerate(logits.tolist()) if k != label)
        return -(float(logits[label]) - other) / (down[0] - down[2])
    return -float(logits[label] - logits[target]) / (down[0] - (down[2] + down[3]) / 2)


@pytest.mark.parametrize("targets", [0, 1])
def test_the_ratio_of_logits_is_what_a_run_of_dlr_raises(targets):
    b = digits().double().take(30)
    attack = APGD(steps=25, loss="dlr", targets=targets, starts="image")
    images, _, asked = watched(b, attack, Budget("linf", 0.03))
    asked = asked[27:] if targets else asked  # after the untargeted run, and the classes' question
    rows = asked[0][1]
    aims, basis = runner_up(b), torch.eye(64, dtype=torch.float64).view(64, 1, 1, 8, 8)
    for i, row in enumerate(rows.tolist()):
        y, t = int(b.split.y[row]), int(aims[row]) if targets else None
        at = lambda x, y=y, t=t: ratio(b.classifier(x)[0], y, t)  # noqa: E731
        path = [at(x[i : i + 1]) for x, _ in asked]
        slope = [at(b.split.x[row : row + 1] + 1e-6 * e) - path[0] for e in basis]
        moved = (asked[1][0][i] - b.split.x[row]).flatten()
        inside = moved.abs() > 1e-9
        assert torch.equal(moved[inside].sign(), torch.tensor(slope, dtype=torch.float64)[inside].sign())
        assert max(path) > path[0]
        if not targets and not wrong(b, images)[row]:
            assert abs(at(images[row : row + 1]) - max(path)) < 1e-9
    assert len(rows) > 10


@pytest.mark.parametrize(("targets", "needed"), [(0, 3), (2, 4)])
def test_dlr_is_refused_where_there_are_too_few_logits_for_its_ratio(targets, needed):
    split = linear_images(4)
    victim = Victim(linear_classifier())
    objective = OBJECTIVES["cross-entropy"](Recorder(victim, split.x, split.y, LINF), split.y)
    with pytest.raises(UsageError, match=rf"at least {needed} classes here, got 2; use --set apgd.loss"):
        APGD(loss="dlr", targets=targets).perturb(objective, split.x, LINF, Draws(0, range(4)))


@pytest.mark.parametrize("name", ["dual", "selective", "orthogonal", "margin", "lagrangian", "paper"])
def test_knowing_the_detector_it_lowers_the_score(name):
    b, budget, attack = digits(20), Budget("linf", 0.12), APGD(steps=40)
    static, threshold = b.attack(attack, budget).images, b.victim.alarm.threshold
    blind = (b.victim.detector.score(static) <= threshold) & wrong(b, static)
    low = b.attack(attack, budget, ADAPTIVE, name).recorder.evasion_score
    gain = 0.02 if name in ("lagrangian", "paper") else 0.4
    assert (low <= threshold).float().mean() > blind.float().mean() + gain
