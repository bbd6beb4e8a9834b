"""The weight of a weighted sum: searched image by image, and of no consequence where it is 0."""

import pytest
import torch
from attack_bench import ADAPTIVE, digits
from torch import nn

from nfbench.core.defense import Detector
from nfbench.core.draws import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.values import Budget
from nfbench.core.victim import Victim
from nfbench_attacks.apgd import APGD, APGDL2
from nfbench_attacks.bim_a import BIMa
from nfbench_attacks.gamma import START, fools, over_gamma
from nfbench_attacks.gradient import FGSM, PGD, PGDL1, PGDL2, BIMb

LINF = Budget("linf", 0.15)
BOUNDS = OBJECTIVES["lagrangian"].bounds
BIM = BIMb(steps=12, step=0.02)


def planted(b, limits):
    """A run that fools the classifier exactly up to each image's limit, and tells its trials apart."""
    wrong = b.attack(BIMb(steps=40, step=0.03), Budget("linf", 0.5)).images
    tried = []

    def run(objective):
        tried.append(objective.gamma)
        images = wrong.where((objective.gamma <= limits).view(-1, 1, 1, 1), b.split.x).clone()
        images[:, 0, 0, 0] = len(tried) / 1000
        return images

    return run, tried


def bisected(limit):
    """The weights tried for one image, and the trial that is its result."""
    low, high, gamma, tried, result = *BOUNDS, START, [], None
    for trial in range(1, 7):
        tried.append(gamma)
        if gamma <= limit:
            low, result = gamma, trial
        else:
            high = gamma
        gamma = (low * high) ** 0.5
    return tried, result or 6


def test_each_image_is_bisected_on_its_own_and_keeps_its_largest_success():
    b = digits().take(40).double()
    limits = torch.logspace(-4, 5, len(b.split), dtype=torch.float64)
    run, tried = planted(b, limits)
    objective, _ = b.objective(LINF, ADAPTIVE, "lagrangian")
    images = over_gamma(objective, run)
    expected = [bisected(float(limit)) for limit in limits]
    gammas = torch.tensor([weights for weights, _ in expected], dtype=torch.float64)
    assert torch.allclose(torch.stack(tried, 1), gammas, rtol=1e-12)
    kept = torch.tensor([trial for _, trial in expected], dtype=torch.float64)
    assert torch.equal(images[:, 0, 0, 0], kept / 1000)
    assert len(kept.unique()) == 6
    fooled = b.classifier(images).argmax(1) != b.split.y
    assert torch.equal(fooled, limits >= BOUNDS[0] * (START / BOUNDS[0]) ** (1 / 32))


def test_towards_a_class_only_that_class_is_a_success():
    b = digits().take(40)
    wrong = b.attack(BIMb(steps=40, step=0.03), Budget("linf", 0.5)).images
    found = b.classifier(wrong).argmax(1)
    targets = found.where(torch.arange(len(found)) % 2 == 0, (b.split.y + 1) % 10)
    objective, _ = b.objective(LINF, ADAPTIVE, "lagrangian")
    assert fools(objective, wrong).all()
    assert not fools(objective, b.split.x).any()
    assert torch.equal(fools(objective.towards(targets), wrong), found == targets)
    assert 0 < int((found != targets).sum()) < len(found) // 2 + 1


def test_an_objective_without_a_weight_is_run_once_from_its_beginning():
    b = digits().take(5)
    objective, recorder = b.objective(LINF, ADAPTIVE, "dual")
    wrong = b.attack(BIMb(steps=40, step=0.03), Budget("linf", 0.5)).images
    objective.step(wrong)  # its multiplier falls
    seen, passes = [], recorder.forward.clone()
    images = over_gamma(objective, lambda chosen: seen.append(chosen) or b.split.x)
    assert images is b.split.x
    assert len(seen) == 1
    assert torch.equal(recorder.forward, passes)
    fresh, _ = b.objective(LINF, ADAPTIVE, "dual")
    gradients = [one.step(wrong).gradient for one in (seen[0], fresh, objective)]
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[2], gradients[1])


class Rejecting(Detector):
    """Rejects whatever it sees, by a score that no step changes."""

    def score(self, x):
        return 100 + 0 * x.flatten(1).sum(1)


def test_being_rejected_is_no_failure():
    b = digits().take(30)
    detector = Rejecting(b.classifier)
    strict = type(b)(Victim(b.classifier, detector, b.victim.alarm), b.split)
    tried = []

    def run(objective):
        tried.append(objective.gamma)
        return static

    static = strict.attack(BIM, LINF).images
    objective, _ = strict.objective(LINF, ADAPTIVE, "lagrangian")
    assert torch.equal(over_gamma(objective, run), static)
    fooled = b.classifier(static).argmax(1) != b.split.y
    assert 0 < int(fooled.sum()) < len(fooled)
    assert (tried[-1][fooled] > 1000).all()
    assert (tried[-1][~fooled] < 0.01).all()


@pytest.mark.parametrize("name", ["lagrangian", "paper", "dual"])
@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        (BIM, LINF),
        (BIMa(steps=10, step=0.03), LINF),
        (PGD(steps=8, restarts=2), LINF),
        (PGDL2(steps=8, starts="odi"), Budget("l2", 1.0)),
        (APGD(steps=10, restarts=2, targets=1), LINF),
    ],
    ids=["bim-b", "bim-a", "pgd", "pgd-l2", "apgd"],
)
def test_in_company_the_search_ends_bit_for_bit_where_it_ends_alone(attack, budget, name):
    b = digits().take(6)
    together = b.attack(attack, budget, ADAPTIVE, name)
    for row in range(6):
        one = type(b)(b.victim, b.split.take(torch.tensor([row])))
        alone = one.attack(attack, budget, ADAPTIVE, name)
        assert torch.equal(alone.images[0], together.images[row])
        assert torch.equal(alone.recorder.evasion_score[0], together.recorder.evasion_score[row])


def test_the_search_hides_what_fools_at_a_small_weight():
    b = digits(20)
    static = b.attack(BIM, LINF)
    adaptive = b.attack(BIM, LINF, ADAPTIVE, "lagrangian")
    fooled = b.classifier(static.images).argmax(1) != b.split.y
    still = b.classifier(adaptive.images).argmax(1) != b.split.y
    assert (fooled & still).sum() > 0.9 * fooled.sum()
    both = fooled & still
    before, after = (b.victim.detector.score(a.images)[both] for a in (static, adaptive))
    assert (after < before).float().mean() > 0.65
    assert after.mean() < before.mean() - 0.02


WITHOUT = [
    (FGSM(), LINF),
    (BIMb(steps=15, step=0.02), LINF),
    (BIMa(steps=15, step=0.02), LINF),
    (PGD(steps=10, restarts=3), Budget("linf", 0.06)),
    (PGD(steps=10, restarts=2, starts="odi"), Budget("linf", 0.06)),
    (PGDL2(steps=10, restarts=2), Budget("l2", 0.5)),
    (PGDL1(steps=10, restarts=2), Budget("l1", 1.0)),
    (APGD(steps=20, restarts=2), Budget("linf", 0.06)),
    (APGDL2(steps=20, loss="dlr", targets=2), Budget("l2", 0.5)),
]


@pytest.mark.parametrize(("attack", "budget"), WITHOUT, ids=[attack.name for attack, _ in WITHOUT])
def test_a_detector_term_without_weight_leaves_the_static_attack_bit_for_bit(attack, budget):
    b = digits()
    static = b.attack(attack, budget).images
    plain = b.attack(BIM, budget).images
    for name in ("lagrangian", "paper", "released-code"):
        objective, _ = b.objective(budget, ADAPTIVE, name)
        draws = Draws(0, b.split.index.tolist())
        images = attack.perturb(objective.with_gamma(0.0), b.split.x, budget, draws)
        assert torch.equal(images, static), name
    heavy = attack.perturb(objective, b.split.x, budget, Draws(0, b.split.index.tolist()))
    assert not torch.equal(heavy, static)
    assert not torch.equal(plain, static)


def test_fgsm_takes_the_grid_of_a_weighted_sum_and_searches_the_papers():
    b = digits().take(20)
    grid = b.attack(FGSM(), LINF, ADAPTIVE, "lagrangian").recorder
    assert set(grid.forward.tolist()) == {2 * len(OBJECTIVES["lagrangian"].grid)}
    found = b.attack(FGSM(), LINF, ADAPTIVE, "paper")
    assert set(found.recorder.backward.tolist()) == {6}
    static = b.attack(FGSM(), LINF).images
    assert (found.images != static).flatten(1).any(1).float().mean() > 0.3


def weighed(b, x, gamma):
    """Cross-entropy less gamma times the score."""
    seen = b.victim.detector.observe(x)
    loss = nn.functional.cross_entropy(seen.logits, b.split.y, reduction="none")
    return (loss - gamma * seen.score).sum()


def test_adaptive_bim_is_the_bisection_and_the_loop_one_would_write():
    b = digits().double().take(30)
    low, high = (torch.full((30,), bound, dtype=torch.float64) for bound in BOUNDS)
    gamma, kept = torch.full_like(low, START), b.split.x
    for _ in range(6):
        x = b.split.x
        for _ in range(12):
            x = x.detach().requires_grad_()
            moved = x + 0.02 * torch.autograd.grad(weighed(b, x, gamma), x)[0].sign()
            x = (b.split.x + (moved - b.split.x).clamp(-0.15, 0.15)).clamp(0, 1).detach()
        fooled = b.classifier(x).argmax(1) != b.split.y
        never = low == BOUNDS[0]
        kept = x.where((fooled | never).view(-1, 1, 1, 1), kept)
        low, high = gamma.where(fooled, low), high.where(fooled, gamma)
        gamma = (low * high).sqrt()
    found = b.attack(BIM, LINF, ADAPTIVE, "lagrangian")
    assert (found.images - kept).abs().max() < 1e-12
    assert float((low > START).double().mean()) > 0.3


@pytest.mark.parametrize("name", ["paper", "released-code"])
def test_bim_a_under_the_papers_objective_leaves_an_image_at_its_first_success(name):
    b = digits().double().take(40)
    x, done = b.split.x, torch.zeros(40, dtype=torch.bool)
    firsts = []
    for step in range(9):
        at = x.clone().requires_grad_()
        seen = b.victim.detector.observe(at)
        newly = (seen.logits.argmax(1) != b.split.y) & ~done
        firsts += [step] * int(newly.sum())
        done |= newly
        loss = nn.functional.cross_entropy(seen.logits, b.split.y, reduction="sum")
        loss = loss - 0.1 * seen.losses.gather(1, b.split.y[:, None]).sum()
        moved = x + 0.03 * torch.autograd.grad(loss, at)[0].sign()
        moved = (b.split.x + (moved - b.split.x).clamp(-0.15, 0.15)).clamp(0, 1)
        x = x.where((done | (step == 8)).view(-1, 1, 1, 1), moved)
    objective, recorder = b.objective(LINF, ADAPTIVE, name)
    images = BIMa(steps=8, step=0.03)._climb(objective.with_gamma(0.1), b.split.x, LINF)
    assert (images - x).abs().max() < 1e-12
    assert len(set(firsts)) > 2
    assert not (recorder.finished[done]).all()  # accepted they are not
