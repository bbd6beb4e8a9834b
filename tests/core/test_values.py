"""Budgets, norms and splits: what lies inside a ball, and what a projection leaves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.core.values import Access, Budget, Split, norm, per_image

SEEDS = st.integers(0, 2**31)


def images(seed: int, count: int = 5, size: int = 6) -> torch.Tensor:
    return torch.rand(count, 2, size, size, generator=torch.Generator().manual_seed(seed))


def noise(seed: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("kind", ["linf", "l2"])
@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=st.floats(1e-4, 8.0), scale=st.floats(1e-3, 1e3))
def test_a_projection_lies_inside_the_ball_and_the_box(kind, seed, eps, scale):
    x = images(seed)
    budget = Budget(kind, eps)
    projected = budget.project(x, x + scale * noise(seed, x))
    assert budget.contains(x, projected).all()


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=st.floats(1e-3, 1.0))
def test_the_linf_projection_is_the_nearest_value_pixel_by_pixel(seed, eps):
    x = images(seed, 2, 3).double()
    wanted = x + noise(seed, x)
    projected = Budget("linf", eps).project(x, wanted)
    for p, pixel, w in zip(projected.flatten(), x.flatten(), wanted.flatten(), strict=True):
        low, high = max(0.0, float(pixel) - eps), min(1.0, float(pixel) + eps)
        assert math.isclose(float(p), min(max(float(w), low), high), abs_tol=1e-12)


def test_the_l2_projection_away_from_the_box_keeps_the_direction_and_takes_length_eps():
    x = torch.full((1, 1, 2, 2), 0.5)
    delta = torch.tensor([[[[0.3, 0.0], [-0.4, 0.0]]]])  # length 0.5
    moved = Budget("l2", 0.25).project(x, x + delta) - x
    assert torch.allclose(moved, delta / 2, atol=1e-7)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_a_point_inside_is_left_where_it_is(kind):
    x = torch.full((1, 1, 2, 2), 0.5)
    inside = x + 0.01
    assert torch.allclose(Budget(kind, 0.1).project(x, inside), inside, atol=1e-7)


def test_an_unbounded_projection_only_clips_to_the_box():
    x = images(0)
    far = x + 3 * noise(0, x)
    budget = Budget("l2", math.inf)
    assert not budget.bounded
    assert torch.allclose(budget.project(x, far), far.clamp(0, 1), atol=1e-6)


def test_an_l0_ball_has_no_projection_unless_it_is_unbounded():
    x = images(0)
    with pytest.raises(ValueError, match="l0"):
        Budget("l0", 3).project(x, x)
    assert torch.equal(Budget("l0", math.inf).project(x, x), x)


@pytest.mark.parametrize("eps", [1e-3, 8 / 255, 0.1, 0.3])
def test_contains_accepts_eps_and_refuses_a_millionth_more_in_linf(eps):
    x = torch.full((1, 1, 3, 3), 0.5)
    budget = Budget("linf", eps)
    for sign in (-1, 1):
        for excess, inside in ((0.0, True), (1e-6, False)):
            moved = x.clone()
            moved[0, 0, 1, 1] += sign * (eps + excess)
            assert budget.contains(x, moved).item() is inside


@pytest.mark.parametrize("eps", [0.05, 0.5, 1.5])
def test_contains_accepts_eps_and_refuses_one_in_ten_thousand_more_in_l2(eps):
    x = torch.full((1, 1, 28, 28), 0.5)
    direction = noise(3, x) / noise(3, x).norm()
    budget = Budget("l2", eps)
    assert budget.contains(x, x + eps * direction).all()
    assert not budget.contains(x, x + eps * 1.0001 * direction).any()


def test_contains_counts_changed_entries_in_l0():
    x = torch.full((1, 1, 3, 3), 0.5)
    moved = x.clone()
    moved.view(-1)[:4] += 1e-6
    assert Budget("l0", 4).contains(x, moved).item() is True
    assert Budget("l0", 3).contains(x, moved).item() is False


@pytest.mark.parametrize("value", [-1e-9, 1 + 2.0**-23, math.nan, math.inf])
@pytest.mark.parametrize("eps", [0.1, math.inf])
def test_a_pixel_outside_the_box_is_never_inside(value, eps):
    x = torch.zeros(2, 1, 2, 2) if value < 0 else torch.ones(2, 1, 2, 2)
    moved = x.clone()
    moved[1, 0, 0, 0] = value
    assert Budget("linf", eps).contains(x, moved).tolist() == [True, False]


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS)
def test_norms_equal_a_loop_over_the_pixels(seed):
    delta = noise(seed, images(seed, 3, 3)).double()
    delta[delta.abs() < 0.5] = 0
    for row, linf, l2, l0 in zip(delta, *(norm(delta, k) for k in ("linf", "l2", "l0")), strict=True):
        pixels = row.flatten().tolist()
        assert float(linf) == max(abs(p) for p in pixels)
        assert float(l2) == pytest.approx(math.sqrt(sum(p * p for p in pixels)), rel=1e-12)
        assert float(l0) == sum(p != 0 for p in pixels)


def test_a_size_is_measured_in_float64():
    x = torch.full((1, 1, 1, 2), 0.1)
    size = Budget("l2", 1.0).size(x, x + 0.2)
    moved = (x + 0.2).double() - x.double()
    assert size.dtype is torch.float64
    assert float(size) == pytest.approx(float(moved.norm()), rel=1e-15)


def test_per_image_broadcasts_one_number_over_an_image():
    scaled = per_image(torch.tensor([1.0, 2.0]), torch.ones(2, 3, 4, 4)) * torch.ones(2, 3, 4, 4)
    assert scaled.flatten(1).sum(1).tolist() == [48.0, 96.0]


def test_more_access_grants_what_less_does():
    assert Access.DECISION < Access.SCORES < Access.GRADIENT


def test_a_split_takes_rows_by_mask_and_by_index_together_with_their_labels():
    split = Split(images(1), torch.tensor([4, 3, 2, 1, 0]), torch.tensor([10, 11, 12, 13, 14]))
    masked = split.take(split.y > 2)
    assert len(masked) == 2
    assert masked.y.tolist() == [4, 3]
    assert masked.index.tolist() == [10, 11]
    assert torch.equal(split.take(torch.tensor([3, 0])).x, split.x[[3, 0]])
