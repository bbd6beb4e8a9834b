"""BU: passes with dropout beside torch's own, what they share, what runs once, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfbench import Classifier, Examples, FitData, Model, Split, UsageError
from nfbench.testing import check_defense
from nfbench_defenses.bu import BU
from nfbench_defenses.passes import Passes, predictive_variance
from nfbench_models.lid_nets import MNISTLid
from nfbench_models.nets import DigitsMLP, Table8

SHAPE, MNIST = (1, 8, 8), (1, 28, 28)


def random_classifier(model: Model | None = None, shape=SHAPE) -> Classifier:
    torch.manual_seed(0)
    network = (model or DigitsMLP(dropout=0.3)).build(shape, 10)
    return Classifier(network, 10).eval().requires_grad_(False)


def images(count: int = 20, seed: int = 1, shape=SHAPE) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.rand(count, *shape, generator=generator), torch.arange(count) % 10, torch.arange(count)
    )


def fitted(classifier: Classifier, x: Split | None = None, **knobs):
    defense = BU(**{"secret": 3, **knobs})
    return defense.detector(classifier, defense.fit(classifier, FitData(x or images()))).eval()


def logits_of(passes: Passes, x: Tensor, draw: int = 0) -> Tensor:
    return passes.logits(passes.classifier.trace(x, passes.traced), x, draw)


def plain_passes(classifier: Classifier, x: Tensor, count: int) -> Tensor:
    """Probabilities by torch's own dropout, one pass after the other. (T, B, K)

    Rows of one call have masks of their own there.
    """
    torch.manual_seed(7)
    for module in classifier.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    found = torch.stack([classifier.network(x).softmax(1) for _ in range(count)])
    classifier.eval()
    return found


class Whole(nn.Module):
    """A network as a black box, which cannot be taken apart."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def whole(classifier: Classifier) -> Classifier:
    return Classifier(Whole(classifier.network), 10).eval()


def test_the_variance_of_three_passes_is_the_one_of_the_protocol():
    passes = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]])[:, None]
    assert predictive_variance(passes).item() == pytest.approx(0.0266667, abs=1e-7)


def test_the_score_is_the_logarithm_of_the_variance():
    classifier, x = random_classifier(), images().x
    watching = fitted(classifier, passes=8)
    variance = logits_of(watching.passes, x).softmax(2).var(0, correction=0).mean(1)
    assert torch.allclose(watching.score(x), variance.log(), rtol=1e-4)
    seen = watching.observe(x)
    assert torch.equal(seen.score, watching.score(x))
    assert torch.equal(seen.logits, classifier(x))
    assert torch.equal(seen.penalties, seen.score[:, None].expand(-1, 10))


def test_mean_and_variance_of_the_passes_are_those_of_torchs_dropout():
    classifier, x = random_classifier(), images(6).x
    count = 4000
    ours = logits_of(Passes(classifier, count, 3), x).softmax(2)
    theirs = plain_passes(classifier, x, count)
    error = (theirs.var(0) * 2 / count).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    assert torch.allclose(predictive_variance(ours), predictive_variance(theirs), rtol=0.1)


def test_logits_behind_one_dropout_have_their_mean_and_variance_in_closed_form():
    layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10, bias=False))
    classifier = Classifier(layers, 10).eval().requires_grad_(False)
    x, count = images(3).x, 20_000
    logits = logits_of(Passes(classifier, count, 0), x)
    products = x.flatten(1)[:, None] * classifier.network[2].weight  # (B, K, 64)
    variance = products.square().sum(2) * 0.2 / 0.8
    error = (variance / count).sqrt()
    assert ((logits.mean(0) - products.sum(2)).abs() < 5 * error).all()
    assert torch.allclose(logits.var(0), variance, rtol=0.06)


def test_over_draws_few_passes_have_their_share_of_the_variance_of_many():
    classifier, x = random_classifier(), images(6).x
    true = predictive_variance(plain_passes(classifier, x, 4000))
    few = fitted(classifier, passes=5)
    scores = torch.stack([few.score(x).exp() for few.draw in range(400)])
    assert torch.allclose(scores.mean(0), true * 4 / 5, rtol=0.12)


@pytest.mark.parametrize(("model", "shape"), [(DigitsMLP(dropout=0.3), SHAPE), (MNISTLid(), MNIST)])
def test_passes_taken_together_are_the_whole_network_pass_by_pass(model, shape):
    classifier, x = random_classifier(model, shape).double(), images(5, shape=shape).x.double()
    together = logits_of(Passes(classifier, 6, 3), x, draw=2)
    one_by_one = logits_of(Passes(whole(classifier), 6, 3), x, draw=2)
    assert torch.allclose(together, one_by_one, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(together[0], together[1], rtol=1e-3)


def test_all_images_of_a_call_share_the_masks_of_their_draw():
    classifier, x = random_classifier(), images(40).x
    watching = fitted(classifier)
    for watching.draw in (0, 4):
        together, mixed = watching.score(x), watching.score(x.flip(0)).flip(0)
        alone = torch.cat([watching.score(image[None]) for image in x])
        parts = torch.cat([watching.score(part) for part in x.split(11)])
        for other in (mixed, alone, parts):
            assert torch.allclose(together, other, rtol=1e-4)


def test_another_draw_secret_pass_or_layer_has_other_masks():
    layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Dropout(0.5))
    classifier, x = Classifier(layers, 64).eval(), torch.ones(1, *SHAPE)
    settings = list(itertools.product((0, 1), (0, 1)))
    found = [logits_of(Passes(classifier, 2, secret), x, draw) for secret, draw in settings]
    masks = torch.cat(found)[:, 0]  # (8, 64)
    assert len({tuple(mask.tolist()) for mask in masks}) == 8
    assert torch.equal(
        masks, torch.cat([logits_of(Passes(classifier, 2, s), x, d) for s, d in settings])[:, 0]
    )
    assert set(masks.unique().tolist()) == {0.0, 4.0}
    assert (masks > 0).double().mean() == pytest.approx(
        0.25, abs=0.06
    )  # 0.5 if both layers shared theirs


def test_global_random_state_is_neither_read_nor_moved():
    watching, x = fitted(random_classifier()), images(4).x
    torch.manual_seed(1)
    before, first = torch.random.get_rng_state(), watching.score(x)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(watching.score(x), first)


def test_layers_before_the_first_dropout_run_once():
    classifier, x = random_classifier(MNISTLid(), MNIST), images(4, shape=MNIST)
    watching, rows = fitted(classifier, x, passes=10), {}
    for name, module in classifier.network.named_modules():
        if not list(module.children()):
            module.register_forward_pre_hook(
                lambda module, given, name=name: rows.setdefault(name, []).append(len(given[0]))
            )
    watching.observe(x.x)
    assert rows["0.1"] == rows["0.3"] == rows["0.5"] == [32]  # padded
    assert rows["1"] == rows["4"] == [32, 40]


def test_batch_norm_stays_in_eval_mode_and_all_else_as_it_was():
    classifier, x = random_classifier(Table8(dropout=0.4), MNIST), images(6, shape=MNIST)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    for victim in (classifier, whole(classifier)):
        fitted(victim, x, passes=4).score(x.x)
        assert not any(module.training or module._forward_hooks for module in victim.modules())
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Dropout2d(0.5), (4, 8, 8)), (nn.Dropout3d(0.5), (4, 2, 8, 4))]
)
def test_channel_dropout_drops_whole_channels(layer, shape):
    network = nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), layer, nn.Flatten())
    classifier, x = Classifier(network, 256).eval(), torch.ones(3, 1, 16, 16)
    for victim in (classifier, Classifier(Whole(network), 256).eval()):
        channels = logits_of(Passes(victim, 40, 0), x).view(40, 3, 4, 64)
        assert set(channels.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(channels, channels[:, :1, :, :1].expand_as(channels))
        assert (channels[..., 0] > 0).double().mean() == pytest.approx(0.5, abs=0.15)


class Residual(nn.Module):
    """A block that no Sequential is."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def test_a_block_is_a_link_of_the_chain_unless_it_holds_the_dropout():
    torch.manual_seed(0)
    runs = []
    for inner in (nn.ReLU(), nn.Dropout(0.5)):
        layers = [nn.Flatten(), Residual(nn.Linear(64, 64), inner), nn.Dropout(0.5), nn.Linear(64, 10)]
        classifier = Classifier(nn.Sequential(*layers), 10).eval().requires_grad_(False)
        calls = []
        layers[1].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        passes = Passes(classifier, 5, 0)
        assert torch.allclose(
            logits_of(passes, images(4).x), logits_of(Passes(whole(classifier), 5, 0), images(4).x)
        )
        runs.append(len(calls) - 6)  # less the runs as a whole: 5 passes and the one without dropout
    assert runs == [1, 6]


def test_gradients_are_those_of_finite_differences():
    classifier = random_classifier().double()
    for victim in (classifier, whole(classifier)):
        watching = fitted(victim, Split(images().x.double(), *[torch.arange(20)] * 2), passes=4).double()
        watching.draw = 5
        x = images(3).x.double().requires_grad_()
        assert torch.autograd.gradcheck(watching.score, x, atol=1e-6)


def test_where_all_passes_agree_the_score_and_its_gradient_stay_finite():
    classifier = random_classifier()
    classifier.network[-1].bias[4] += 2000
    x = images(8).x.requires_grad_()
    score = fitted(classifier, passes=3).score(x)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert score.isfinite().all()
    assert gradient.isfinite().all()


def test_a_confident_image_keeps_a_gradient():
    classifier = random_classifier()
    classifier.network[-1].bias[4] += 20
    x = images(30).x.requires_grad_()
    score = fitted(classifier).score(x)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert score.max() < np.log(1e-14)  # float32 probabilities would be 1 and 0
    assert gradient.flatten(1).norm(dim=1).min() > 1e-2
    exact = fitted(classifier.double(), Split(x.detach().double(), *[torch.arange(30)] * 2)).double()
    assert torch.allclose(score, exact.score(x.double()).float(), rtol=1e-5)


@pytest.mark.parametrize("larger", [True, False])
def test_a_regression_learns_whether_large_or_small_is_adversarial(larger):
    classifier, train = random_classifier(), images(200)
    low, high = train.x * 0.1 + 0.45, train.x * 4 - 1.5
    clean, adversarial = (low, high) if larger else (high, low)
    variances = [fitted(classifier).score(x).mean() for x in (clean, adversarial)]
    assert (variances[1] > variances[0] + 0.5) == larger
    rows = torch.arange(0, 200, 4)
    attacked = Split(clean[rows], train.y[rows], rows)
    examples = Examples(attacked, adversarial[rows], attacked.x + 0.01, "planted")
    defense = BU(secret=3, learns_from="fgsm")
    state = defense.fit(classifier, FitData(train, examples))
    learnt, plain = (d.score(train.x) for d in (defense.detector(classifier, state), fitted(classifier)))
    assert torch.equal(learnt, plain if larger else -plain)


def test_rows_per_image_count_what_a_pass_with_dropout_holds():
    assert BU(passes=7).rows_per_image == 8
    lid, mnist = random_classifier(MNISTLid(), MNIST), images(4, shape=MNIST)
    shift, conv, pool, tail = 784, 64 * 26**2 * 2 + 64 * 24**2 * 2, 9216, 9216 * 2 + 128 * 3 + 10
    share = (tail + pool) / (shift + 784 + conv + pool + tail)  # each with its input
    assert fitted(lid, mnist).rows_per_image == 1 + np.ceil(50 * share)
    assert fitted(whole(lid), mnist).rows_per_image == 51


@pytest.mark.parametrize("knobs", [{}, {"learns_from": "fgsm"}, {"passes": 2}])
def test_the_contract_is_kept(knobs):
    check_defense(BU(**knobs))


def test_a_classifier_without_dropout_is_refused_and_told_what_would_do():
    unused = nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(64, 10))
    for network in (DigitsMLP(dropout=0.0).build(SHAPE, 10), unused):
        classifier = Classifier(network, 10).eval()
        reason = BU().mismatch(classifier)
        assert "bu needs a classifier with dropout" in reason
        assert "--set digits-mlp.dropout=0.2" in reason
        with pytest.raises(UsageError, match="no Dropout layer with p > 0"):
            BU().fit(classifier, FitData(images()))
    assert not BU().mismatch(random_classifier())
    assert not BU().mismatch(whole(random_classifier()))


def test_a_single_pass_is_refused():
    with pytest.raises(UsageError, match=r"bu\.passes = 1"):
        BU.from_params({"passes": 1})
