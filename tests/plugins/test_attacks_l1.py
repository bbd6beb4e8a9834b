"""PGD in an L1 ball: few pixels at a time, never into the wall, and near the known optimum."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, differing, digits, foolbox_model
from foolbox.attacks import L1ProjectedGradientDescentAttack

from nfbench import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
from nfbench.core.victim import Victim
from nfbench.testing.fixtures import linear_classifier, linear_images
from nfbench_attacks.gradient import PGDL1

BALL = Budget("l1", 2.0)


def test_a_step_shares_its_length_among_the_steepest_pixels_that_can_move():
    x = torch.tensor([0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5]).view(1, 1, 2, 4)
    slope = torch.tensor([1.0, 9.0, -8.0, -7.0, 6.0, -5.0, math.nan, math.inf]).view(1, 1, 2, 4)
    step = PGDL1(share=0.4).direction(slope, x, BALL)
    third = 1 / 3  # of 8 pixels 40 % are 3: white and rising, and black and falling, are stuck
    expected = torch.tensor([0, 0, 0, -third, third, -third, 0, 0])
    assert torch.allclose(step.flatten(), expected)


def test_at_least_one_pixel_moves_and_flat_ones_never_do():
    x, slope = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
    slope[1, 0, 2, 3] = -1e-20
    step = PGDL1(share=0.001).direction(slope, x, BALL)
    assert step[0].abs().sum() == 0
    assert step[1, 0, 2, 3] == -1
    assert (PGDL1(share=0.9).direction(slope, x, BALL)[1] != 0).sum() == 1


def test_of_equal_slopes_the_first_are_taken_in_any_batch():
    x, slope = torch.full((40, 1, 8, 8), 0.5), torch.ones(40, 1, 8, 8)
    attack = PGDL1(share=0.25)
    step = attack.direction(slope, x, BALL)
    assert (step.flatten(1)[:, :16] == 1 / 16).all()
    assert (step.flatten(1)[:, 16:] == 0).all()
    assert torch.equal(attack.direction(slope[:1], x[:1], BALL), step[:1])


def test_starts_fill_the_ball_evenly():
    x = torch.full((4000, 1, 2, 2), 0.5)
    delta = (PGDL1().start(x, Budget("l1", 0.4), Draws(0, range(4000))) - x).flatten(1)
    shares = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    # The share of a 4-dimensional ball within r is (r / eps)^4.
    assert torch.allclose(delta.abs().sum(1).quantile(shares), 0.4 * shares**0.25, atol=0.006)
    assert delta.mean(0).abs().max() < 0.006
    assert torch.allclose(delta.abs().mean(0), torch.full((4,), 0.4 / 5), atol=0.003)
    assert (delta > 0).float().mean().sub(0.5).abs() < 0.02


def smallest(x, label):
    """The L1 distance to the linear classifier's border: the steepest pixels, one by one."""
    x = x.clone().requires_grad_()
    logits = linear_classifier()(x)[0]
    margin = logits[label] - logits[1 - label]
    slope = torch.autograd.grad(margin, x)[0].flatten()
    margin, spent, flat = margin.item(), 0.0, x.detach().flatten()
    for pixel in slope.abs().argsort(descending=True).tolist():
        room = float(flat[pixel] if slope[pixel] > 0 else 1 - flat[pixel])
        steep = float(slope[pixel].abs())
        if room * steep >= margin:
            return spent + margin / steep
        spent, margin = spent + room, margin - room * steep
    return math.inf


@pytest.mark.parametrize("starts", ["uniform", "image", "odi"])
def test_it_reaches_the_optimum_of_a_linear_classifier(starts):
    split = linear_images(16)
    attack = PGDL1(steps=60, starts=starts, share=0.07)
    distances = []
    for row in range(16):
        one = split.take(torch.tensor([row]))
        distances.append(smallest(one.x, int(one.y)))
        for factor, falls in ((1.02, True), (0.98, False)):
            budget = Budget("l1", distances[-1] * factor)
            recorder = Recorder(Victim(linear_classifier()), one.x, one.y, budget)
            objective = OBJECTIVES["cross-entropy"](recorder, one.y)
            images = attack.perturb(objective, one.x, budget, Draws(0, [row]))
            assert budget.contains(one.x, images).all()
            assert bool(linear_classifier()(images).argmax(1) != one.y) is falls, (row, factor)
    assert max(distances) > 2 * min(distances)


def test_it_fools_more_than_steps_along_the_whole_gradient():
    b = digits()
    ours = b.attack(PGDL1(), BALL).images
    library = L1ProjectedGradientDescentAttack(rel_stepsize=0.1, steps=100)
    theirs = library.run(foolbox_model(b.classifier), b.split.x, b.split.y, epsilon=BALL.eps)
    fooled = [(b.classifier(x).argmax(1) != b.split.y).float().mean() for x in (ours, theirs)]
    assert fooled[0] > fooled[1] + 0.2
    assert ((ours != b.split.x).flatten(1).sum(1) < 32).float().mean() > 0.9


@pytest.mark.parametrize("name", ["dual", "selective", "orthogonal", "lagrangian"])
def test_adaptive_points_stay_in_the_ball_and_hide(name):
    b = digits(20)
    attack = PGDL1(steps=40)
    found = b.attack(attack, BALL, ADAPTIVE, name)
    assert BALL.contains(b.split.x, found.images).all()
    assert BALL.contains(b.split.x, found.recorder.best).all()
    static = b.attack(attack, BALL, STATIC).images
    wrong = b.classifier(static).argmax(1) != b.split.y
    score = b.victim.detector.score(static)
    threshold = b.victim.alarm.threshold
    blind = float((wrong & (score <= threshold)).float().mean())
    assert float((found.recorder.evasion_score <= threshold).float().mean()) > blind + 0.1


def test_alone_an_image_becomes_what_it_becomes_in_company():
    b = digits().take(9)
    for attack in (PGDL1(steps=15, restarts=2), PGDL1(steps=15, starts="odi", schedule="constant")):
        together = b.attack(attack, BALL).images
        for row in range(9):
            one = type(b)(b.victim, b.split.take(torch.tensor([row])))
            assert differing(one.attack(attack, BALL).images[0], together[row]) == 0
