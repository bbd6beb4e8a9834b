"""Distances to a reference batch and the dimension they suggest, against closed forms."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from nfbench_defenses.lid_distances import (
    LARGEST,
    SMALLEST,
    lid,
    reference_of,
    rows_of,
    squared_distances,
)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def exact(a, b):
    """Squared distances from float64 differences."""
    return (a.double()[:, None] - b.double()).square().sum(2)


def apart(found, wanted):
    return float(((found.double() - wanted) / wanted).abs().max())


def test_distances_of_one_two_and_four_have_dimension_three_over_three_log_two():
    squared = torch.tensor([[64.0, 0.0, 4.0, 1.0, 16.0]])
    assert float(lid(squared, 3)) == pytest.approx(1 / math.log(2), abs=1e-6)
    assert float(lid(squared, 3)) == pytest.approx(1.442695, abs=1e-6)


def test_a_kept_first_neighbour_counts_as_one_at_the_smallest_distance():
    squared = torch.tensor([[64.0, 0.0, 4.0, 1.0, 16.0]])
    wanted = -3 / (math.log(SMALLEST / 2) + math.log(1 / 2))
    assert float(lid(squared, 3, skip_first=False)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("radius", [0.0, 3.0])
def test_neighbours_that_are_all_equally_far_have_the_largest_dimension(radius):
    squared = torch.full((2, 9), radius).requires_grad_()
    found = lid(squared, 5)
    (slope,) = torch.autograd.grad(found.sum(), squared)
    assert found.tolist() == [LARGEST, LARGEST]
    assert slope.isfinite().all()


@pytest.mark.parametrize("k", [20, 100])
@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_the_mean_at_the_centre_of_a_ball_is_k_over_k_minus_two_times_its_dimension(dimension, k):
    """Given d_k, each log(d_k / d_i) is exponential with rate m: an inverse gamma variable."""
    trials, points = 400, 300
    direction = torch.nn.functional.normalize(normal(trials, points, dimension), dim=2)
    radius = torch.rand(trials, points, 1, generator=torch.Generator().manual_seed(1))
    ball = torch.cat([torch.zeros(trials, 1, dimension), direction * radius ** (1 / dimension)], 1)
    centre = torch.zeros(1, dimension)
    found = torch.cat([lid(squared_distances(centre, reference_of(b)), k) for b in ball])
    mean = dimension * k / (k - 2)
    error = mean / math.sqrt(k - 3) / math.sqrt(trials)
    assert abs(float(found.mean()) - mean) < 4 * error


CLOUDS = {
    "numbers": (normal(7, 10), normal(40, 10, seed=1)),
    "many": (normal(7, 3000), normal(40, 3000, seed=1)),
    "far from zero": (100 + normal(7, 3000), 100 + normal(40, 3000, seed=1)),
    "far apart": (30 + normal(7, 3000), normal(40, 3000, seed=1)),
    "two clusters": (
        50 * torch.tensor([[0.0], [1.0]] * 3).expand(6, 3000) + normal(6, 3000),
        50 * torch.tensor([[0.0], [1.0]] * 20).expand(40, 3000) + normal(40, 3000, seed=1),
    ),
    "neighbours near": (
        normal(40, 3000, seed=1)[:9] + 1e-3 * normal(9, 3000),
        torch.cat([normal(40, 3000, seed=1), normal(40, 3000, seed=1) + 1e-4]),
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_distances_are_those_of_float64_differences(cloud):
    a, b = CLOUDS[cloud]
    assert apart(squared_distances(a, reference_of(b)), exact(a, b)) < 1e-5
    wanted = exact(a.double(), b)
    assert apart(squared_distances(a.double(), reference_of(b.double())), wanted) < 1e-12


@pytest.mark.parametrize("cloud", CLOUDS)
def test_all_but_the_nearest_distance_are_precise_where_it_is_not_needed(cloud):
    a, b = CLOUDS[cloud]
    found = squared_distances(a, reference_of(b), but_nearest=True).sort(1).values
    assert apart(found[:, 1:], exact(a, b).sort(1).values[:, 1:]) < 1e-5


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_bits_of_a_row_do_not_depend_on_the_others(cloud):
    a, b = CLOUDS[cloud]
    reference = reference_of(b)
    together = squared_distances(torch.cat([a, normal(60, a.shape[1], seed=3)]), reference)
    alone = torch.cat([squared_distances(row[None], reference) for row in a])
    assert torch.equal(together[: len(a)], alone)


@pytest.mark.parametrize("features", [6, 300])
def test_slopes_are_those_of_finite_differences_where_distances_cancel_too(features):
    b = normal(5, features, seed=1, dtype=torch.float64)
    a = torch.cat([b[:2] + 1e-2 * normal(2, features, dtype=torch.float64), 2 * b[2:3]])
    reference = reference_of(b)
    assert gradcheck(lambda x: squared_distances(x, reference), a.requires_grad_(), atol=1e-6)


def test_coincident_rows_are_at_no_distance_and_have_a_slope():
    b = normal(40, 3000)
    a = b[:3].clone().requires_grad_()
    squared = squared_distances(a, reference_of(b))
    (slope,) = torch.autograd.grad(lid(squared, 5, skip_first=False).sum(), a)
    assert squared.diag().tolist() == [0, 0, 0]
    assert slope.isfinite().all()


def test_channels_last_changes_no_distance():
    a, b = normal(33, 8, 12, 12), normal(40, 8, 12, 12, seed=1)
    last = a.contiguous(memory_format=torch.channels_last)
    assert rows_of(last).data_ptr() == last.data_ptr()
    squared = squared_distances(last, reference_of(b))
    assert apart(squared, exact(a.flatten(1), b.flatten(1))) < 1e-5
    assert torch.equal(squared, squared_distances(a, reference_of(b)))
