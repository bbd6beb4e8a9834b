"""The baselines: what an unconfident prediction scores, and a score that knows nothing."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from nfbench import Classifier, Defense, FitData, Split
from nfbench.report.metrics import auroc
from nfbench_defenses.trivial import MaxSoftmax, Random

SHAPE = (1, 8, 8)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Images in 17 grey levels, as digits are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(17, (count, *SHAPE), generator=generator) / 16


def detector(defense: Defense, network: nn.Module, classes: int):
    classifier = Classifier(network, classes).eval()
    split = Split(images(3), torch.zeros(3, dtype=torch.int64), torch.arange(3))
    return defense.detector(classifier, defense.fit(classifier, FitData(split))).eval()


def max_softmax(classes: int):
    """The detector over a network whose logits are the pixels themselves."""
    return detector(MaxSoftmax(), nn.Flatten(), classes)


def test_max_softmax_equals_the_log_of_what_the_winner_leaves():
    generator = torch.Generator().manual_seed(0)
    logits = 8 * torch.randn(200, 1, 1, 10, generator=generator, dtype=torch.float64)
    scores = max_softmax(10).score(logits).tolist()
    for found, row in zip(scores, logits.flatten(1).tolist(), strict=True):
        powers = sorted(math.exp(z) for z in row)
        assert found == pytest.approx(math.log(math.fsum(powers[:-1]) / math.fsum(powers)), rel=1e-12)


def test_max_softmax_keeps_the_order_and_a_gradient_where_one_minus_p_rounds_to_zero():
    logits = torch.zeros(4, 1, 1, 3)
    logits[:, 0, 0, 0] = torch.tensor([5.0, 20.0, 50.0, 90.0])
    logits.requires_grad_()
    score = max_softmax(3).score(logits)
    assert score.tolist() == sorted(score.tolist(), reverse=True)
    assert len(set(score.tolist())) == 4
    assert score[3].item() == pytest.approx(math.log(2) - 90, rel=1e-6)
    (gradient,) = torch.autograd.grad(score.sum(), logits)
    assert torch.allclose(gradient[3].flatten(), torch.tensor([-1.0, 0.5, 0.5]))
    assert gradient.isfinite().all()


def test_a_confident_image_is_less_suspicious_than_an_undecided_one():
    logits = torch.tensor([[6.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).view(2, 1, 1, 3)
    confident, undecided = max_softmax(3).score(logits).tolist()
    assert confident < undecided
    assert undecided == pytest.approx(math.log(2 / 3), rel=1e-6)


def random_detector(secret: int = 0):
    return detector(Random(secret=secret), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 10)


def test_random_scores_are_uniform_from_zero_to_one():
    scores = random_detector().score(images(3000)).numpy()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert stats.kstest(scores, "uniform").pvalue > 1e-3


def test_a_random_score_belongs_to_the_image_and_the_secret():
    x = images(50)
    first = random_detector().score(x)
    assert torch.equal(first, random_detector().score(x))
    assert not torch.equal(first, random_detector(secret=1).score(x))
    alone = torch.cat([random_detector().score(row[None]) for row in x])
    assert torch.equal(first, alone)
    assert torch.equal(first.flip(0), random_detector().score(x.flip(0)))


def test_the_least_change_of_an_image_gives_it_another_random_score():
    x = images(1).expand(64, -1, -1, -1).clone()
    x.view(64, 64)[torch.arange(64), torch.arange(64)] = 0.123
    scores = random_detector().score(x).numpy()
    assert len(set(scores.tolist())) == 64
    assert stats.kstest(scores, "uniform").pvalue > 1e-3


def test_random_scores_tell_nothing_about_fresh_images():
    watching = random_detector()
    clean, other = watching.score(images(1500, 1)).numpy(), watching.score(images(1500, 2)).numpy()
    deviation = math.sqrt((1500 + 1500 + 1) / (12 * 1500 * 1500))
    assert auroc(clean, other) == pytest.approx(0.5, abs=4 * deviation)


def test_random_scores_have_no_gradient_and_say_so():
    x = images(2).requires_grad_()
    watching = random_detector()
    assert not watching.differentiable
    assert not watching.score(x).requires_grad
