"""Negatives: noise as large as an attack's perturbations, and changes that leave labels alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench import Split
from nfbench.report.cells import BENIGN
from nfbench.runner.negatives import benign_changes, matching_noise
from nfbench_datasets.digits import Digits


def images(count=40, shape=(1, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(count, *shape, generator=generator) * 2 - 0.5).clamp(0, 1)  # half black or white
    return Split(x, torch.zeros(count, dtype=torch.int64), torch.arange(count) * 3)


def mean_l2(a, b):
    return float(np.linalg.norm((a - b).double().flatten(1).numpy(), axis=1).mean())


@settings(max_examples=25, deadline=None)
@given(eps=st.floats(1e-3, 0.9), seed=st.integers(0, 9), channels=st.sampled_from([1, 3]))
def test_noise_is_as_large_as_the_attack_after_clipping(eps, seed, channels):
    split = images(shape=(channels, 8, 8), seed=seed)
    adversarial = (split.x + eps * (split.x < 0.5).float() - eps / 2).clamp(0, 1)
    noisy = matching_noise(split, adversarial, "linf", seed)
    assert mean_l2(noisy, split.x) == pytest.approx(mean_l2(adversarial, split.x), rel=0.01)
    assert float(noisy.min()) >= 0
    assert float(noisy.max()) <= 1


def test_noise_has_one_standard_deviation_for_all_images():
    split = images(400)
    split.x.fill_(0.5)
    adversarial = split.x.clone()
    adversarial[:200] += 0.02  # half of the images are left alone
    noise = matching_noise(split, adversarial, "linf", 0) - split.x
    assert float(noise[:200].std()) == pytest.approx(float(noise[200:].std()), rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-3)


def test_an_attack_that_changes_nothing_gets_no_noise():
    split = images()
    assert torch.equal(matching_noise(split, split.x, "linf", 0), split.x)
    assert torch.equal(matching_noise(split, split.x, "l0", 0), split.x)


def test_noise_larger_than_the_box_allows_is_as_large_as_it_can_be():
    split = images()
    split.x.zero_()
    noisy = matching_noise(split, torch.ones_like(split.x), "l2", 0)
    assert 0.4 < float((noisy == 1).float().mean()) < 0.6  # black or white, by the sign of the draw
    assert mean_l2(noisy, split.x) < mean_l2(torch.ones_like(split.x), split.x)


def test_noise_of_an_l0_attack_sets_as_many_entries_of_each_image_to_one():
    split = images(shape=(3, 8, 8))
    counts = torch.arange(len(split)) % 30
    adversarial = split.x.clone()
    for image, count in zip(adversarial, counts, strict=True):
        flat = image.view(-1)
        changed = torch.nonzero(flat < 1)[:count, 0]
        flat[changed] = 1 - flat[changed] / 2
    noisy = matching_noise(split, adversarial, "l0", 0)
    changed = noisy != split.x
    assert torch.equal(changed.flatten(1).sum(1), counts)
    assert bool((noisy[changed] == 1).all())


def test_noise_of_an_l0_attack_on_a_white_image_changes_what_there_is():
    split = images(1)
    split.x.fill_(1.0)
    split.x[0, 0, 0, :2] = 0.0
    assert torch.equal(matching_noise(split, torch.zeros_like(split.x), "l0", 0), torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize("kind", ["linf", "l0"])
def test_noise_belongs_to_the_image_and_the_seed(kind):
    split = images(8)
    adversarial = split.x.clone()
    adversarial[:, :, :2] = 1 - adversarial[:, :, :2]
    order = torch.tensor([5, 3, 0, 1, 7, 2, 6, 4])
    noisy = matching_noise(split, adversarial, kind, 0)
    assert torch.allclose(matching_noise(split.take(order), adversarial[order], kind, 0), noisy[order])
    assert not torch.equal(matching_noise(split, adversarial, kind, 1), noisy)


def test_benign_changes_are_those_that_reports_know():
    assert [name for name, _ in benign_changes(images(), 0)] == list(BENIGN)


@pytest.mark.parametrize("channels", [1, 3])
def test_benign_changes_are_small_and_stay_in_the_box(channels):
    x = Digits().splits(None).test.x[:20].repeat(1, channels, 2, 2)
    found = dict(benign_changes(Split(x, torch.zeros(20, dtype=torch.int64), torch.arange(20)), 0))
    for name, changed in found.items():
        assert changed.shape == x.shape, name
        assert changed.dtype == torch.float32
        assert not torch.equal(changed, x), name
        assert float(changed.min()) >= 0, name
        assert float(changed.max()) <= 1, name
    assert torch.equal(found["shift"][..., 1:], x[..., :-1])
    assert torch.equal(found["shift"][..., 0], x[..., 0])
    assert torch.equal((found["8bit"] * 255).round() / 255, found["8bit"])
    assert float((found["8bit"] - x).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.allclose(found["brightness"], 0.9 * x)
    assert float((found["jpeg"] - x).abs().mean()) < 0.03
    grey = (x > 0.1) & (x < 0.9)
    assert float((found["noise"] - x)[grey].std()) == pytest.approx(0.02, rel=0.05)


def test_images_of_two_channels_are_left_out_of_jpeg():
    split = images(shape=(2, 8, 8))
    assert torch.equal(dict(benign_changes(split, 0))["jpeg"], split.x)
