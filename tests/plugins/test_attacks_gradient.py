"""FGSM, BIM and PGD against the attacks of both libraries and against loops written out in torch."""

import math

import eagerpy as ep
import pytest
import torch
import torch.nn.functional as F
from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod
from attack_bench import (
    ADAPTIVE,
    STATIC,
    art_classifier,
    art_images,
    differing,
    digits,
    foolbox_model,
    mnist,
)
from foolbox.attacks import (
    L2ProjectedGradientDescentAttack,
    LinfBasicIterativeAttack,
    LinfFastGradientAttack,
    LinfProjectedGradientDescentAttack,
)
from torch import nn

from nfbench.core.draws import Draws
from nfbench.core.losses import Lagrangian
from nfbench.core.values import Budget
from nfbench_attacks.bim_a import BIMa
from nfbench_attacks.gradient import FGSM, PGD, PGDL2, BIMb

SETS = pytest.mark.parametrize("bench", [digits, mnist], ids=["digits", "mnist"])


@SETS
@pytest.mark.parametrize("eps", [0.05, 0.25, 0.4])
def test_fgsm_has_the_pixels_of_both_libraries(bench, eps):
    b = bench()
    ours = b.attack(FGSM(), Budget("linf", eps)).images
    theirs = LinfFastGradientAttack().run(foolbox_model(b.classifier), b.split.x, b.split.y, epsilon=eps)
    art = FastGradientMethod(art_classifier(b.classifier, ours), eps=eps, batch_size=len(ours))
    assert differing(ours, b.split.x) > 0.5 * ours.numel()
    assert differing(ours, theirs) == 0
    assert differing(ours, art_images(art, b.split.x, b.split.y)) == 0


def bim_of_art(classifier, x, steps, loss=None):
    return BasicIterativeMethod(
        art_classifier(classifier, x, loss), 0.2, 0.02, max_iter=steps, batch_size=len(x), verbose=False
    )


@SETS
def test_bim_b_has_the_pixels_of_both_libraries(bench):
    b = bench().take(40)
    ours = b.attack(BIMb(steps=15, step=0.02), Budget("linf", 0.2)).images
    attack = LinfBasicIterativeAttack(abs_stepsize=0.02, steps=15, random_start=False)
    theirs = attack.run(foolbox_model(b.classifier), b.split.x, b.split.y, epsilon=0.2)
    assert differing(ours, theirs) == 0
    assert differing(ours, art_images(bim_of_art(b.classifier, ours, 15), b.split.x, b.split.y)) == 0


class StillRight(nn.Module):
    """Cross-entropy of the images that are still classified correctly; ART hands over one-hot labels."""

    reduction = "mean"

    def forward(self, logits, labels):
        labels = labels.argmax(1) if labels.dim() == 2 else labels
        right = logits.argmax(1) == labels
        return (F.cross_entropy(logits, labels, reduction="none") * right).sum()


class MaskedBIM(LinfBasicIterativeAttack):
    """Foolbox's BIM, whose gradient is zero at images that are misclassified already."""

    def get_loss_fn(self, model, labels):
        return lambda x: ep.astensor(StillRight()(model(x).raw, labels.raw))


@SETS
def test_bim_a_has_the_pixels_of_both_libraries_with_a_masked_loss(bench):
    b = bench().take(40)
    ours = b.attack(BIMa(steps=15, step=0.02), Budget("linf", 0.2)).images
    attack = MaskedBIM(abs_stepsize=0.02, steps=15, random_start=False)
    theirs = attack.run(foolbox_model(b.classifier), b.split.x, b.split.y, epsilon=0.2)
    art = bim_of_art(b.classifier, ours, 15, StillRight())
    assert differing(ours, theirs) == 0
    assert differing(ours, art_images(art, b.split.x, b.split.y)) == 0


def test_bim_a_returns_the_first_misclassified_iterate_or_the_last():
    b = digits()
    budget, steps = Budget("linf", 0.06), 8
    paths = [b.attack(BIMb(steps=k, step=0.01), budget).images for k in range(1, steps + 1)]
    iterates = torch.stack([b.split.x, *paths])  # (steps + 1, B, ...)
    wrong = torch.stack([b.classifier(x).argmax(1) != b.split.y for x in iterates])
    first = torch.where(wrong.any(0), wrong.int().argmax(0), steps)
    ours = b.attack(BIMa(steps=steps, step=0.01), budget).images
    assert {0, 1} == set(wrong.any(0).int().tolist())  # some fall and some hold
    assert len(first.unique()) > 3
    assert torch.equal(ours, iterates[first, torch.arange(len(ours))])


@pytest.mark.parametrize(
    ("ours", "theirs", "budget"),
    [
        (PGD, LinfProjectedGradientDescentAttack, Budget("linf", 0.15)),
        (PGDL2, L2ProjectedGradientDescentAttack, Budget("l2", 1.0)),
    ],
    ids=["linf", "l2"],
)
@SETS
def test_pgd_with_constant_steps_has_foolboxs_pixels_from_the_same_start(bench, ours, theirs, budget):
    b = bench().take(40).double()  # in float32 its gradients lose digits where the classifier is sure
    attack = ours(steps=12, step=0.2, schedule="constant")
    start = attack.start(b.split.x, budget, Draws(3, b.split.index.tolist()))
    library = theirs(rel_stepsize=0.2, steps=12, random_start=True)
    library.get_random_start = lambda x, eps: ep.astensor(start)
    expected = library.run(foolbox_model(b.classifier), b.split.x, b.split.y, epsilon=budget.eps)
    moved, theirs_moved = b.attack(attack, budget, seed=3).images - b.split.x, expected - b.split.x
    assert float((moved - theirs_moved).norm() / theirs_moved.norm()) < 1e-6


def test_pgd_starts_fill_their_balls_evenly():
    x, index = torch.full((4000, 1, 2, 2), 0.5), range(4000)
    cube = PGD().start(x, Budget("linf", 0.2), Draws(0, index)) - x
    assert cube.abs().max() <= 0.2
    assert cube.flatten(1).mean(0).abs().max() < 0.01
    assert torch.allclose(cube.var(), torch.tensor(0.2**2 / 3), rtol=0.03)
    radius = (PGDL2().start(x, Budget("l2", 0.2), Draws(0, index)) - x).flatten(1).norm(dim=1)
    shares = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    # The share of a 4-dimensional ball within r is (r / eps)^4.
    assert torch.allclose(radius.quantile(shares), 0.2 * shares**0.25, atol=0.003)


def test_cosine_steps_shrink_from_the_first_to_a_hundredth_of_it():
    b = digits().double().take(30)
    steps, budget = 10, Budget("linf", 0.2)
    attack = PGD(steps=steps, step=0.5)
    start = attack.start(b.split.x, budget, Draws(0, b.split.index.tolist()))
    x = start.clamp(0, 1)
    for k in range(steps):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(b.classifier(x), b.split.y, reduction="sum")
        size = 0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2)
        moved = x + size * torch.autograd.grad(loss, x)[0].sign()
        x = torch.minimum(torch.maximum(moved, b.split.x - 0.2), b.split.x + 0.2).clamp(0, 1)
    assert (b.attack(attack, budget).images - x.detach()).abs().max() < 1e-12


def test_a_restart_replaces_only_what_has_not_succeeded():
    b, budget = digits(), Budget("linf", 0.04)
    once = b.attack(PGD(steps=2), budget).images
    thrice = b.attack(PGD(steps=2, restarts=3), budget).images
    fooled = b.classifier(once).argmax(1) != b.split.y
    assert 0 < int(fooled.sum()) < len(fooled)
    assert torch.equal(thrice[fooled], once[fooled])
    assert (thrice[~fooled] != once[~fooled]).flatten(1).any(1).all()


def reject_margin(b, x):
    """The evasion margin, image by image, from the victim's answers."""
    seen, alarm = b.victim.detector.observe(x), b.victim.alarm
    values = []
    for logits, score, label in zip(seen.logits, seen.score, b.split.y, strict=True):
        others = torch.cat([logits[:label], logits[label + 1 :]])
        fooled, hidden = others.max() - logits[label], (alarm.threshold - score) / alarm.unit
        values.append(torch.minimum(fooled, hidden) if fooled > 0 else fooled + hidden.clamp(max=0))
    return torch.stack(values).sum()


def test_adaptive_bim_is_the_loop_one_would_write():
    b = digits().double().take(30)
    x, low = b.split.x, torch.full((30,), torch.inf, dtype=torch.float64)
    for step in range(13):
        seen = b.victim.detector.observe(x)
        fooled = seen.logits.argmax(1) != b.split.y
        low = torch.where(fooled, torch.minimum(low, seen.score), low).detach()
        if step < 12:
            x = x.detach().requires_grad_()
            moved = x + 0.02 * torch.autograd.grad(reject_margin(b, x), x)[0].sign()
            x = (b.split.x + (moved - b.split.x).clamp(-0.2, 0.2)).clamp(0, 1).detach()
    found = b.attack(BIMb(steps=12, step=0.02), Budget("linf", 0.2), ADAPTIVE, "margin")
    assert (found.images - x).abs().max() < 1e-12
    assert low.isfinite().float().mean() > 0.5
    assert torch.allclose(found.recorder.evasion_score.double(), low, atol=1e-6)


def test_the_fgsm_of_a_detector_term_without_weight_is_the_static_one(monkeypatch):
    b, budget = digits(), Budget("linf", 0.1)
    monkeypatch.setattr(Lagrangian, "grid", (0.0,))
    adaptive = b.attack(FGSM(), budget, ADAPTIVE, "lagrangian").images
    assert torch.equal(adaptive, b.attack(FGSM(), budget, STATIC).images)
    monkeypatch.setattr(Lagrangian, "grid", (10.0,))
    assert differing(adaptive, b.attack(FGSM(), budget, ADAPTIVE, "lagrangian").images) > 0


def watched(b, attack, budget, threat=STATIC, name="cross-entropy", seed=0):
    """What an attack returns, and everything it asked about, in order."""
    objective, recorder = b.objective(budget, threat, name)
    query, asked = recorder.query, []

    def listening(x, *args, **options):
        asked.append(x.detach().clone())
        return query(x, *args, **options)

    recorder.query = listening
    return attack.perturb(objective, b.split.x, budget, Draws(seed, b.split.index.tolist())), asked


def test_pgd_begins_at_the_image_once_and_then_at_random_points():
    b, budget = digits().take(20), Budget("linf", 0.02)
    _, asked = watched(b, PGD(steps=3, restarts=3, starts="image"), budget)
    each = len(asked) // 3 + 1
    assert torch.equal(asked[0], b.split.x)
    second, third = asked[each], asked[2 * each]
    index = b.split.index.tolist()
    draws = Draws(0, index)
    for start in (second, third):
        assert torch.equal(start, (PGD().start(b.split.x, budget, draws)).clamp(0, 1))
    assert not torch.equal(second, third)


def stride(gradient, norm):
    """A step of length 1: signs, or the gradient over its length."""
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("attack", "budget"),
    [(PGD, Budget("linf", 0.1)), (PGDL2, Budget("l2", 0.8))],
    ids=["linf", "l2"],
)
def test_odi_climbs_a_random_mixture_of_the_logits_of_each_image(attack, budget):
    b = digits().double().take(30)
    _, asked = watched(b, attack(steps=1, starts="odi"), budget, seed=4)
    draws = Draws(4, b.split.index.tolist())
    x = budget.project(b.split.x, attack().start(b.split.x, budget, draws))
    weights = 2 * draws.uniform("odi", torch.zeros(30, 10, dtype=torch.float64)) - 1
    assert len({tuple(row) for row in weights.tolist()}) == 30
    mixed = []
    for step in range(3):
        assert (asked[step] - x).abs().max() < 1e-12
        x = x.detach().requires_grad_()
        value = (b.classifier(x) * weights).sum(1)
        mixed.append(value.detach())
        gradient = torch.autograd.grad(value.sum(), x)[0]
        moved = x.detach() + budget.eps * stride(gradient, budget.norm)
        x = budget.project(b.split.x, moved)
    assert (mixed[2] > mixed[0]).all()


def test_odi_starts_have_more_various_logits_than_random_ones():
    b, budget = digits(), Budget("linf", 0.15)
    spread = {}
    for starts, at in (("uniform", 0), ("odi", 2)):
        first = [watched(b, PGD(steps=1, starts=starts), budget, seed=s)[1][at] for s in range(6)]
        logits = torch.stack([b.classifier(x) for x in first])
        spread[starts] = float(logits.std(0).mean())
    assert spread["odi"] > 2 * spread["uniform"]


@pytest.mark.parametrize("starts", ["uniform", "image", "odi"])
def test_every_restart_of_an_adaptive_pgd_begins_with_a_fresh_multiplier(starts):
    b, budget = digits().take(20), Budget("linf", 0.3)
    attack = PGD(steps=6, restarts=2, starts=starts)
    _, asked = watched(b, attack, budget, ADAPTIVE, "dual")
    each = 6 + 2 * (starts == "odi")
    start = asked[each + 2 + 2 * (starts == "odi")]  # after the last point, and the restart's question
    objective, _ = b.objective(budget, ADAPTIVE, "dual")
    gradient = objective.step(start).gradient
    moved = budget.project(b.split.x, start + 0.5 * budget.eps * gradient.sign())
    assert (moved - asked[each + 3 + 2 * (starts == "odi")]).abs().max() < 1e-6
