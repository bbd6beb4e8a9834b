"""Random search against a plain loop over its points, and what a longer one adds."""

import math

import pytest
import torch
from attack_bench import digits

from nfbench.core.draws import Draws, seed_of
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Victim
from nfbench.testing import check_attack
from nfbench_attacks.random_search import BLOCK, PROBES, RandomSearch

BUDGET = Budget("linf", 0.3)


def searched(b, points, *, queries=None, adaptive=True, budget=BUDGET, watch=None):
    victim = b.victim if adaptive else Victim(b.classifier)
    recorder = Recorder(victim, b.split.x, b.split.y, budget, Access.SCORES, queries=queries)
    if watch is not None:
        real = recorder.query

        def query(x, rows=None, *, record=True, features=False):
            watch.append((x, rows, record))
            return real(x, rows, record=record, features=features)

        recorder.query = query
    objective = OBJECTIVES["margin"](recorder, b.split.y, victim.alarm)
    draws = Draws(0, b.split.index.tolist())
    return RandomSearch(points=points).perturb(objective, b.split.x, budget, draws), recorder


def plain(b, row, points, eps):
    """One image's points, their scores and whether they are misclassified, by definition."""
    x, index = b.split.x[row], int(b.split.index[row])
    generator = torch.Generator().manual_seed(seed_of(0, "point", index))
    found = []
    for _ in range(points):
        noise = torch.rand(x.shape, generator=generator)
        found.append((x + (2 * noise - 1) * eps).clamp(0, 1))
    found = torch.stack(found)
    with torch.no_grad():
        seen = b.victim.observe(found)
    return found, seen.score, seen.logits.argmax(1) != b.split.y[row]


def test_the_contract_is_kept():
    check_attack(RandomSearch())


@pytest.mark.parametrize("points", [1, BLOCK - 1, BLOCK + 44])
def test_the_best_score_is_that_of_a_plain_loop(points):
    b = digits().take(40)
    images, recorder = searched(b, points)
    hits = 0
    for row in range(40):
        found, score, wrong = plain(b, row, points, 0.3)
        if not wrong.any():
            assert recorder.evasion_score[row] == math.inf
            continue
        hits += 1
        lowest = score.masked_fill(~wrong, math.inf)
        assert torch.allclose(recorder.evasion_score[row], lowest.min(), atol=1e-5)
        assert torch.allclose(images[row], found[lowest.argmin()], atol=1e-6)
        assert torch.equal(images[row], recorder.best[row])
    assert hits > 8 * (points > 1)
    assert hits < 40


def test_where_the_detector_is_unknown_the_first_misclassified_point_is_kept():
    b = digits().take(40)
    images, recorder = searched(b, 300, adaptive=False)
    firsts = []
    for row in range(40):
        found, _, wrong = plain(b, row, 300, 0.3)
        assert bool(recorder.finished[row]) == bool(wrong.any())
        if wrong.any():
            firsts.append(int(wrong.int().argmax()))
            assert torch.allclose(images[row], found[firsts[-1]], atol=1e-6)
    assert max(firsts) > 0
    assert (recorder.forward[recorder.finished] <= 300 + 2).all()


def test_a_longer_search_begins_with_the_points_of_a_shorter_one():
    b, short, long = digits().take(3), [], []
    low = searched(b, 300, watch=short)[1].evasion_score
    lower = searched(b, 700, watch=long)[1].evasion_score
    for row in range(3):
        one, other = (
            torch.cat([x[rows == row] for x, rows, record in seen if not record])
            for seen in (short, long)
        )
        assert (len(one), len(other)) == (300, 700)
        assert torch.equal(one, other[:300])
    assert (lower <= low).all()


@pytest.mark.parametrize("adaptive", [False, True])
def test_alone_and_in_blocks_of_any_number_of_images_the_result_is_the_same(adaptive, monkeypatch):
    b = digits().take(9)
    together, recorder = searched(b, 600, adaptive=adaptive)
    monkeypatch.setitem(PROBES, "cpu", 4 * BLOCK)
    fours, other = searched(b, 600, adaptive=adaptive)
    assert torch.equal(together, fours)
    assert torch.equal(recorder.forward, other.forward)
    for row in (0, 5):
        one = type(b)(b.victim, b.split.take(torch.tensor([row])))
        alone, single = searched(one, 600, adaptive=adaptive)
        assert torch.equal(alone[0], together[row])
        assert single.forward[0] == recorder.forward[row]


def test_points_are_uniform_in_the_ball():
    b, seen = digits().take(2), []
    b = type(b)(b.victim, type(b.split)(torch.full((2, 1, 8, 8), 0.5), b.split.y, b.split.index))
    searched(b, 2000, watch=seen, budget=Budget("linf", 0.2))
    noise = torch.cat([x for x, _, record in seen if not record]) - 0.5
    assert noise.abs().max() <= 0.2 + 1e-7
    shares = torch.histc(noise, 10, -0.2, 0.2) / noise.numel()
    assert (shares - 0.1).abs().max() < 0.003
    assert noise.flatten(1).mean(0).abs().max() < 0.01  # sd of a mean is 0.0018


@pytest.mark.parametrize("queries", [1, 2, 100, BLOCK + 1, 400])
@pytest.mark.parametrize("adaptive", [False, True])
def test_no_image_is_asked_about_more_often_than_granted(queries, adaptive):
    b = digits().take(20)
    images, recorder = searched(b, 10_000, queries=queries, adaptive=adaptive)
    assert recorder.forward.max() <= queries
    assert recorder.forward.max() >= queries - 1
    assert BUDGET.contains(b.split.x, images).all()


def test_only_one_point_of_a_block_counts():
    seen = []
    _, recorder = searched(digits().take(20), 4 * BLOCK, watch=seen)
    assert sum(record for _, _, record in seen) <= 4
    assert (recorder.forward >= 4 * BLOCK).all()
    assert (recorder.forward <= 4 * BLOCK + 4).all()
