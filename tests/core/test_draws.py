"""Random numbers belong to an image: not to its batch, its place in it, or its neighbours."""

import pytest
import torch
from scipy import stats

from nfbench.core.draws import Draws, seed_of

LIKE = torch.zeros(1, 2, 3, 3)
KINDS = ["uniform", "normal", "signs", "integers"]


def like(count: int) -> torch.Tensor:
    return LIKE.expand(count, -1, -1, -1)


def draw(draws: Draws, kind: str, role: str = "role") -> torch.Tensor:
    if kind == "integers":
        return draws.integers(role, 1000)
    if kind == "signs":
        return draws.signs(role, 5, like(len(draws)))
    return getattr(draws, kind)(role, like(len(draws)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_draws_the_same_alone_as_in_any_batch(kind):
    together = draw(Draws(7, [3, 14, 15, 92]), kind)
    reordered = draw(Draws(7, [92, 65, 3]), kind)
    alone = draw(Draws(7, [92]), kind)
    assert torch.equal(together[3], alone[0])
    assert torch.equal(reordered[0], alone[0])
    assert torch.equal(reordered[2], together[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_draw_goes_on_where_the_first_ended_whatever_the_batch(kind):
    alone, together = Draws(7, [5]), Draws(7, [4, 5])
    first, second = draw(alone, kind), draw(alone, kind)
    assert torch.equal(draw(together, kind)[1], first[0])
    assert torch.equal(draw(together, kind)[1], second[0])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_reproducible_and_differ_by_seed_role_and_image(kind):
    base = draw(Draws(7, [5]), kind)
    assert torch.equal(base, draw(Draws(7, [5]), kind))
    assert not torch.equal(base, draw(Draws(8, [5]), kind))
    assert not torch.equal(base, draw(Draws(7, [6]), kind))
    assert not torch.equal(base, draw(Draws(7, [5]), kind, role="other"))


def test_roles_do_not_advance_each_other():
    quiet, busy = Draws(7, [5]), Draws(7, [5])
    draw(busy, "uniform", "other")
    assert torch.equal(draw(quiet, "uniform"), draw(busy, "uniform"))


def test_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = draw(Draws(7, [5]), "normal")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw(Draws(7, [5]), "normal"), first)


@pytest.mark.parametrize("rows", [[2, 0], torch.tensor([2, 0])])
def test_selected_images_share_the_streams_of_the_whole(rows):
    whole = Draws(7, [10, 11, 12])
    expected = {}
    for index in (10, 11, 12):
        alone = Draws(7, [index])
        expected[index] = [draw(alone, "uniform")[0] for _ in range(3)]
    draw(whole, "uniform")
    part = whole.select(rows)
    drawn = draw(part, "uniform")
    assert torch.equal(drawn[0], expected[12][1])
    assert torch.equal(drawn[1], expected[10][1])
    after = draw(whole, "uniform")
    assert torch.equal(after[0], expected[10][2])
    assert torch.equal(after[1], expected[11][1])
    assert torch.equal(after[2], expected[12][2])


def test_a_stream_started_in_a_selection_goes_on_in_the_whole():
    whole, alone = Draws(7, [10, 11]), Draws(7, [11])
    first, second = draw(alone, "uniform"), draw(alone, "uniform")
    assert torch.equal(draw(whole.select([1]), "uniform"), first)
    assert torch.equal(draw(whole, "uniform")[1], second[0])


def test_draws_come_shaped_and_typed_as_asked():
    draws = Draws(0, [1, 2])
    assert draws.uniform("u", like(2).double()).dtype is torch.float64
    assert draws.uniform("u", like(2)).shape == (2, 2, 3, 3)
    assert draws.signs("s", 4, like(2)).shape == (2, 4, 2, 3, 3)
    assert draws.integers("i", 9).dtype is torch.int64


def test_uniform_and_normal_draws_have_their_distributions_across_images():
    draws = Draws(0, range(600))
    uniform = draws.uniform("u", like(600)).flatten().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(draws.normal("n", like(600)).flatten().numpy(), "norm").pvalue > 1e-3


def test_neighbouring_images_are_uncorrelated():
    uniform = Draws(0, range(400)).uniform("u", torch.zeros(400, 1, 8, 8)).flatten(1).numpy()
    correlation = stats.pearsonr(uniform[:-1].ravel(), uniform[1:].ravel())
    assert abs(correlation.statistic) < 4 / (399 * 64) ** 0.5


def test_signs_are_fair_coins():
    signs = Draws(0, range(200)).signs("s", 8, like(200))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 4 / signs.numel() ** 0.5


def test_integers_are_uniform_and_below_their_bound():
    drawn = Draws(0, range(3000)).integers("i", 9)
    counts = drawn.bincount(minlength=9)
    assert len(counts) == 9
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_seeds_are_the_same_on_every_machine_and_keep_their_parts_apart():
    assert seed_of("neuralfp", 0) == 5016222321367799991
    assert seed_of("a", "b") != seed_of("ab")
    assert seed_of(1, 23) != seed_of(12, 3)
    assert min(seed_of(i) for i in range(100)) >= 0
    assert max(seed_of(i) for i in range(100)) < 2**63
