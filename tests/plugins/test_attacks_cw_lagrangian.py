"""CW-FP: its gradient against the formula, Foolbox, known optima, and images each for itself."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, Bench, digits
from torch import nn

from nfbench import Alarm, Classifier, Detector, Draws, Split, Victim
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget, norm
from nfbench.runner.measuring import scores
from nfbench.testing import check_attack
from nfbench.testing.fixtures import linear_images, planted_victim
from nfbench_attacks.cw import CarliniWagner
from nfbench_attacks.cw_lagrangian import CWFingerprint, Problem
from nfbench_attacks.targets import aim

ANYWHERE = Budget("l2", math.inf)
BRIEF = {"steps": 60, "learning_rate": 0.05, "initial_gamma1": 0.1}
FEW = {**BRIEF, "binary_search_steps": 4, "gamma2_steps": 4}


def attacked(b, attack, name, budget=ANYWHERE):
    """What the attack returns, and every batch of points it asked about."""
    recorder = Recorder(b.victim, b.split.x, b.split.y, budget)
    asked, query = [], recorder.query

    def spying(x, *args, **options):
        asked.append(x.detach().clone())
        return query(x, *args, **options)

    recorder.query = spying
    objective = OBJECTIVES[name](recorder, b.split.y, b.victim.alarm)
    draws = Draws(0, b.split.index.tolist())
    return attack.perturb(objective, b.split.x, budget, draws), asked


def class_margin(logits, labels, targets):
    rows, classes = torch.arange(len(logits)), labels if targets is None else targets
    others = logits.masked_fill(torch.eye(10, dtype=torch.bool)[classes], -torch.inf).amax(1)
    return (others - logits[rows, classes]) * (1 if targets is None else -1)


def formula(b, name, targets, place, gammas):
    """Eq. (12) for each image, summed, at `place` in tanh space; kappa = 0.4."""
    rows, shape = torch.arange(len(place)), b.split.x.shape
    start = (0.999999 * (2 * b.split.x - 1)).atanh().flatten(1)
    x, x_clean = (((w.tanh() + 1) / 2).view(shape) for w in (place, start))
    seen = b.victim.detector.observe(x)
    term = 0.0
    if name == "paper":
        term = seen.losses[rows, b.split.y]
    elif name != "static":
        term = seen.score if targets is None else seen.penalties[rows, targets]
    hinge = (0.4 - class_margin(seen.logits, b.split.y, targets)).clamp_min(0)
    squared = (x - x_clean).square().flatten(1).sum(1)
    return (squared + gammas[0] * (hinge + gammas[1] * term)).sum()


@pytest.mark.parametrize(
    ("name", "aims"),
    [("dual", True), ("margin", False), ("selective", True), ("paper", True), ("static", False)],
)
def test_the_gradient_is_that_of_the_formula(name, aims):
    b = digits().take(20).double()
    objective, recorder = b.objective(ANYWHERE, STATIC if name == "static" else ADAPTIVE, "margin")
    if name != "static":
        objective = OBJECTIVES[name](recorder, b.split.y, b.victim.alarm)
    targets = (b.split.y + 3) % 10 if aims else None
    aimed = objective.towards(targets) if aims else objective
    problem = Problem(aimed, b.split.x, ANYWHERE, 0.4, search=True)
    generator = torch.Generator().manual_seed(0)
    gammas = 10 ** (4 * torch.rand(2, 20, generator=generator).double() - 2)
    for scale in (0.01, 0.3, 1.0):
        noise = torch.randn(problem.start.shape, generator=generator, dtype=torch.float64)
        place = problem.start + scale * noise
        found, _ = problem.gradient(place, *gammas)
        at = place[:, :64].clone().requires_grad_()
        wanted = torch.autograd.grad(formula(b, name, targets, at, gammas), at)[0]
        error = (found[:, :64] - wanted).norm(dim=1) / wanted.norm(dim=1)
        assert error.max() <= 1e-9


def test_pixels_that_only_pad_a_row_stay_where_they_are():
    b = Bench(Victim(planted_victim().classifier), linear_images(6))
    recorder = Recorder(b.victim, b.split.x, b.split.y, ANYWHERE)
    problem = Problem(OBJECTIVES["margin"](recorder, b.split.y), b.split.x, ANYWHERE, 0.0, search=True)
    gradient, _ = problem.gradient(problem.start, torch.ones(6), torch.ones(6))
    assert problem.start.shape == (6, 64)
    assert (gradient[:, :16] != 0).any(1).all()
    assert (gradient[:, 16:] == 0).all()


@pytest.mark.parametrize("c", [0.03, 1.0])
def test_without_a_detector_the_iterates_are_those_of_foolbox(c):
    b = digits().take(24)
    b = Bench(Victim(b.classifier), b.split)
    common = {"steps": 40, "learning_rate": 0.02, "target": "untargeted", "binary_search_steps": 1}
    _, ours = attacked(b, CWFingerprint(initial_gamma1=c, **common), "margin")
    _, theirs = attacked(b, CarliniWagner(initial_const=c, **common), "margin")
    theirs = theirs[-40:]
    assert len(ours) == 40
    apart = torch.stack([(x - z).flatten(1).abs().amax(1) for x, z in zip(ours, theirs, strict=True)])
    assert (ours[-1] - b.split.x).abs().max() > 0.03
    assert apart.median() < 1e-4
    # A hinge that opens or closes in the last bits sends a few images along another path.
    assert (apart.amax(0) < 1e-3).float().mean() > 0.8


def test_without_a_detector_it_finds_what_foolbox_finds():
    b = digits()
    common = {"steps": 150, "learning_rate": 0.05, "binary_search_steps": 7}
    for target in ("untargeted", "random"):
        ours = b.attack(CWFingerprint(target=target, initial_gamma1=0.1, **common), ANYWHERE).images
        theirs = b.attack(CarliniWagner(target=target, initial_const=0.1, **common), ANYWHERE).images
        reached = [b.classifier(x).argmax(1) != b.split.y for x in (ours, theirs)]
        assert reached[0].float().mean() > 0.97
        assert abs(int(reached[0].sum()) - int(reached[1].sum())) <= 1
        both = reached[0] & reached[1]
        sizes = [norm(x - b.split.x, "l2")[both].mean() for x in (ours, theirs)]
        assert sizes[0] == pytest.approx(float(sizes[1]), rel=0.02)


@pytest.mark.parametrize("variant", ["search", "one"])
@pytest.mark.parametrize("name", ["dual", "paper"])
def test_what_comes_back_is_the_best_of_all_points_that_succeeded(name, variant):
    known = digits().victim
    strict = Alarm(known.alarm.median - known.alarm.unit, known.alarm.median, known.alarm.unit)
    b = Bench(Victim(known.classifier, known.detector, strict), digits().take(16).split)
    attack = CWFingerprint(variant=variant, target="untargeted", **FEW)
    images, asked = attacked(b, attack, name)
    assert len(asked) == attack.passes
    points = torch.stack(asked)
    lowest, best = torch.full((16,), torch.inf, dtype=torch.float64), b.split.x.clone()
    for x in points:
        with torch.no_grad():
            seen = b.victim.detector.observe(x)
        good = seen.logits.argmax(1) != b.split.y
        if name != "paper":
            good &= seen.score < b.victim.alarm.threshold
        value = ANYWHERE.size(b.split.x, x)
        if (name, variant) == ("paper", "search"):
            value = seen.losses[torch.arange(16), b.split.y].double()
        better = good & (value < lowest)
        lowest, best[better] = value.where(better, lowest), x[better]
    assert lowest.isfinite().float().mean() > 0.3
    assert torch.equal(images, best)


def test_every_run_begins_at_the_image_with_a_fresh_optimiser():
    b = digits().take(10)
    _, asked = attacked(b, CWFingerprint(**{**FEW, "steps": 7}, target="untargeted"), "dual")
    firsts, seconds = torch.stack(asked[::7]).double(), torch.stack(asked[1::7]).double()
    assert len(firsts) == 8
    assert (firsts == firsts[0]).all()
    assert (firsts[0] - b.split.x).abs().max() < 1e-5
    moved = ((2 * seconds - 1).atanh() - (2 * firsts - 1).atanh()).abs()
    inner = ((b.split.x > 0.1) & (b.split.x < 0.9)).expand_as(moved)
    assert moved[inner].max() == pytest.approx(0.05, rel=1e-3)  # Adam's first step


@pytest.mark.parametrize("name", ["dual", "margin", "selective", "lagrangian"])
def test_the_objective_it_is_told_makes_no_difference_but_the_papers(name):
    b = digits().take(12)
    images = attacked(b, CWFingerprint(**FEW), name)[0]
    assert torch.equal(images, attacked(b, CWFingerprint(**FEW), "orthogonal")[0])
    assert not torch.equal(images, attacked(b, CWFingerprint(**FEW), "paper")[0])


def test_it_gets_past_the_detector_with_about_as_little_as_foolbox_on_the_margin():
    b = digits()
    ours = CWFingerprint(**{**BRIEF, "steps": 150, "binary_search_steps": 5})
    theirs = CarliniWagner(binary_search_steps=5, steps=150, learning_rate=0.05, initial_const=0.1)
    sizes = []
    for attack, name in ((ours, "lagrangian"), (theirs, "margin")):
        images = b.attack(attack, ANYWHERE, ADAPTIVE, name).images
        assert (b.classifier(images).argmax(1) != b.split.y).float().mean() > 0.98
        assert (b.victim.detector.score(images) <= b.victim.alarm.threshold).float().mean() > 0.97
        sizes.append(norm(images - b.split.x, "l2").mean())
    assert sizes[0] < 1.12 * sizes[1]


def smallest(x, slopes, bounds):
    """Length of the smallest step d with slopes @ d >= bounds, two half-spaces. (2, D), (2,)"""
    feasible = []
    for active in ([0], [1], [0, 1]):
        rows, least = slopes[active], bounds[active]
        step = rows.T @ torch.linalg.solve(rows @ rows.T, least)
        if (slopes @ step >= bounds - 1e-6).all():
            feasible.append(float(step.norm()))
    return min(feasible)


def test_it_is_near_the_optimum_of_a_linear_classifier_behind_a_linear_detector():
    planted, split = planted_victim(), linear_images(10)
    strict = Alarm(threshold=0.48, median=0.46, unit=0.02)  # about half of the images are brighter
    victim = Victim(planted.classifier, planted.detector, strict)
    attack = CWFingerprint(
        steps=250, learning_rate=0.02, initial_gamma1=0.1, binary_search_steps=7, gamma2_steps=9
    )
    images = attacked(Bench(victim, split), attack, "dual")[0]
    ratios, both = [], 0
    for x, y, found in zip(split.x, split.y, images, strict=True):
        at = x[None].clone().requires_grad_()
        logits = victim.classifier(at)[0]
        fooled, hidden = logits[1 - y] - logits[y], victim.alarm.threshold - at.mean()
        slopes = [torch.autograd.grad(v, at, retain_graph=True)[0].flatten() for v in (fooled, hidden)]
        bounds = -torch.stack([fooled, hidden]).detach()
        wanted = smallest(x, torch.stack(slopes), bounds)
        both += wanted > 1.001 * float(bounds[0] / slopes[0].norm())
        ratios.append(float((found - x).norm()) / wanted)
    assert both >= 2  # the detector costs something
    assert min(ratios) > 1 - 1e-4
    assert sorted(ratios)[5] < 1.03
    assert max(ratios) < 1.1


class Line(Detector):
    def score(self, x):
        return x.flatten(1)[:, ::2].mean(1)


@pytest.mark.parametrize("name", ["margin", "paper", "lagrangian"])
def test_alone_an_image_becomes_what_it_becomes_in_company_whatever_its_shape(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(49, 20), nn.Tanh(), nn.Linear(20, 4))
    classifier = Classifier(network, 4).eval().requires_grad_(False)
    x = torch.rand(9, 1, 7, 7, generator=torch.Generator().manual_seed(1))
    x[:, :, :2] = x[:, :, :2].round()
    detector = Line(classifier)
    victim = Victim(classifier, detector, Alarm.calibrated(scores(detector, torch.cat([x] * 3))))
    split = Split(x, classifier(x).argmax(1), torch.arange(9))
    attack = CWFingerprint(**{**FEW, "steps": 30, "initial_gamma1": 1.0})
    together = attacked(Bench(victim, split), attack, name)[0]
    for size in (1, 4):
        parts = [Bench(victim, split.take(rows)) for rows in torch.arange(9).split(size)]
        assert torch.equal(torch.cat([attacked(b, attack, name)[0] for b in parts]), together)
    assert (together != x).flatten(1).any(1).float().mean() > 0.5


@pytest.mark.parametrize("name", ["dual", "paper"])
def test_failures_come_back_as_they_were_and_a_given_ball_is_kept(name):
    b = digits().take(20)
    hopeless = CWFingerprint(**{**FEW, "kappa": 1e6, "steps": 10})
    assert torch.equal(attacked(b, hopeless, name)[0], b.split.x)
    free, bound = (attacked(b, CWFingerprint(**FEW), name, Budget("l2", e))[0] for e in (math.inf, 0.5))
    size = norm(bound - b.split.x, "l2")
    assert (size <= 0.5 + 1e-6).all()
    assert ((size == 0) & (norm(free - b.split.x, "l2") > 0.5)).any()
    assert (size > 0).any()


def test_a_class_margin_of_kappa_is_reached():
    b = digits().take(30)
    images = attacked(b, CWFingerprint(**FEW, kappa=1.5), "dual")[0]
    targets = aim(
        b.objective(ANYWHERE, ADAPTIVE, "dual")[0], b.split.x, Draws(0, range(30)), "auto"
    ).targets
    moved = (images != b.split.x).flatten(1).any(1)
    assert moved.float().mean() > 0.3
    assert (class_margin(b.classifier(images), b.split.y, targets)[moved] >= 1.5 - 1e-4).all()


class Cliff(Detector):
    """A score whose slope is beyond every number."""

    def score(self, x):
        return x.flatten(1).mean(1) + (x.flatten(1)[:, 0] - x.flatten(1)[:, 0].detach()).abs().sqrt()


def test_a_slope_that_is_no_number_costs_its_pixel_not_the_image():
    b = digits().take(10)
    detector = Cliff(b.classifier)
    victim = Victim(b.classifier, detector, Alarm.calibrated(scores(detector, digits().split.x)))
    images = attacked(Bench(victim, b.split), CWFingerprint(**FEW), "dual")[0]
    assert images.isfinite().all()
    assert (b.classifier(images).argmax(1) != b.split.y).float().mean() > 0.8


def test_the_contract_is_kept():
    check_attack(CWFingerprint(steps=60, learning_rate=0.05, initial_gamma1=0.1, binary_search_steps=4))
