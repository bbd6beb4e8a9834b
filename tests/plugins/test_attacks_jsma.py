"""JSMA against ART's attack on a softmax output, and what a saliency map attack may not do."""

from itertools import pairwise

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, art_classifier, art_images, differing, digits, mnist
from torch import nn

from nfbench.core.draws import Draws
from nfbench.core.values import Budget
from nfbench_attacks.jsma import JSMA, _raise_pair
from nfbench_attacks.targets import aim


def targets_of(b, seed=0):
    objective, _ = b.objective(Budget("l0", 2))
    return aim(objective, b.split.x, Draws(seed, b.split.index.tolist()), "auto").targets


@pytest.mark.parametrize(
    ("bench", "images", "eps"), [(digits, 120, 20), (mnist, 64, 78)], ids=["digits", "mnist"]
)
def test_every_image_is_that_of_art_on_a_softmax_output(bench, images, eps):
    from art.attacks.evasion import SaliencyMapMethod

    b = bench().take(images)
    assert len(b.split) == images
    softmax = nn.Sequential(b.classifier, nn.Softmax(1)).eval()
    gamma = eps / b.split.x[0].numel() - 1e-6  # ART goes on while a share of at most gamma is changed
    art = SaliencyMapMethod(
        art_classifier(softmax, b.split.x), theta=1.0, gamma=gamma, batch_size=images, verbose=False
    )
    expected = art_images(art, b.split.x, targets_of(b))
    ours = b.attack(JSMA(), Budget("l0", eps)).images
    assert (ours != b.split.x).flatten(1).any(1).all()
    assert differing(ours, expected) == 0


@pytest.mark.parametrize(
    ("shape", "eps", "pairs"),
    [
        ((1, 28, 28), 78, 39),
        ((3, 32, 32), 306, 153),
        ((1, 8, 8), 20, 10),
        ((1, 8, 8), 7, 3),
        ((1, 8, 8), 1, 0),
        ((1, 4, 4), float("inf"), 8),
    ],
)
def test_a_budget_of_pixels_is_half_as_many_pairs(shape, eps, pairs):
    assert JSMA.pairs(Budget("l0", eps), torch.zeros(2, *shape)) == pairs


@pytest.mark.parametrize("threat", [STATIC, ADAPTIVE], ids=["static", "adaptive"])
def test_pixels_are_only_raised_each_once_and_within_the_budget(threat):
    b, budget = digits(), Budget("l0", 13)
    path = [b.attack(JSMA(), Budget("l0", eps), threat).images for eps in range(0, 13, 2)]
    assert torch.equal(path[0], b.split.x)
    for before, after in pairwise(path):
        changed = after != before
        assert (after[changed] == 1).all()
        assert (before[changed] < 1).all()
        assert set(changed.flatten(1).sum(1).tolist()) <= {0, 2}
    assert torch.equal(path[-1], b.attack(JSMA(), budget, threat).images)
    assert torch.equal(path[-1][path[-1] != b.split.x].unique(), torch.tensor([1.0]))


def test_an_image_is_left_as_soon_as_its_target_wins():
    b = digits()
    targets = targets_of(b)
    path = [b.attack(JSMA(), Budget("l0", eps)).images for eps in range(0, 31, 2)]
    hit = torch.stack([b.classifier(x).argmax(1) == targets for x in path])  # (16, B)
    assert hit[-1].float().mean() > 0.2
    assert len(hit.int().argmax(0).unique()) > 4
    for before, after, there in zip(path, path[1:], hit, strict=False):
        assert torch.equal((after == before).flatten(1).all(1), there)


def test_all_pixels_may_be_raised():
    b = digits().take(20)
    images = b.attack(JSMA(), Budget("l0", 64)).images
    hit = b.classifier(images).argmax(1) == targets_of(b)
    free = (images < 1).flatten(1).sum(1)
    assert (hit | (free < 2)).all()


def test_where_the_detector_is_known_images_go_on_below_the_clean_median():
    b, budget = digits(), Budget("l0", 30)
    found = b.attack(JSMA(), budget, ADAPTIVE)
    score = found.recorder.evasion_score
    untargeted = b.attack(JSMA(target="untargeted"), budget, ADAPTIVE)
    assert found.recorder.finished.any()
    assert not found.recorder.finished.all()
    assert torch.equal(found.recorder.finished, score <= b.victim.alarm.median)
    assert not torch.equal(found.images, untargeted.images)


def test_a_pair_are_the_two_largest_gradients_among_the_free_pixels_however_small():
    x = torch.tensor([[[[0.2, 1.0], [0.4, 0.0]]]])
    gradient = torch.tensor([[[[-3.0, 9.0], [-1.0, -2.0]]]])
    raised = _raise_pair(x, gradient, (x < 1).flatten(1))
    assert raised.tolist() == [[[[pytest.approx(0.2), 1.0], [1.0, 1.0]]]]
