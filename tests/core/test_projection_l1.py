"""The L1 projection against two independent ways to the nearest point of the ball and the box."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nfbench.core.values import Budget, norm

SEEDS = st.integers(0, 2**31)
EPS = st.sampled_from([1e-3, 0.1, 0.7, 2.0, 6.0, 50.0])
SCALES = st.sampled_from([1e-3, 0.3, 1.0, 30.0])


def drawn(
    seed: int, scale: float, count: int = 4, pixels: int = 12
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, some of whose pixels are 0 or 1, and points around them; float64."""
    random = np.random.default_rng(seed)
    x = np.clip(random.uniform(-0.2, 1.2, (count, pixels)), 0, 1)
    wanted = x + scale * random.normal(size=x.shape) * (random.random(x.shape) < 0.8)
    return tuple(torch.from_numpy(a).view(count, 1, 3, pixels // 3) for a in (x, wanted))


def by_breakpoints(x: np.ndarray, wanted: np.ndarray, eps: float) -> np.ndarray:
    """The nearest point of one image: the norm is linear between the sorted points where it bends.

    Every entry loses the same amount, is not below 0, and not beyond its room in the box.
    """
    delta = wanted - x
    size, room = np.abs(delta), np.where(delta > 0, 1 - x, x)

    def total(loss: float) -> float:
        return float(np.clip(size - loss, 0, room).sum())

    if total(0.0) <= eps:
        return x + np.sign(delta) * np.clip(size, 0, room)
    bends = np.sort(np.concatenate([[0.0], size, np.maximum(size - room, 0)]))
    low = max(b for b in bends if total(b) > eps)
    high = min(b for b in bends if total(b) <= eps)
    loss = low + (high - low) * (total(low) - eps) / (total(low) - total(high))
    return x + np.sign(delta) * np.clip(size - loss, 0, room)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=SEEDS, eps=EPS, scale=SCALES)
def test_it_is_the_point_that_sorting_finds(seed, eps, scale):
    x, wanted = drawn(seed, scale)
    found = Budget("l1", eps).project(x, wanted)
    for f, a, b in zip(*(t.flatten(1).numpy() for t in (found, x, wanted)), strict=True):
        assert np.allclose(f, by_breakpoints(a, b, eps), atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_no_point_that_a_quadratic_program_finds_is_nearer(seed):
    x, wanted = drawn(seed, 0.5, count=1, pixels=6)
    eps = 0.4
    found = Budget("l1", eps).project(x, wanted).flatten().numpy()
    a, b = x.flatten().numpy(), wanted.flatten().numpy()
    # Up and down moves apart, so that the norm is linear: x + up - down.
    solved = minimize(
        lambda p: float(np.square(a + p[:6] - p[6:] - b).sum()),
        np.zeros(12),
        jac=lambda p: np.concatenate([2 * (a + p[:6] - p[6:] - b), -2 * (a + p[:6] - p[6:] - b)]),
        bounds=[(0, 1 - v) for v in a] + [(0, v) for v in a],
        constraints={"type": "ineq", "fun": lambda p: eps - p.sum()},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert solved.success
    assert np.square(found - b).sum() == pytest.approx(solved.fun, rel=1e-6)
    assert np.allclose(found, a + solved.x[:6] - solved.x[6:], atol=1e-5)


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=EPS, scale=SCALES)
@example(seed=0, eps=1e-3, scale=30.0)
def test_it_lies_in_the_ball_and_the_box_in_float32(seed, eps, scale):
    x, wanted = (t.float() for t in drawn(seed, scale, pixels=192))
    found = Budget("l1", eps).project(x, wanted)
    assert found.dtype is torch.float32
    assert Budget("l1", eps).contains(x, found).all()


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=EPS, scale=SCALES)
def test_projecting_twice_changes_nothing(seed, eps, scale):
    x, wanted = drawn(seed, scale)
    once = Budget("l1", eps).project(x, wanted)
    assert torch.allclose(Budget("l1", eps).project(x, once), once, atol=1e-12)


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=EPS, scale=SCALES)
def test_the_ball_is_used_up_where_the_point_lay_outside(seed, eps, scale):
    x, wanted = drawn(seed, scale)
    size = norm(Budget("l1", eps).project(x, wanted) - x, "l1")
    clipped = norm(wanted.clamp(0, 1) - x, "l1")
    assert torch.allclose(size, clipped.clamp_max(eps), atol=1e-9)


@settings(derandomize=True, deadline=None)
@given(seed=SEEDS, eps=EPS, other=st.integers(0, 2**31))
def test_an_image_s_projection_does_not_depend_on_its_neighbours(seed, eps, other):
    x, wanted = (t.float() for t in drawn(seed, 1.0))
    far_x, far = (t.float() for t in drawn(other, 30.0))
    alone = Budget("l1", eps).project(x[:1], wanted[:1])
    together = Budget("l1", eps).project(torch.cat([x[:1], far_x]), torch.cat([wanted[:1], far]))
    assert torch.equal(together[:1], alone)


def test_a_projection_worked_by_hand():
    x = torch.tensor([0.5, 0.5, 0.9, 0.0]).view(1, 1, 2, 2).double()
    wanted = torch.tensor([0.9, 0.4, 1.7, -0.3]).view(1, 1, 2, 2).double()
    # Moves .4, -.1, .8 (room .1), -.3 (no room); losing .15 leaves .25, 0, .1, 0.
    found = Budget("l1", 0.35).project(x, wanted) - x
    assert found.flatten().tolist() == pytest.approx([0.25, 0, 0.1, 0])


def test_a_point_inside_is_left_where_it_is():
    x = torch.full((1, 1, 2, 2), 0.5)
    inside = x + torch.tensor([0.1, -0.05, 0.0, 0.02]).view(1, 1, 2, 2)
    assert torch.allclose(Budget("l1", 0.2).project(x, inside), inside, atol=1e-7)


@pytest.mark.parametrize("eps", [0.05, 1.0, 10.0])
def test_contains_accepts_eps_and_refuses_one_in_a_thousand_more(eps):
    x = torch.full((1, 1, 28, 28), 0.5)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    direction /= direction.abs().sum()
    budget = Budget("l1", eps)
    assert budget.contains(x, x + eps * direction).all()
    assert not budget.contains(x, x + (eps * 1.001 + 2e-4) * direction).any()


def test_an_unbounded_projection_only_clips_to_the_box():
    x, wanted = drawn(3, 1.0)
    assert torch.equal(Budget("l1", float("inf")).project(x, wanted), wanted.clamp(0, 1))
