"""NeuralFP as a detector: its secret, its presets, and what one query shows."""

import pytest
import torch
from torch.nn.functional import normalize

from nfbench import Classifier, FitData, Split, UsageError
from nfbench_defenses.neuralfp import NeuralFP
from nfbench_models.nets import DigitsMLP, FourConv, Table8

SHAPE = (1, 8, 8)
NORMS = {"code": 0.99499, "code-cifar10": 1.55208, "paper": 1.01485, "epfl": 1.06066}


def random_classifier(model=DigitsMLP, shape=SHAPE) -> Classifier:
    torch.manual_seed(0)
    return Classifier(model().build(shape, 10), 10).eval().requires_grad_(False)


def images(count: int = 9, shape=SHAPE) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def detector(classifier: Classifier, shape=SHAPE, **knobs):
    defense = NeuralFP(**{"fingerprints": 5, "secret": 3, **knobs})
    split = Split(images(2, shape), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    return defense.detector(classifier, defense.fit(classifier, FitData(split))).eval()


@pytest.mark.parametrize(("preset", "length"), NORMS.items())
def test_target_responses_have_the_length_of_their_preset(preset, length):
    _, dy = NeuralFP(preset=preset).secrets(SHAPE, 10)
    assert dy.shape == (10, 10, 10)
    assert torch.allclose(dy.norm(dim=2), torch.tensor(length), atol=1e-5)


def test_target_responses_of_equation_11_and_of_twenty_classes_have_their_length():
    _, equation_11 = NeuralFP(preset="paper", dy_on=0.75, dy_off=-0.25).secrets(SHAPE, 10)
    _, twenty = NeuralFP(preset="code-imagenet").secrets(SHAPE, 20)
    assert torch.allclose(equation_11.norm(dim=2), torch.tensor(1.06066), atol=1e-5)
    assert torch.allclose(twenty.norm(dim=2), torch.tensor(1.25929), atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "on", "off"),
    [
        ("code", -0.7, 0.2357),
        ("code-cifar10", -1.05, 0.381),
        ("code-imagenet", 0.6, -0.254),
        ("paper", 0.73, -0.235),
        ("epfl", -0.75, 0.25),
    ],
)
def test_a_preset_sets_the_response_of_the_class_and_of_the_others(preset, on, off):
    _, dy = NeuralFP(preset=preset, fingerprints=2).secrets(SHAPE, 3)
    wanted = torch.tensor([[on, off, off], [off, on, off], [off, off, on]])
    assert torch.allclose(dy, wanted.expand(2, 3, 3))


@pytest.mark.parametrize(
    ("knobs", "low"),
    [
        ({"preset": "code"}, 0.0),
        ({"preset": "epfl"}, 0.0),
        ({"preset": "code-cifar10"}, -0.03),
        ({"preset": "code-imagenet"}, -0.03),
        ({"preset": "paper"}, -0.03),
        ({"preset": "code", "dx_range": "sym"}, -0.03),
        ({"preset": "paper", "dx_range": "pos"}, 0.0),
    ],
)
def test_secret_perturbations_fill_the_range_of_their_preset(knobs, low):
    dx, _ = NeuralFP(fingerprints=30, eps=0.03, **knobs).secrets((3, 16, 16), 10)
    assert dx.shape == (30, 3, 16, 16)
    assert low <= float(dx.min()) < low + 1e-4
    assert 0.03 - 1e-4 < float(dx.max()) <= 0.03
    assert float(dx.mean()) == pytest.approx((low + 0.03) / 2, abs=2e-4)


def test_the_secret_is_reproducible_and_another_seed_hides_another():
    first, again, other = (NeuralFP(secret=s, random_sign=True).secrets(SHAPE, 10) for s in (7, 7, 8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_fit_and_training_use_the_same_secret():
    classifier, defense = random_classifier(), NeuralFP(secret=7)
    split = Split(images(), torch.zeros(9, dtype=torch.int64), torch.arange(9))
    state = defense.fit(classifier, FitData(split))
    dx, dy = defense.secrets(SHAPE, 10)
    assert torch.equal(state["dx"], dx)
    assert torch.equal(state["dy"], dy)


def test_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, _ = NeuralFP(secret=7).secrets(SHAPE, 10)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(NeuralFP(secret=7).secrets(SHAPE, 10)[0], first)


def test_a_random_sign_flips_all_responses_of_a_fingerprint_and_moves_no_perturbation():
    dx, plain = NeuralFP(secret=7, fingerprints=40).secrets(SHAPE, 10)
    same_dx, flipped = NeuralFP(secret=7, fingerprints=40, random_sign=True).secrets(SHAPE, 10)
    signs = (flipped / plain).flatten(1)
    assert torch.equal(dx, same_dx)
    assert torch.equal(signs, signs[:, :1].expand_as(signs))
    assert set(signs[:, 0].tolist()) == {-1.0, 1.0}
    assert 8 < int((signs[:, 0] > 0).sum()) < 32


def test_perturbed_images_are_not_clipped():
    classifier = random_classifier()
    seen = []
    classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector(classifier, preset="paper", fingerprints=8, eps=0.5).score(torch.ones(4, *SHAPE))
    assert float(seen[0].max()) > 1.4
    assert len(seen) == 1  # one pass for all rows
    assert len(seen[0]) == 4 * 9


def test_one_query_gives_logits_score_and_penalties_that_agree():
    classifier = random_classifier()
    watching, x = detector(classifier), images()
    seen = watching.observe(x)
    assert torch.allclose(seen.logits, classifier(x), atol=1e-6)
    assert seen.penalties.shape == (9, 10)
    assert torch.equal(seen.score, seen.penalties.amin(1))
    assert torch.equal(seen.score, watching.score(x))


def test_agreement_suspects_images_whose_class_by_fingerprint_is_another():
    classifier, x = random_classifier(), images()
    plain = detector(classifier).observe(x)
    strict = detector(classifier, require_agreement=True).observe(x)
    predicted = plain.logits.argmax(1)
    wanted = torch.stack([plain.penalties[i, k] for i, k in enumerate(predicted)])
    assert torch.equal(strict.score, wanted)  # the least of all is never above it
    agrees = plain.penalties.argmin(1) == predicted
    assert not agrees.all()
    assert (strict.score > plain.score)[~agrees].all()
    assert torch.equal(strict.penalties, torch.maximum(plain.penalties, wanted[:, None]))


def test_features_are_the_directions_of_the_logits_at_the_image_and_its_perturbations():
    classifier = random_classifier()
    watching, x = detector(classifier), images()
    found = watching.features(x)
    assert found.shape == (9, 6 * 10)
    rows = [x, *(x + d for d in watching.dx)]
    wanted = torch.cat([normalize(classifier(part), dim=1) for part in rows], dim=1)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize(
    ("model", "shape"), [(DigitsMLP, SHAPE), (Table8, (1, 28, 28)), (FourConv, (1, 28, 28))]
)
def test_an_image_alone_has_the_bits_it_has_in_a_batch(model, shape, count):
    watching = detector(random_classifier(model, shape), shape, fingerprints=count)
    x = images(8, shape)
    together, alone = watching.observe(x), [watching.observe(row[None]) for row in x]
    for whole, parts in zip(together[:4], zip(*alone, strict=True), strict=False):
        assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(watching.features(x), torch.cat([watching.features(row[None]) for row in x]))


def test_rows_per_image_count_the_image_and_its_perturbations():
    assert NeuralFP(fingerprints=7).rows_per_image == 8
    assert detector(random_classifier(), fingerprints=7).rows_per_image == 8
    assert NeuralFP().cotrains


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fingerprnts": 3}, "no hyperparameter 'fingerprnts'; did you mean 'fingerprints'"),
        ({"fingerprints": 0}, "fingerprints = 0"),
        ({"eps": -0.1}, "eps = -0.1"),
        ({"preset": "papr"}, "preset = 'papr'"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_by_name(params, message):
    with pytest.raises(UsageError, match=message):
        NeuralFP.from_params(params)
