"""Detectors without a gradient: values stay, the gradient is a stand-in's, and that breaks them."""

import pytest
import torch
from bench import Along, Climb, Linear, calibrated
from toys import HADAMARD, PATTERNS, Honest, classifier, images

from nfbench import Budget, Classifier, Split, UsageError
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.surrogate import Straight, declared
from nfbench.core.threat import ThreatModel
from nfbench.core.victim import Victim
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.distil import LEAST, distil
from nfbench.runner.health import gradient_health
from nfbench.runner.measuring import measure, scores
from nfbench.runner.student import stand_in

COUNT = 24


class Stepped(Honest):
    """The distance in steps of a hundredth: flat nearly everywhere."""

    differentiable = False

    def masked(self, distance):
        return ((distance * 100).round() / 100).detach()

    def surrogate(self, x):
        gaps = x.flatten(1)[:, None] - self.centres
        return (gaps.square().sum(2) + 1e-12).sqrt().amin(1)


class Stairs(Along):
    """How far an image lies along v, in steps: flat, and rising with the classifier's own gradient."""

    differentiable = False

    def score(self, x):
        return (super().score(x) * 10).round().detach() / 10

    def surrogate(self, x):
        return super().score(x)


@pytest.fixture(scope="module")
def stairs():
    """Of half of the pixels the score knows nothing, and these are enough to change the class."""
    return Stairs(
        Classifier(Linear(torch.stack([-HADAMARD[1], HADAMARD[1]])), 2).eval(),
        HADAMARD[1] + HADAMARD[2],
    ).eval()


def dark(count, seed):
    """Images of class 0, .05 a pixel from the border."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.04 * (torch.rand(count, 16, generator=generator) - 0.5)
    x = (0.5 - 0.05 * HADAMARD[1] + noise).view(count, 1, 4, 4)
    return Split(x, torch.zeros(count, dtype=torch.int64), torch.arange(count))


class Knowing(ThreatModel):
    name = "knowing"
    knowledge = "all"
    detector = "victim"

    def objectives(self, attack):
        return ("dual",)

    def objective(self, name, recorder, labels, alarm):
        return OBJECTIVES[name](recorder, labels, alarm)


@pytest.fixture(scope="module")
def stepped():
    return Stepped(classifier()).eval()


@pytest.fixture(scope="module")
def learnt(stepped):
    return distil(stepped, images(400, seed=7), seed=0)


@pytest.fixture(scope="module")
def distilled(stepped, learnt):
    made = stand_in(learnt.tensors, (1, 4, 4), stepped.classifier)
    return Straight(stepped, made).eval()


def broken(detector, known) -> float:
    """Share of images that a plain climb evades `detector` with, following the gradient of `known`."""
    victim = calibrated(detector, dark(400, seed=1).x)
    split = dark(COUNT, seed=2)
    attempt = Attempt(Climb(steps=100), Knowing(), "dual", Budget("linf", 0.15), 0)
    found = craft(attempt, Victim(victim.classifier, known, victim.alarm), split)
    vectors, _ = measure(detector, split, [found.vectors["images"]])
    return float((vectors["evasion_score"] <= victim.alarm.threshold).float().mean())


def test_without_a_stand_in_a_plain_climb_does_not_break_a_score_of_steps(stairs):
    assert broken(stairs, stairs) == 0


def test_the_declared_stand_in_breaks_it(stairs):
    assert broken(stairs, Straight(stairs, declared(stairs)).eval()) == 1


def test_the_distilled_one_breaks_it(stairs):
    made = distil(stairs, dark(400, seed=7), seed=0)
    known = Straight(stairs, stand_in(made.tensors, (1, 4, 4), stairs.classifier)).eval()
    assert broken(stairs, known) >= 0.9


def test_values_are_the_detectors_bit_for_bit_with_and_without_a_gradient(stepped, distilled):
    x = images(50, seed=3).x
    for known in (distilled, Straight(stepped, declared(stepped))):
        for leaf in (x, x.clone().requires_grad_()):
            told, seen = stepped.observe(x), known.observe(leaf)
            for name in ("logits", "score", "penalties"):
                assert torch.equal(getattr(told, name), getattr(seen, name)), name
            assert torch.equal(stepped.score(x), known.score(leaf))
            assert torch.equal(known.inspect(leaf).score, told.score)


def test_infinite_scores_pass_and_keep_a_gradient(stepped):
    class Infinite(Stepped):
        def masked(self, distance):
            return torch.full_like(distance, torch.inf)

    detector = Infinite(classifier())
    leaf = images(4, seed=3).x.requires_grad_()
    score = Straight(detector, declared(detector)).observe(leaf).score
    assert score.isinf().all()
    (gradient,) = torch.autograd.grad(score.sum(), leaf)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(1).all()


def test_the_gradient_of_score_and_penalties_is_the_stand_ins_and_that_of_logits_their_own(stepped):
    x = images(8, seed=3).x
    leaf = x.clone().requires_grad_()
    seen = Straight(stepped, declared(stepped)).observe(leaf)
    (wanted,) = torch.autograd.grad(stepped.surrogate(leaf).sum(), leaf)
    for values in (seen.score, seen.penalties[:, 2]):
        (found,) = torch.autograd.grad(values.sum(), leaf, retain_graph=True)
        assert torch.equal(found, wanted)
    (found,) = torch.autograd.grad(seen.logits[:, 1].sum(), leaf)
    (own,) = torch.autograd.grad(stepped.classifier(leaf)[:, 1].sum(), leaf)
    assert torch.equal(found, own)


def test_an_image_has_the_same_gradient_in_any_batch(distilled):
    x = images(70, seed=3).x

    def gradient(part):
        leaf = part.clone().requires_grad_()
        return torch.autograd.grad(distilled.score(leaf).sum(), leaf)[0]

    together = gradient(x)
    assert torch.equal(together[:1], gradient(x[:1]))
    assert torch.equal(together[10:47], gradient(x[10:47]))


def test_features_without_a_gradient_give_way_to_logits_whether_one_is_wanted_or_not():
    class Hidden(Stepped):
        def features(self, x):
            return x.flatten(1).detach() * 2

    for kind, expected in ((Hidden, "logits"), (Stepped, "pixels")):
        detector = kind(classifier())
        known = Straight(detector, declared(detector))
        x = images(5, seed=3).x
        logits = detector.classifier(x)
        for leaf in (x, x.clone().requires_grad_()):
            wanted = logits if expected == "logits" else x.flatten(1) - 0.5
            assert torch.equal(known.inspect(leaf).features, wanted)


def test_the_draw_is_handed_on():
    class Drawn(Stepped):
        stochastic = True

        def distances(self, x):
            return super().distances(x) + self.draw

    detector = Drawn(classifier())
    known = Straight(detector, declared(detector))
    assert known.stochastic
    known.draw = 3
    x = images(4, seed=3).x
    assert torch.equal(known.observe(x).score, known.score(x))
    assert (known.score(x) >= 3).all()


def test_the_student_orders_unseen_images_as_the_detector_does(stepped, learnt):
    assert learnt.rank_correlation > 0.9
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([images(100, seed=9).x, torch.rand(100, 1, 4, 4, generator=generator)])
    student = stand_in(learnt.tensors, (1, 4, 4), stepped.classifier)
    told, score = student(x, stepped.classifier(x)), stepped.score(x)
    pairs = torch.corrcoef(torch.stack([v.argsort().argsort().double() for v in (told, score)]))
    assert pairs[0, 1] > 0.8
    assert (told[:100] - score[:100]).abs().mean() < 0.1  # in units of the score


def test_distilling_repeats_itself_and_leaves_the_global_generator_alone(stepped):
    state = torch.get_rng_state()
    once, again, other = (distil(stepped, images(LEAST, seed=7), seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert once.rank_correlation == again.rank_correlation
    assert all(torch.equal(v, again.tensors[k]) for k, v in once.tensors.items())
    assert not torch.equal(once.tensors["judge.0.weight"], other.tensors["judge.0.weight"])


def test_a_constant_score_is_correlated_with_nothing_and_leaves_no_nan(stepped):
    class Constant(Stepped):
        def masked(self, distance):
            return torch.zeros_like(distance)

    made = distil(Constant(classifier()), images(LEAST, seed=7), 0)
    assert made.rank_correlation == 0
    assert all(v.isfinite().all() for v in made.tensors.values())


def test_too_few_images_are_refused(stepped):
    with pytest.raises(UsageError, match=f"needs {LEAST} images, got 10"):
        distil(stepped, images(10, seed=7), 0)


def test_health_asks_a_surrogate_for_a_gradient_and_not_for_the_right_one(stepped, distilled):
    split, alarm = images(16, seed=2), calibrated(stepped, images(80, seed=1).x).alarm
    x = (split.x + 0.1).clamp(0, 1)
    found = gradient_health(Victim(stepped.classifier, distilled, alarm), x, split.y, 0)
    assert found["zero_gradient"] == found["non_finite_gradient"] == 0
    assert "finite_difference_off" not in found
    assert "margin_finite_difference_off" in found
    flat = Straight(stepped, lambda x, logits: 0 * x.flatten(1).sum(1))
    assert gradient_health(Victim(stepped.classifier, flat, alarm), x, split.y, 0)["zero_gradient"] == 1


def test_the_patterns_themselves_are_the_least_suspicious(stepped):
    assert scores(stepped, PATTERNS.view(-1, 1, 4, 4)).max() == 0
