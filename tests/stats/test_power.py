"""How many images and seeds a difference needs, beside simulated tests."""

import math

import numpy as np
import pytest
from scipy import stats

from nfbench.stats import power
from nfbench.stats.compare import paired_difference
from nfbench.stats.power import Components

PILOT = Components(seeds=0.001, images=0.06, interaction=0.2, basis="planted")


def gaps(rng, components, n, seeds):
    """Differences (S, I) with those components."""
    own = rng.normal(scale=math.sqrt(components.seeds), size=(seeds, 1))
    image = rng.normal(scale=math.sqrt(components.images), size=(1, n))
    rest = rng.normal(scale=math.sqrt(components.interaction), size=(seeds, n))
    return own * (seeds > 1) + image + rest


@pytest.mark.parametrize(("n", "seeds", "pairs"), [(150, 1, 1), (300, 5, 1), (200, 3, 1), (200, 10, 28)])
def test_the_promised_share_of_differences_is_found(n, seeds, pairs):
    rng = np.random.default_rng(0)
    gap = power.detectable(n, seeds, PILOT, pairs=pairs)
    rows = [gap + gaps(rng, PILOT, n, seeds) for _ in range(300)]
    found = np.mean([paired_difference(row, np.zeros_like(row)).p < 0.05 / pairs for row in rows])
    assert found == pytest.approx(0.8, abs=0.1)


def test_one_seed_needs_the_textbooks_number_of_images():
    """n = (z_.975 + z_.8)^2 variance / difference^2, 1963 for 0.02 and a variance of 0.1."""
    found = power.images_needed(0.02, Components(0, 0.1, 0, ""), seeds=[1])
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 0.1 / 0.02**2
    assert found[1] == pytest.approx(expected, rel=0.005)


def test_the_number_of_images_is_the_least_that_is_enough():
    found = power.images_needed(0.08, PILOT, seeds=(1, 10, 20), pairs=6)
    for seeds, n in found.items():
        assert power.detectable(n, seeds, PILOT, pairs=6) <= 0.08
        assert power.detectable(n - 1, seeds, PILOT, pairs=6) > 0.08


def test_images_do_not_make_up_for_seeds():
    found = power.images_needed(0.02, PILOT)
    assert list(found) == [1, 3, 5, 10]
    assert found[1] is not None
    assert found[3] is None


def test_more_pairs_need_more_images():
    alone, many = (power.images_needed(0.1, PILOT, seeds=[1], pairs=pairs)[1] for pairs in (1, 91))
    assert alone < many < 4 * alone


def test_a_pilot_gives_its_components():
    rng = np.random.default_rng(1)
    planted = Components(0.01, 0.3, 0.5, "")
    rows = {str(i): gaps(rng, planted, 600, 12) / math.sqrt(2) for i in range(6)}
    found = power.piloted(rows)
    assert found.images == pytest.approx(0.3, rel=0.15)
    assert found.interaction == pytest.approx(0.5, rel=0.1)
    assert found.seeds == pytest.approx(0.01, rel=0.5)
    assert "15 pairs" in found.basis


def test_a_pilot_of_one_seed_says_what_it_cannot_know():
    rng = np.random.default_rng(2)
    found = power.piloted({"a": rng.normal(size=(1, 900)), "b": np.r_[np.nan, np.zeros(899)]})
    assert found.images == pytest.approx(1, rel=0.1)
    assert found.seeds == found.interaction == 0
    assert "unknown" in found.basis


def test_without_a_pilot_the_basis_says_so():
    found = power.assumed()
    assert found.images == 0.5
    assert "no pilot" in found.basis
    with pytest.raises(ValueError, match="common images"):
        power.piloted({"a": np.zeros((1, 5))})
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        power.images_needed(0, found)
