"""Verdicts: intervals decide, and only where the run is what the claim is about."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from nfbench.records import Value
from nfbench.report.values import deviation
from nfbench.reproduce.evidence import Measured, score_ratio, too_feeble
from nfbench.reproduce.judging import judge, published, too_weak
from nfbench.reproduce.paper import Claim, Reached, papers
from nfbench.stats.intervals import wilson

PAPER = papers()[0]


def claim(**given):
    plain = {"id": "a", "where": "w", "says": "s", "experiment": "e", "value": 0.99, "images": 1328}
    return Claim(**plain | given)


def verdict(one, *values, flagged=""):
    found = [
        Measured(f"cell {i}", Value(value=v, low=lo, high=hi), flagged)
        for i, (v, lo, hi) in enumerate(values)
    ]
    return judge(one, PAPER, found)


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        ((0.991, 0.985, 0.996), "confirmed"),
        ((0.90, 0.87, 0.93), "contradicted"),
        ((0.975, 0.94, 0.99), "inconclusive"),
        ((0.991, 0.6, 0.999), "inconclusive"),  # a point inside says nothing
    ],
)
def test_a_number_is_the_papers_if_the_whole_interval_is_near(ours, word):
    found = verdict(claim(), ours)
    assert found.word == word
    assert found.difference.value == pytest.approx(ours[0] - 0.99)
    assert found.difference.low < ours[1] - 0.99 + 1e-12  # the paper's own error widens it


def test_the_papers_number_has_an_error_too():
    sharp, blunt = (verdict(claim(images=n), (0.975, 0.972, 0.978)) for n in (None, 64))
    assert sharp.word == "confirmed"
    assert blunt.word == "inconclusive"


@pytest.mark.parametrize(("value", "n"), [(0.6, 64), (0.6, 1328), (0.9, 112), (0.9, 1328), (0.99, 1328)])
def test_an_auroc_of_a_paper_is_as_sure_as_hanley_and_mcneil_say(value, n):
    rng = np.random.default_rng(0)
    rate = value / (1 - value)  # of exponential scores, whose AUROC is rate / (1 + rate)
    clean = rng.exponential(1, (400, n))
    attacked = rng.exponential(rate, (400, n))
    draws = [stats.mannwhitneyu(a, c).statistic / n**2 for a, c in zip(attacked, clean, strict=True)]
    found = published(value, "auroc", n)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.96 * statistics.stdev(draws), rel=0.25)


def test_a_perfect_auroc_is_not_perfectly_known():
    at_one, near = published(1.0, "auroc", 112), published(1 - 1e-9, "auroc", 112)
    assert at_one.high == 1.0
    assert at_one.low == pytest.approx(near.low, rel=1e-3)
    assert 0.97 < at_one.low < 0.99


def test_a_rate_of_a_paper_has_wilsons_interval_and_a_mean_none():
    rate = published(0.52, "rate", 100)
    assert (rate.low, rate.high) == pytest.approx(tuple(wilson(52, 100)))
    mean = published(0.47, "mean", 112)
    assert mean.low == mean.value == mean.high


def test_a_bound_is_kept_by_all_or_broken_by_one():
    one = claim(test="at-least", value=0.95)
    assert verdict(one, (0.99, 0.97, 1.0), (0.98, 0.96, 0.99)).word == "confirmed"
    assert verdict(one, (0.99, 0.97, 1.0), (0.97, 0.94, 0.99)).word == "inconclusive"
    broken = verdict(one, (0.99, 0.97, 1.0), (0.8, 0.7, 0.9))
    assert broken.word == "contradicted"
    assert broken.label == "cell 1"
    assert broken.difference.value == pytest.approx(-0.15)


def test_an_upper_bound_is_the_mirror_of_a_lower_one():
    one = claim(test="at-most", value=0.05, kind="rate")
    assert verdict(one, (0.01, 0.0, 0.03)).word == "confirmed"
    assert verdict(one, (0.5, 0.4, 0.6)).word == "contradicted"
    assert verdict(one, (0.05, 0.02, 0.1)).word == "inconclusive"


def test_a_weak_attack_can_break_a_bound_but_not_keep_it():
    kept, broken = (0.99, 0.97, 1.0), (0.5, 0.4, 0.6)
    one = claim(test="at-least", value=0.95)
    assert verdict(one, kept, flagged="not over").word == "inconclusive"
    assert verdict(one, broken, flagged="not over").word == "contradicted"
    told = verdict(claim(), (0.991, 0.985, 0.996), flagged="not over")
    assert (told.word, told.why) == ("confirmed", "within 2 % of the paper's; not over")


def test_without_an_interval_there_is_no_verdict():
    found = judge(claim(), PAPER, [Measured("a", Value(value=0.99, flag="one image"))])
    assert (found.word, found.why) == ("inconclusive", "the scale is too small for an interval")


def test_without_a_number_the_reason_is_told():
    found = judge(claim(), PAPER, [Measured("a", Value(value=None, flag="no success"))])
    assert found.word == "not tested"
    assert "no success" in found.why
    assert judge(claim(), PAPER, []).why.startswith("the run has no such cell")


def test_a_classifier_far_from_the_papers_says_nothing():
    reached = Reached(accuracy=0.85, slack=0.02)
    assert "52.0 % clean accuracy here" in too_weak(reached, "neuralfp", 0.52)
    assert not too_weak(reached, "neuralfp", 0.835)


def test_an_attack_much_weaker_than_the_papers_says_nothing_of_it():
    weak = Value(value=0.48, low=0.41, high=0.55)
    assert "cw fools 48 % of the images at this scale, the paper's 100 %" in too_feeble(1.0, "cw", weak)
    assert not too_feeble(1.0, "cw", Value(value=0.99, low=0.96, high=1.0))
    assert not too_feeble(0.8813, "fgsm", Value(value=0.85, low=0.8, high=0.9))
    good, bad = Value(value=0.99, low=0.985, high=0.995), Value(value=0.5, low=0.4, high=0.6)
    feeble = Measured("a", bad, feeble="cw fools 48 %")
    bound = claim(test="at-least", value=0.95)
    assert judge(bound, PAPER, [feeble]).word == "not tested"
    assert judge(bound, PAPER, [Measured("b", good), feeble]).word == "not tested"
    assert judge(bound, PAPER, [Measured("b", bad), feeble]).word == "contradicted"


def test_a_cell_without_a_number_hides_no_contradiction():
    nothing = Measured("a", Value(value=None, flag="no success"))
    broken = Measured("b", Value(value=0.6, low=0.5, high=0.7))
    kept = Measured("b", Value(value=0.99, low=0.97, high=1.0))
    bound = claim(test="at-least", value=0.95)
    assert judge(bound, PAPER, [nothing, broken]).word == "contradicted"
    assert judge(bound, PAPER, [nothing, kept]).word == "not tested"


def test_a_stronger_attack_would_only_add_to_what_a_weak_one_has_done():
    fails = claim(test="at-most", value=0.1, kind="rate", statistic="robust_accuracy_at_5")
    assert verdict(fails, (0.3, 0.2, 0.4), flagged="quick").word == "inconclusive"
    assert verdict(fails, (0.02, 0.0, 0.05), flagged="quick").word == "confirmed"
    resists = claim(test="at-most", value=0.05, kind="rate", statistic="sr_at_5_fpr")
    assert verdict(resists, (0.9, 0.8, 0.95), flagged="quick").word == "contradicted"


def test_an_attack_that_does_not_get_through_refutes_nothing_and_confirms_nothing():
    resists = claim(test="at-most", value=0.05, kind="rate", statistic="sr_at_5_fpr")
    found = verdict(resists, (0.0, 0.0, 0.03))
    assert (found.word, found.why) == ("inconclusive", "not refuted: at most 5 %")


def test_what_a_paper_does_not_explain_is_not_contradicted():
    found = verdict(claim(ungiven="N is"), (0.90, 0.87, 0.93))
    assert found.word == "inconclusive"
    assert found.why.endswith("but N is not given")
    assert verdict(claim(ungiven="N is"), (0.991, 0.985, 0.996)).word == "confirmed"


def test_one_cell_outside_the_margin_is_enough():
    found = verdict(claim(value=0.5, images=None), (0.53, 0.5, 0.56), (0.525, 0.524, 0.526))
    assert found.word == "contradicted"
    assert found.label == "cell 1"


def test_a_difference_of_the_papers_numbers_has_their_error():
    sharp, blunt = (claim(value=0.03, images=None, margin=0.01, error=e) for e in (None, 0.035))
    assert verdict(sharp, (0.06, 0.055, 0.065)).word == "contradicted"
    assert verdict(blunt, (0.06, 0.055, 0.065)).word == "inconclusive"


def test_a_deviation_has_an_interval_that_covers():
    rng = np.random.default_rng(1)
    hits = 0
    for sample in rng.normal(0, 0.01, (2000, 6)):
        found = deviation(sample, "one")
        hits += found.low <= 0.01 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
    assert deviation(np.ones(1), "one").value is None


def test_the_ratio_of_losses_is_a_median_with_order_statistics():
    rng = np.random.default_rng(2)
    clean = rng.uniform(0.1, 0.2, 60)
    evasion = clean * rng.uniform(3, 30, 60)
    evasion[::4] = math.inf  # never misclassified: does not count
    found = score_ratio({"evasion_score": evasion, "clean_score": clean})
    ratios = (evasion / clean)[np.isfinite(evasion)]
    assert found.value == pytest.approx(np.median(ratios))
    assert stats.binom.cdf((ratios < found.low).sum() - 1, 45, 0.5) < 0.025
    assert (ratios <= found.high).sum() + (ratios < found.low).sum() == 45 or found.high in ratios
    assert score_ratio({"evasion_score": np.full(3, np.inf), "clean_score": np.ones(3)}).value is None
