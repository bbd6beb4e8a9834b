import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import nn

from nfbench import Classifier, FitData, UsageError
from nfbench.testing import check_defense
from nfbench_defenses.feature_squeezing import FeatureSqueezing, change
from nfbench_defenses.squeezers import median, non_local_means, reduce_depth

SHAPES = [(3, 1, 8, 8), (2, 3, 9, 7), (2, 2, 4, 4), (2, 1, 1, 3), (1, 1, 28, 28)]


def images(shape, dtype=torch.float32, levels=17):
    """Few grey levels, so that windows hold ties."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(levels, shape, generator=generator).to(dtype) / (levels - 1)


class Net(nn.Module):
    def __init__(self, channels=1, side=6):
        super().__init__()
        self.dense = nn.Linear(channels * side * side, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return 3 * self.head(self.dense(x.flatten(1)).tanh())


def classifier(dtype=torch.float32, scale=1.0):
    torch.manual_seed(0)
    net = Net()
    net.head.weight.data.mul_(scale)
    return Classifier(net, 4).eval().requires_grad_(False).to(dtype)


def detector(victim=None, **knobs):
    defense = FeatureSqueezing(**knobs)
    victim = victim or classifier()
    return defense.detector(victim, defense.fit(victim, FitData(None))).eval()


@pytest.mark.parametrize("window", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_median_is_scipys_bit_for_bit(shape, window):
    for x in (images(shape), torch.rand(shape)):
        wanted = median_filter(x.numpy(), size=(1, 1, window, window), mode="reflect")
        assert np.array_equal(median(x, window).numpy(), wanted)


def test_the_gradient_of_a_median_goes_to_the_pixel_chosen():
    x = torch.tensor([[0.1, 0.4], [0.3, 0.2]]).view(1, 1, 2, 2).requires_grad_()
    squeezed = median(x, 2)
    assert squeezed[0, 0, 1, 1] == 0.3  # the larger of the middle two
    gradient = torch.autograd.grad(squeezed[0, 0, 1, 1], x)[0]
    assert gradient.flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_pixels_are_rounded_to_as_many_levels_as_bits_allow(bits):
    x = images((2, 3, 9, 9), levels=511)
    steps = np.float32(2**bits - 1)
    assert np.array_equal(reduce_depth(x, bits).numpy(), np.rint(x.numpy() * steps) / steps)
    assert reduce_depth(torch.linspace(0, 1, 4001), bits).unique().numel() == 2**bits


def test_the_gradient_passes_straight_through_rounding():
    x = images((2, 1, 6, 6)).requires_grad_()
    weights = torch.rand(2, 1, 6, 6)
    assert torch.equal(torch.autograd.grad((reduce_depth(x, 1) * weights).sum(), x)[0], weights)


def mean_by_loop(image, search, patch, strength):
    """Non-local means of one image, pixel by pixel. (C, H, W)"""
    reach, margin = search // 2, patch // 2
    pad = reach + margin
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    out = np.zeros_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            own = padded[:, i + reach : i + reach + patch, j + reach : j + reach + patch]
            total, weights = 0.0, 0.0
            for di in range(search):
                for dj in range(search):
                    other = padded[:, i + di : i + di + patch, j + dj : j + dj + patch]
                    weight = np.exp(-((own - other) ** 2).mean() / (strength / 255) ** 2)
                    weights += weight
                    total = total + weight * padded[:, i + di + margin, j + dj + margin]
            out[:, i, j] = total / weights
    return out


@pytest.mark.parametrize(("search", "patch", "strength"), [(11, 3, 40.0), (5, 1, 8.0), (3, 5, 100.0)])
@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (1, 1, 8, 8)])
def test_non_local_means_are_those_of_a_loop_over_pixels(shape, search, patch, strength):
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = non_local_means(x, search, patch, strength).numpy()
    wanted = np.stack([mean_by_loop(image, search, patch, strength) for image in x.numpy()])
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    assert np.abs(wanted - x.numpy()).max() > 1e-3
    single = non_local_means(x.float(), search, patch, strength).numpy()
    np.testing.assert_allclose(single, wanted, rtol=1e-4)


def test_non_local_means_have_their_exact_gradient_and_mirror_small_images():
    x = torch.rand(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: non_local_means(z, 11, 3, 60.0), (x,))


def l1(victim, x, squeezers):
    """The paper's score, in float64. (B,)"""
    before = victim(x).double().softmax(1)
    apart = [(victim(squeeze(x)).double().softmax(1) - before).abs().sum(1) for squeeze in squeezers]
    return torch.stack(apart).amax(0)


@pytest.mark.parametrize(
    ("knobs", "squeezers"),
    [
        ({"bits": 1, "median": None}, [lambda x: reduce_depth(x, 1)]),
        ({"bits": 2, "median": 3}, [lambda x: reduce_depth(x, 2), lambda x: median(x, 3)]),
        (
            {"non_local": (5, 3, 60)},
            [
                lambda x: reduce_depth(x, 5),
                lambda x: median(x, 2),
                lambda x: non_local_means(x, 5, 3, 60),
            ],
        ),
    ],
)
def test_the_score_is_the_log_odds_of_half_the_largest_l1_distance(knobs, squeezers):
    victim, x = classifier(torch.float64), torch.rand(20, 1, 6, 6, dtype=torch.float64)
    passes = []
    victim.network.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    watching = detector(victim, **knobs)
    seen = watching.observe(x)
    assert passes == [20 * (1 + len(squeezers))]
    assert watching.rows_per_image == FeatureSqueezing(**knobs).rows_per_image == 1 + len(squeezers)
    wanted = l1(victim, x, squeezers)
    torch.testing.assert_close(2 * seen.score.sigmoid(), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen.logits, victim(x))
    assert torch.equal(seen.penalties, seen.score[:, None].expand(-1, 4))
    probabilities = [victim(z).softmax(1) for z in (x, *(squeeze(x) for squeeze in squeezers))]
    torch.testing.assert_close(watching.features(x), torch.cat(probabilities, 1))


def test_where_a_very_sure_classifier_flattens_the_l1_distance_the_score_keeps_value_and_gradient():
    x = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    sure, exact = classifier(scale=80.0), classifier(torch.float64, scale=80.0)
    start = x.clone().requires_grad_()
    score = detector(sure, bits=2, median=None).score(start)
    wanted = detector(exact, bits=2, median=None).score(x.double())
    torch.testing.assert_close(score.detach().double(), wanted, rtol=0, atol=1e-3)
    sizes = torch.autograd.grad(score.sum(), start)[0].flatten(1).norm(dim=1)
    plain = (sure(start).softmax(1) - sure(reduce_depth(start, 2)).softmax(1)).abs().sum(1)
    flat = torch.autograd.grad(plain.sum(), start)[0].flatten(1).norm(dim=1)
    assert int((flat < 1e-6).sum()) > 40
    assert (sizes > 1).all()


def test_the_change_between_distributions_has_known_values():
    before = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    after = torch.tensor([[0.4, 0.2, 0.4], [0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    found = change(before, after)
    assert float(found[0]) == pytest.approx(np.log(0.3 / 0.7), abs=1e-6)
    assert float(found[1]) == pytest.approx(np.log(1e-30), rel=1e-5)
    assert float(found[2]) == pytest.approx(-np.log(1e-30), rel=1e-5)


def test_the_gradient_of_the_score_is_exact_where_squeezers_are_smooth():
    victim, x = classifier(torch.float64), torch.rand(4, 1, 6, 6, dtype=torch.float64)
    watching = detector(victim, bits=None, median=3, non_local=(5, 3, 60))
    assert torch.autograd.gradcheck(watching.score, (x.requires_grad_(),))


def test_the_gradient_through_rounding_is_that_of_an_image_moved_by_a_constant():
    victim, x = classifier(torch.float64), torch.rand(4, 1, 6, 6, dtype=torch.float64)
    offset = reduce_depth(x, 1) - x
    start = x.clone().requires_grad_()
    wanted = change(victim(start).softmax(1), victim(start + offset).softmax(1))
    wanted = torch.autograd.grad(wanted.sum(), start)[0]
    start = x.clone().requires_grad_()
    found = torch.autograd.grad(detector(victim, bits=1, median=None).score(start).sum(), start)[0]
    torch.testing.assert_close(found, wanted)


def test_an_image_alone_scores_as_in_a_batch():
    watching, x = detector(non_local=(5, 3, 8)), images((40, 1, 6, 6))
    together = watching.score(x)
    torch.testing.assert_close(torch.cat([watching.score(row[None]) for row in x]), together)


@pytest.mark.parametrize(
    "knobs", [{}, {"bits": 1}, {"bits": None}, {"median": None}, {"non_local": (11, 3, 4)}]
)
def test_the_contract_is_kept(knobs):
    check_defense(FeatureSqueezing(**knobs))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bits": None, "median": None}, "at least one squeezer is needed"),
        ({"bits": 0}, "bits = 0"),
        ({"median": 1}, "median = 1"),
        ({"non_local": [4, 3, 4.0]}, "non_local = .*expected an odd search window"),
        ({"non_local": [1, 3, 4.0]}, "search window from 3"),
        ({"non_local": [11, 2, 4.0]}, "an odd patch"),
        ({"non_local": [11, 3, 0]}, "strength above 0"),
        ({"bit": 3}, "no hyperparameter 'bit'; did you mean 'bits'"),
    ],
)
def test_a_wrong_hyperparameter_is_refused(params, message):
    with pytest.raises(UsageError, match=message):
        FeatureSqueezing.from_params(params)
