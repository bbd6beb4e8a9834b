"""The conformance kit: its known answers, and what it demands of any plugin."""

import contextlib
import itertools
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from nfbench import Attack, Defense, Training
from nfbench.testing import (
    Brightness,
    check_defense,
    checks,
    linear_classifier,
    linear_images,
    optimum,
    planted_victim,
)


def test_the_linear_classifier_is_linear_on_the_unit_box():
    classifier = linear_classifier()
    a, b = torch.rand(2, 50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    middle = classifier((a + b) / 2)
    torch.testing.assert_close(middle, (classifier(a) + classifier(b)) / 2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_optimum_is_where_the_class_changes_along_the_steepest_direction(norm):
    split, classifier = linear_images(50), linear_classifier()
    x = split.x.clone().requires_grad_()
    wrong = F.cross_entropy(classifier(x), split.y, reduction="sum")
    slope = torch.autograd.grad(wrong, x)[0]
    direction = slope.sign() if norm == "linf" else F.normalize(slope.flatten(1)).view_as(slope)
    size = optimum(split.x, split.y, norm).view(-1, 1, 1, 1)
    assert (classifier(split.x + 0.99 * size * direction).argmax(1) == split.y).all()
    assert (classifier(split.x + 1.01 * size * direction).argmax(1) != split.y).all()


def test_no_smaller_set_of_pixels_than_the_l0_optimum_changes_the_class():
    split, classifier = linear_images(6), linear_classifier()
    for x, y, best in zip(split.x, split.y, optimum(split.x, split.y, "l0").tolist(), strict=True):
        assert not _flips(classifier, x, y, int(best) - 1)
        assert _flips(classifier, x, y, int(best))


def _flips(classifier, x, y, count):
    """Whether some `count` pixels can be driven to 0 or 1 so that the class changes."""
    bright = torch.tensor([0.0, 0, 1, 1] * 4) if y == 0 else torch.tensor([1.0, 1, 0, 0] * 4)
    candidates = []
    for pixels in itertools.combinations(range(16), count):
        flat = x.flatten().clone()
        flat[list(pixels)] = bright[list(pixels)]
        candidates.append(flat.view(1, 4, 4))
    return bool((classifier(torch.stack(candidates)).argmax(1) != y).any())


def test_half_of_the_clean_images_are_brighter_than_the_planted_alarms_median():
    victim = planted_victim()
    bright = victim.observe(linear_images(300, seed=9).x).score > victim.alarm.median
    assert 0.4 < bright.double().mean() < 0.6


class Bright(Defense):
    """Bright images are suspicious."""

    name = "bright"

    def fit(self, classifier, data):
        return {}

    def detector(self, classifier, state):
        return Brightness(classifier)


class Shouting(Bright):
    """Its name is no name."""

    name = "Shouting_Name"


class Silent(Bright):
    name = "silent"
    __doc__ = None


class Objects(Bright):
    """Its hyperparameters are no plain data."""

    name = "objects"
    strength: object = 1.0


class Thawed(Bright):
    """It may be changed after it was checked."""

    name = "thawed"
    model_config: ClassVar = {"frozen": False}


class Asserting(Bright):
    """It fails an assertion of its own."""

    name = "asserting"

    def fit(self, classifier, data):
        assert classifier.num_classes > 2
        return {}


class Noisy(Attack):
    """Draws from torch, and hides it."""

    name = "noisy"
    norm = "linf"

    def perturb(self, objective, x, budget, draws):
        return budget.project(x, x + budget.eps * torch.rand_like(x))


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        (Shouting(), "use lower-case letters"),
        (Silent(), "no docstring"),
        (Objects(strength=object()), "its hyperparameters"),
        (Thawed(), "must stay frozen"),
        (Asserting(), "while checking that fit|assert"),
    ],
)
def test_a_bad_recipe_is_refused(plugin, cause):
    with pytest.raises(AssertionError, match=f"^{plugin.name}: .*({cause})"):
        check_defense(plugin)


BUNDLED = [
    ("defense", "max-softmax"),
    ("attack", "fgsm"),
    ("threat-model", "adaptive-whitebox"),
    ("dataset", "digits"),
    ("model", "digits-mlp"),
]


@pytest.mark.parametrize(("kind", "name"), BUNDLED)
def test_every_check_says_what_it_checks(registry, kind, name):
    titles = [check.title for check in checks(registry.find(kind, name).load()())]
    assert len(titles) >= 8
    assert len(set(titles)) == len(titles)
    assert all(title and title[0].islower() and title[-1] not in ".:" for title in titles)


def test_what_is_no_plugin_has_no_contract():
    with pytest.raises(TypeError, match="Training is no defense"):
        checks(Training())


@pytest.mark.parametrize("plugin", [Bright(), Noisy()], ids=lambda p: p.name)
def test_checking_leaves_torchs_generator_where_it_was(plugin):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    for check in checks(plugin):
        with contextlib.suppress(AssertionError):
            check.run()
    assert torch.equal(before, torch.random.get_rng_state())
