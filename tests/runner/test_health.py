"""Gradient health: sound gradients pass, each planted fault is found, and only that one."""

import pytest
import torch
from halved import Halved
from torch import nn

from nfbench import Alarm, Classifier, Detector, Victim
from nfbench.runner.health import PROBED, gradient_health

SHAPE = (1, 4, 4)
FAULTS = ("zero_gradient", "non_finite_gradient", "finite_difference_off")


class Planted(Detector):
    """Scores images by a function of their weighted sum."""

    def __init__(self, classifier, function):
        super().__init__(classifier)
        self.function = function
        generator = torch.Generator().manual_seed(1)
        self.weights = nn.Buffer(torch.randn(SHAPE, generator=generator))

    def score(self, x):
        return self.function(x, (x * self.weights).flatten(1).sum(1))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(20, *SHAPE, generator=generator), torch.arange(20) % 3


def network(*tail):
    torch.manual_seed(0)
    hidden = [nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    return nn.Sequential(nn.Flatten(), *hidden, *tail)


def victim(function, net=None):
    classifier = Classifier(net or network(), 3).eval().requires_grad_(requires_grad=False)
    return Victim(classifier, Planted(classifier, function).eval(), Alarm(1.0, 0.0, 1.0))


def health(function, images, net=None):
    return gradient_health(victim(function, net), *images, seed=0)


SOUND = {
    "linear": lambda x, s: s,
    "constant offset": lambda x, s: s + 1000,
    "steep": lambda x, s: 1e4 * s,
    "flat": lambda x, s: 1e-4 * s,
    "curved": lambda x, s: s.exp(),
    "kinked": lambda x, s: (x - 0.5).abs().flatten(1).sum(1),
}
BROKEN = {
    "detached": (lambda x, s: s.detach(), {"zero_gradient", "finite_difference_off"}),
    "constant": (lambda x, s: torch.zeros_like(s), {"zero_gradient"}),
    "saturated": (lambda x, s: torch.sigmoid(500 + s), {"zero_gradient"}),
    "square root of zero": (lambda x, s: (s - s.detach()).square().sqrt(), {"non_finite_gradient"}),
    "sign flipped": (lambda x, s: 2 * s.detach() - s, {"finite_difference_off"}),
    "too small by half": (lambda x, s: Halved.apply(s), {"finite_difference_off"}),
    "straight through": (
        lambda x, s: s + ((4 * s).round() / 4 - s).detach(),
        {"finite_difference_off"},
    ),
}


def pooled():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 3)]
    return nn.Sequential(*body)


def test_pooling_over_a_flat_background_is_no_fault():
    x = torch.zeros(20, *SHAPE)
    x[:, 0, 0, 0] = torch.linspace(0.2, 0.9, 20)
    images = x, torch.arange(20) % 3
    assert not any(health(lambda x, s: s, images, pooled()).values())


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_gradient_has_no_fault(name, images):
    assert set(health(SOUND[name], images).values()) == {0.0}


def test_the_classifier_has_its_own_shares_and_its_kinks_are_no_fault(images):
    found = health(SOUND["linear"], images)
    assert set(found) == {*FAULTS, *(f"margin_{fault}" for fault in FAULTS)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_fault_is_found_on_most_images_and_no_other_one(name, images):
    function, expected = BROKEN[name]
    found = health(function, images)
    assert {fault for fault in FAULTS if found[fault] > 0.5} == expected
    assert all(found[fault] == 0 for fault in FAULTS if fault not in expected)
    assert all(share == 0 for fault, share in found.items() if fault.startswith("margin_"))


class _Detached(nn.Module):
    def forward(self, logits):
        return logits.detach()


def test_a_classifier_without_a_gradient_is_found(images):
    found = health(SOUND["linear"], images, network(_Detached()))
    assert found["margin_zero_gradient"] == found["margin_finite_difference_off"] == 1.0
    assert found["zero_gradient"] == 0


def test_a_share_counts_images_and_only_the_first_sixteen(images):
    x, y = images
    odd = torch.zeros(20, dtype=torch.bool)
    odd[[0, 5, 9, 14, 17, 19]] = True
    marks = x.clone()

    def sometimes(probe, s):
        nearest = (probe[:, None] - marks.clamp(0.02, 0.98)[None]).flatten(2).abs().sum(2).argmin(1)
        return s.where(~odd[nearest], s.detach())

    found = health(sometimes, (x, y))
    assert found["zero_gradient"] == found["finite_difference_off"] == 4 / PROBED


def test_no_probe_leaves_the_box(images):
    x, y = images
    seen = []

    def watching(probe, s):
        seen.append(probe.detach())
        return s

    health(watching, (x.round(), y))
    assert min(float(p.min()) for p in seen) >= 0
    assert max(float(p.max()) for p in seen) <= 1


def test_a_stochastic_detector_is_probed_by_one_draw_and_left_as_it_was(images):
    built = victim(SOUND["linear"])
    detector, drawn = built.detector, set()
    type(detector).stochastic, before = True, detector.draw
    detector.draw = 7

    def noisy(probe, s):
        drawn.add(detector.draw)
        generator = torch.Generator().manual_seed(detector.draw)
        return s + torch.randn(1, generator=generator)

    detector.function = noisy
    try:
        assert set(gradient_health(built, *images, seed=0).values()) == {0.0}
    finally:
        type(detector).stochastic = False
    assert (drawn, detector.draw, before) == ({1}, 7, 0)


def test_shares_are_the_same_each_time_and_do_not_touch_the_global_generator(images):
    state = torch.get_rng_state()
    built = victim(BROKEN["straight through"][0])
    once, again = (gradient_health(built, *images, seed=3) for _ in range(2))
    assert once == again
    assert torch.equal(state, torch.get_rng_state())
