"""Square Attack: against ART's at equal queries, what a square is, and what it spends queries on."""

import math

import numpy as np
import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, art_classifier, art_images, digits

from nfbench.core.draws import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Victim
from nfbench.testing import check_attack
from nfbench_attacks.random_search import above
from nfbench_attacks.square import Square, SquareL2, _inside, _offsets, _pyramids

BOTH = pytest.mark.parametrize(
    ("kind", "budget"), [(Square, Budget("linf", 0.15)), (SquareL2, Budget("l2", 1.0))]
)


def told(b, budget, *, queries=None, adaptive=True, name="margin"):
    victim = b.victim if adaptive else Victim(b.classifier)
    recorder = Recorder(victim, b.split.x, b.split.y, budget, Access.SCORES, queries=queries)
    return OBJECTIVES[name](recorder, b.split.y, victim.alarm), recorder


def draws_of(b):
    return Draws(0, b.split.index.tolist())


@pytest.mark.parametrize("kind", [Square, SquareL2])
def test_the_contract_is_kept(kind):
    check_attack(kind(queries=300))


@pytest.mark.parametrize(
    ("kind", "eps", "norm"), [(Square, 0.1, np.inf), (Square, 0.15, np.inf), (SquareL2, 1.0, 2)]
)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")
def test_at_equal_queries_it_fools_no_fewer_than_art(kind, eps, norm):
    from art.attacks.evasion import SquareAttack

    b, queries, area = digits(), 200, kind().area
    ours = b.attack(kind(queries=queries), Budget(kind.norm, eps)).images
    np.random.seed(0)  # noqa: NPY002  # ART draws from it
    art = SquareAttack(
        art_classifier(b.classifier, b.split.x),
        norm=norm,
        max_iter=queries,
        eps=eps,
        p_init=area,
        nb_restarts=1,
        batch_size=512,
        verbose=False,
    )
    theirs = art_images(art, b.split.x, b.split.y)
    rates = [(b.classifier(x).argmax(1) != b.split.y).double().mean().item() for x in (ours, theirs)]
    assert 0.2 < rates[0] < 0.95  # neither is at its limit
    assert rates[0] >= rates[1] - 2 * math.sqrt(0.25 / len(b.split))


@BOTH
@pytest.mark.parametrize("adaptive", [False, True])
def test_alone_an_image_becomes_what_it_becomes_in_company(kind, budget, adaptive):
    b = digits().take(16)
    attack = kind(queries=90)
    objective, recorder = told(b, budget, adaptive=adaptive)
    together = attack.perturb(objective, b.split.x, budget, draws_of(b))
    for row in range(0, 16, 5):
        one = type(b)(b.victim, b.split.take(torch.tensor([row])))
        objective, alone = told(one, budget, adaptive=adaptive)
        assert torch.equal(
            attack.perturb(objective, one.split.x, budget, draws_of(one))[0], together[row]
        )
        assert alone.forward[0] == recorder.forward[row]


@BOTH
def test_what_it_returns_is_the_misclassified_point_of_lowest_score_it_saw(kind, budget):
    b = digits()
    found = b.attack(kind(queries=150), budget, ADAPTIVE, "margin")
    hit = found.recorder.evasion_score.isfinite()
    assert 0.2 < hit.float().mean() < 1
    assert torch.equal(found.images[hit], found.recorder.best[hit])
    assert (b.classifier(found.images[~hit]).argmax(1) == b.split.y[~hit]).all()


def test_a_misclassified_point_beats_all_others_and_then_the_lower_score():
    order = torch.tensor([[-math.inf, -math.inf], [0, -9.0], [0, 3.0], [1, -5.0], [1, -4.0]])
    for i, low in enumerate(order):
        for j, high in enumerate(order):
            assert above(high[None], low[None]).item() == (j > i)


@BOTH
def test_a_weighted_sum_is_climbed_as_it_is(kind, budget):
    b = digits().take(40)
    values = []
    for queries in (1, 150):
        objective = told(b, budget, name="lagrangian")[0].with_gamma(20.0)
        images = kind(queries=queries).perturb(objective, b.split.x, budget, draws_of(b))
        values.append(objective.loss(images))
    short, long = values
    assert (long >= short).all()
    assert (long > short).float().mean() > 0.9


@BOTH
def test_images_that_were_finished_before_are_left_as_they_are(kind, budget):
    b = digits().take(40)
    objective, recorder = told(b, budget)
    kind(queries=60).perturb(objective, b.split.x, budget, draws_of(b))
    done, asked = recorder.finished.clone(), recorder.forward.clone()
    assert 0 < done.sum() < 40
    again = kind(queries=5).perturb(objective, b.split.x, budget, draws_of(b))
    assert torch.equal(recorder.forward[done], asked[done])
    assert torch.equal(again[done], b.split.x[done])


@BOTH
def test_no_image_is_asked_about_more_often_than_granted(kind, budget):
    b = digits().take(30)
    objective, recorder = told(b, budget, queries=37)
    kind().perturb(objective, b.split.x, budget, draws_of(b))
    assert recorder.forward.max() == 37
    assert (recorder.forward[~recorder.finished] == 37).all()


@BOTH
def test_what_a_neighbour_has_used_up_is_its_own_affair(kind, budget):
    b = digits().take(12)
    even, _ = told(b, budget, queries=60)
    uneven, recorder = told(b, budget, queries=60)
    for _ in range(50):
        uneven.query(b.split.x[:1], torch.tensor([0]))
    plain = kind().perturb(even, b.split.x, budget, draws_of(b))
    changed = kind().perturb(uneven, b.split.x, budget, draws_of(b))
    assert torch.equal(plain[1:], changed[1:])
    assert recorder.forward[0] <= 60


@pytest.mark.parametrize("threat", [STATIC, ADAPTIVE], ids=["static", "adaptive"])
def test_finished_images_leave(threat):
    found = digits().attack(Square(queries=400), Budget("linf", 0.25), threat)
    done = found.recorder.finished
    assert done.float().mean() > 0.8
    assert (found.recorder.forward[done] < 400).float().mean() > 0.8


def test_every_pixel_lies_at_the_end_of_its_range():
    b, eps = digits(), 0.15
    objective, _ = told(b, Budget("linf", eps), adaptive=False)
    images = Square(queries=40).perturb(objective, b.split.x, Budget("linf", eps), draws_of(b))
    low, high = (b.split.x - eps).clamp(0, 1), (b.split.x + eps).clamp(0, 1)
    assert torch.minimum((images - low).abs(), (images - high).abs()).max() < 1e-6
    assert (images != b.split.x).flatten(1).any(1).all()


def test_no_query_is_spent_on_a_square_that_changes_nothing():
    torch.manual_seed(0)
    x = torch.zeros(50, 1, 8, 8)
    budget, attack = Budget("linf", 0.2), Square()
    best = attack.start(x, budget, Draws(0, range(50))).clamp(0, 1)
    for side in (1, 2, 5, 8):
        moved = attack.move(x, best, torch.rand(50, 3), torch.full((50,), side), budget)
        assert (moved != best).flatten(1).any(1).all()


def test_squares_halve_in_area_where_the_paper_says():
    attack, x = Square(queries=10_000), torch.zeros(1, 3, 28, 28)
    for done, share in ((0, 1), (9, 1), (10, 2), (50, 4), (200, 8), (500, 16), (8000, 512)):
        side = attack._sides(x, done, torch.tensor([10_000])).item()
        assert side == max(1, round(math.sqrt(0.8 * 784 / share))), done
    assert attack._sides(x, 50, torch.tensor([10_000, 100])).tolist() == [13, 2]


def test_a_window_lies_anywhere_in_the_image_with_equal_chance():
    torch.manual_seed(0)
    x, sides = torch.zeros(20_000, 1, 5, 7), torch.full((20_000,), 2)
    down, across = _offsets(x, torch.rand(20_000, 2), sides)
    inside = _inside(down, across, sides)
    assert (inside.sum((1, 2, 3)) == 4).all()
    corners = (-down[:, 0, 0]) * 6 + (-across[:, 0, 0])
    counts = corners.bincount(minlength=24)
    assert len(counts) == 24  # 4 x 6 places
    assert counts.double().div(20_000 / 24).sub(1).abs().max() < 0.15


@pytest.mark.parametrize("side", [3, 5, 8])
def test_a_pair_of_pyramids_is_that_of_the_paper(side):
    expected = np.zeros((side, side))
    for sign, top, tall in ((1, 0, side // 2), (-1, side // 2, side - side // 2)):
        part = np.zeros((tall, side))
        for k in range(side // 2 + 1):  # concentric squares of growing size, cut off at the half
            for r in range(tall):
                for c in range(side):
                    part[r, c] += (max(abs(r - tall // 2), abs(c - side // 2)) <= k) / (k + 1) ** 2
        expected[top : top + tall] = sign * part / np.linalg.norm(part)
    expected /= np.linalg.norm(expected)
    for largest in (side, 9):
        assert np.allclose(_pyramids(largest)[side][:side, :side].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_move_in_l2_uses_all_of_the_length_and_touches_two_windows_only(channels):
    torch.manual_seed(0)
    x, attack, budget = torch.full((60, channels, 9, 9), 0.5), SquareL2(), Budget("l2", 0.4)
    best = attack.start(x, budget, Draws(0, range(60)))
    for _ in range(3):
        moved = attack.move(x, best, torch.rand(60, 5 + channels), torch.full((60,), 3), budget)
        length = (moved - x).flatten(1).norm(dim=1)
        assert torch.allclose(length, torch.full((60,), 0.4), atol=1e-5)
        changed = (moved != best).any(1).flatten(1).sum(1)
        assert changed.min() > 0
        assert changed.max() <= 18
        best = moved


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 2, 5)])
@pytest.mark.parametrize("kind", [Square, SquareL2])
def test_tiny_images_have_windows_too(kind, shape):
    torch.manual_seed(0)
    attack, x, budget = kind(), torch.rand(6, *shape), Budget(kind.norm, 0.1)
    best = attack.start(x, budget, Draws(0, range(6)))
    for _ in range(4):
        numbers = torch.rand(6, attack.numbers(x))
        best = attack.move(x, best, numbers, attack._sides(x, 0, torch.full((6,), 10)), budget)
        assert best.isfinite().all()
    assert (best != x).any()
