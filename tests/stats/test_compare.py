"""Paired tests, Holm's correction, ranks and letters."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nfbench.stats import compare
from nfbench.stats.letters import letters
from nfbench.stats.two_sources import Sources, chance, reach


def board(rng, rates, seeds, n, spread=0.4):
    """Rows of outcomes: images are hard or easy for all, rows and seeds differ in the mean logit."""
    logits = stats.norm.ppf(np.array(rates))[:, None, None] * math.sqrt(2)
    logits = logits + spread * (seeds > 1) * rng.normal(size=(len(rates), seeds, 1))
    shape = (len(rates), seeds, n)
    noise = rng.normal(size=(1, 1, n)) + 0.3 * rng.normal(size=shape)
    return {f"row {i}": row for i, row in enumerate((logits + noise > 0).astype(float))}


def test_identical_rows_have_p_1_and_a_difference_of_0():
    row = np.random.default_rng(0).integers(2, size=(3, 50)).astype(float)
    assert compare.paired_difference(row, row) == (0, 0, 0, 1)


def test_one_seed_agrees_with_the_paired_t_test():
    a, b = np.random.default_rng(1).normal([[0.1], [0.0]], size=(2, 400))
    found = compare.paired_difference(a, b)
    expected = stats.ttest_rel(a, b)
    assert found.value == pytest.approx((a - b).mean())
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)
    low, high = expected.confidence_interval()
    assert found[1:3] == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 0), (8, 1), (12, 4), (30, 12)])
def test_one_seed_of_booleans_is_near_mcnemars_exact_test(only_a, only_b):
    a, b = np.zeros(300), np.zeros(300)
    a[:only_a], b[only_a : only_a + only_b] = 1, 1
    exact = stats.binomtest(only_a, only_a + only_b).pvalue
    assert exact / 2 < compare.paired_difference(a, b).p < 1.6 * exact


def test_seeds_that_differ_count_as_three_and_not_as_nine_hundred():
    gaps = np.array([[0.3], [0.1], [0.2]]) + np.zeros((3, 300))
    found = compare.paired_difference(gaps, np.zeros((3, 300)))
    expected = stats.ttest_1samp([0.3, 0.1, 0.2], 0)
    assert found.p == pytest.approx(expected.pvalue, rel=0.02)


def test_rows_are_compared_over_common_images_only():
    a = np.array([[1.0, 0, 1, np.nan, 1], [0, 1, 1, 1, np.nan]])
    b = np.array([[np.nan, 0, 0, 0, 1], [0, 1, np.nan, 0, 1]])
    value = ((0 + 1 + 0) / 3 + (0 + 0 + 1) / 3) / 2
    assert compare.paired_difference(a, b).value == pytest.approx(value)
    nothing = compare.paired_difference([1.0, np.nan], [np.nan, 1.0])
    assert nothing.p == 1
    assert math.isnan(nothing.value)


def test_a_seed_that_one_row_lacks_is_left_out():
    a, b = np.random.default_rng(2).normal(size=(2, 3, 40))
    b[2] = np.nan
    assert compare.paired_difference(a, b) == compare.paired_difference(a[:2], b[:2])


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_differences_are_covered(seeds):
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        rows = list(board(rng, [0.4, 0.4], seeds, 150).values())
        found = compare.paired_difference(*rows)
        covered += found.low <= 0 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high) or abs(found.p - 0.05) < 1e-3
    assert covered / 300 >= 0.92


def test_holm_multiplies_the_smallest_most():
    assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert compare.holm([0.9, 0.5]).tolist() == [1, 1]
    assert compare.holm([]).tolist() == []


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_equal_rows_are_rarely_split(seeds):
    """At most one board in twenty, give or take two standard errors of 200 boards."""
    rng = np.random.default_rng(4)
    boards = [compare.ranking(board(rng, [0.3] * 5, seeds, 120)) for _ in range(200)]
    assert np.mean([any(row.letters != "a" for row in rows) for rows in boards]) <= 0.05 + 0.03


@pytest.mark.parametrize("seeds", [1, 5])
def test_planted_groups_are_told_apart(seeds):
    rng = np.random.default_rng(5)
    rows = board(rng, [0.9, 0.05, 0.5, 0.05, 0.9], seeds, 400, spread=0.1)
    ranked = compare.ranking(rows)
    assert [row.rank for row in ranked] == [1, 1, 3, 4, 4]
    assert {row.name for row in ranked[:2]} == {"row 1", "row 3"}
    assert [(row.rank_low, row.rank_high) for row in ranked] == [(1, 2), (1, 2), (3, 3), (4, 5), (4, 5)]
    assert [row.letters for row in ranked] == ["a", "a", "b", "c", "c"]
    turned = compare.ranking(rows, lower_is_better=False)
    assert [row.rank for row in turned] == [1, 1, 3, 4, 4]
    assert turned[0].name in {"row 0", "row 4"}


def test_rows_that_cannot_be_told_apart_share_a_rank_and_ranks_claim_no_false_order():
    rng = np.random.default_rng(6)
    rows = board(rng, np.linspace(0.2, 0.7, 9), 1, 150)
    ranked = compare.ranking(rows)
    beats = compare.separated({row.name: rows[row.name] for row in ranked})
    assert 0 < beats.sum() < 36
    for i, j in combinations(range(9), 2):
        alike = not (beats[i, j] or beats[j, i])
        assert alike == bool(set(ranked[i].letters) & set(ranked[j].letters))
        assert not alike or ranked[i].rank == ranked[j].rank
    for row, wins, losses in zip(ranked, beats.sum(1), beats.sum(0), strict=True):
        assert (row.rank_low, row.rank_high) == (1 + losses, 9 - wins)
        assert row.rank <= row.rank_low


def test_one_row_and_rows_without_images_have_a_rank():
    assert compare.ranking({"only": np.zeros((1, 3))}) == [compare.Ranked("only", 0.0, 1, 1, 1, "a")]
    found = compare.ranking({"empty": np.full((1, 30), np.nan), "full": np.zeros((1, 30))})
    assert [(row.name, row.rank, row.rank_high) for row in found] == [("full", 1, 2), ("empty", 1, 2)]


@given(
    st.integers(1, 8).flatmap(lambda r: st.tuples(st.just(r), st.lists(st.booleans(), min_size=r * r)))
)
def test_letters_are_shared_by_those_alike_and_no_others(drawn):
    rows, flags = drawn
    alike = np.triu(np.array(flags[: rows * rows]).reshape(rows, rows), 1)
    alike = alike | alike.T | np.eye(rows, dtype=bool)
    found = letters(alike)
    for i in range(rows):
        for j in range(rows):
            assert bool(set(found[i]) & set(found[j])) == alike[i, j]
    assert found[0].startswith("a")


@pytest.mark.parametrize(("seeds", "images"), [(1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("t", [0.5, 3.0, 40.0])
def test_one_source_of_variance_is_students_t(seeds, images, t):
    degrees = 2 if seeds else 30
    assert chance(t, Sources(seeds, 2, images, 30)) == pytest.approx(
        2 * stats.t.sf(t, degrees), rel=1e-4
    )


def test_two_sources_are_the_behrens_fisher_distribution():
    rng = np.random.default_rng(7)
    sources = Sources(0.5, 2, 1.0, 40)
    sums = math.sqrt(0.5) * rng.standard_t(2, 400_000) + rng.standard_t(40, 400_000)
    for far in (1.0, 3.0, 8.0):
        assert chance(far, sources) == pytest.approx((abs(sums) > far).mean(), rel=0.05)
    assert chance(reach(sources, level=0.9), sources) == pytest.approx(0.1, abs=1e-4)
    assert reach(Sources(0, 1, 0, 1)) == 0
