"""The AUROC's clustered variance and its interval."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from nfbench.stats import auroc
from nfbench.stats.intervals import wilson

SCORES = st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.25, 1.0, 3.0, math.inf])
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=12)


def columns(pairs):
    clean, adversarial = zip(*pairs, strict=True)
    return np.array(clean), np.array(adversarial)


def by_hand(clean, adversarial):
    """AUROC and DeLong's (1988) components from all M N pairs."""
    wins = (adversarial[:, None] > clean[None]) + 0.5 * (adversarial[:, None] == clean[None])
    return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)


@given(PAIRS)
def test_placements_are_exact_under_ties_and_infinities(pairs):
    clean, adversarial = columns(pairs)
    value, below, above = by_hand(clean, adversarial)
    found = auroc.placements(clean, adversarial)
    np.testing.assert_allclose(found[0], below, atol=1e-12)
    np.testing.assert_allclose(found[1], above, atol=1e-12)
    assert auroc.influence(clean, adversarial).value == pytest.approx(value)


@given(PAIRS)
def test_a_monotone_map_changes_nothing(pairs):
    clean, adversarial = columns(pairs)
    assert auroc.interval(np.arctan(clean), np.arctan(adversarial)) == auroc.interval(clean, adversarial)


@given(PAIRS)
@example([(-math.inf, -math.inf), (-math.inf, -math.inf), (-2.0, -2.0)])  # images that cancel
def test_turning_the_sign_mirrors_the_interval(pairs):
    clean, adversarial = columns(pairs)
    low, high = auroc.interval(clean, adversarial)
    turned = auroc.interval(-clean, -adversarial)
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert 0 <= low <= auroc.influence(clean, adversarial).value <= high <= 1


def test_images_of_one_version_each_give_delongs_variance():
    rng = np.random.default_rng(0)
    clean, adversarial = rng.normal(size=40).round(1), rng.normal(1, 2, 55).round(1)
    _, below, above = by_hand(clean, adversarial)
    found = auroc.influence(clean, adversarial, np.arange(40), np.arange(40, 95))
    assert found.variance == pytest.approx(below.var(ddof=1) / 55 + above.var(ddof=1) / 40)


def test_hanley_and_mcneils_ratings_give_the_published_error():
    """Radiology 143 (1982), table I: 58 normal and 51 abnormal CT images in five categories.

    AUROC 0.8932, DeLong's standard error 0.0307, Wald interval 0.8330 to 0.9534, as statistics packages
    print them for these data.
    """
    normal, abnormal = np.repeat(range(5), [33, 6, 6, 11, 2]), np.repeat(range(5), [3, 2, 2, 11, 33])
    found = auroc.influence(normal, abnormal, np.arange(58), np.arange(58, 109))
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert math.sqrt(found.variance) == pytest.approx(0.0307, abs=5e-5)
    assert found.value - 1.959964 * math.sqrt(found.variance) == pytest.approx(0.83295, abs=5e-5)


@pytest.mark.parametrize("correlation", [0.8, -0.6])
def test_the_variance_is_that_of_resampled_images(correlation):
    """Some images have no adversarial version, some two clean ones."""
    rng = np.random.default_rng(4)
    n = 90
    clean, noise = rng.normal(size=n), rng.normal(size=n)
    attacked = np.arange(20, n)
    adversarial = 1 + (correlation * clean + math.sqrt(1 - correlation**2) * noise)[attacked]
    negatives, owners = (
        np.concatenate([clean, clean[:30] + 0.3]),
        np.concatenate([np.arange(n), np.arange(30)]),
    )
    found = auroc.influence(negatives, adversarial, owners, attacked)
    weights = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(20_000)])
    wins = (adversarial[:, None] > negatives[None]).astype(float)
    own, other = weights[:, attacked], weights[:, owners]
    values = np.einsum("bm,mn,bn->b", own, wins, other, optimize=True) / (own.sum(1) * other.sum(1))
    assert found.variance == pytest.approx(values.var(), rel=0.06)
    apart = auroc.influence(negatives, adversarial, np.arange(120), np.arange(120, 190))
    assert abs(apart.variance / values.var() - 1) > 0.15  # plain DeLong


def test_a_perfect_detector_has_wilsons_lower_limit():
    assert auroc.interval(np.zeros(80), np.ones(80)) == pytest.approx(wilson(80, 80))
    assert auroc.interval(np.ones(80), np.zeros(80)) == pytest.approx(wilson(0, 80))
    few = auroc.interval(np.zeros(80), np.ones(7), np.arange(80), np.arange(7))
    assert few == pytest.approx(wilson(7, 7))


def test_one_misplaced_image_widens_the_interval_of_a_perfect_detector():
    adversarial = np.r_[np.full(99, 2.0), -1.0]
    low, high = auroc.interval(np.linspace(0, 1, 100), adversarial)
    assert low == pytest.approx(wilson(99, 100).low, abs=0.005)
    assert high == pytest.approx(wilson(99, 100).high, abs=0.002)


def test_images_and_scores_must_be_as_many():
    with pytest.raises(ValueError, match="one image a score"):
        auroc.interval(np.zeros(3), np.ones(3), np.arange(2), np.arange(3))
    with pytest.raises(ValueError, match="without NaN"):
        auroc.interval(np.array([0, math.nan]), np.ones(2))


def drawn(rng, n, kind, target):
    """Clean and adversarial scores of n images with that AUROC, and its exact value."""
    correlation, infinite, step = kind
    clean, noise = rng.normal(size=(2, n))
    shift = math.sqrt(2) * stats.norm.ppf((target - infinite) / (1 - infinite))
    adversarial = correlation * clean + math.sqrt(1 - correlation**2) * noise + shift
    true = target
    if step:
        clean, adversarial = np.floor(clean / step), np.floor(adversarial / step)
        edges = step * np.arange(-40, 60)
        normal, attacked = (np.diff(stats.norm.cdf(edges - mean)) for mean in (0, shift))
        true = float(attacked @ (np.cumsum(normal) - normal / 2))
    adversarial[rng.random(n) < infinite] = math.inf
    return clean, adversarial, true


KINDS = [(-0.5, 0, 0), (0.9, 0, 0), (0.5, 0, 1.0), (0.7, 0.5, 0)]


@pytest.mark.parametrize("target", [0.8, 0.95, 0.99, 0.999])
def test_intervals_cover(target):
    rng = np.random.default_rng(7)
    shares = []
    for kind in KINDS:
        for n, repeats in ((50, 150), (300, 150), (2000, 50)):
            hits = 0
            for _ in range(repeats):
                clean, adversarial, true = drawn(rng, n, kind, target)
                low, high = auroc.interval(clean, adversarial)
                hits += low <= true <= high
            shares.append((hits / repeats, n * (1 - target)))
    assert np.mean([share for share, _ in shares]) >= 0.935
    assert min(share for share, _ in shares) >= 0.88
    assert np.mean([share for share, wrong in shares if wrong >= 10] or [0.95]) <= 0.97


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("expected", [1, 4])
def test_where_nothing_may_be_misplaced_the_lower_limit_covers(n, expected):
    """Images are evaded altogether or not at all, `expected` of n; the limit of none is at 3.8."""
    rng, missed, perfect = np.random.default_rng(8), 0, 0
    for _ in range(500):
        adversarial = np.where(rng.random(n) < expected / n, -math.inf, math.inf)
        low, high = auroc.interval(rng.normal(size=n), adversarial)
        perfect += high == 1
        missed += low > 1 - expected / n
    assert perfect > 0
    assert missed / 500 <= 0.07
