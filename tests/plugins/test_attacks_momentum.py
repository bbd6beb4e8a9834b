"""Momentum and input diversity: gradients at changed images, brought back, and gathered."""

import torch
from attack_bench import ADAPTIVE, STATIC, digits

from nfbench import OBJECTIVES, Draws
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
from nfbench.core.victim import Victim
from nfbench_attacks.climbing import length
from nfbench_attacks.momentum import MomentumDiverse, _changed, _diverse_gradient, transfer

BALL = Budget("linf", 0.15)


def test_the_gradient_is_that_of_the_objective_after_the_change():
    b = digits().take(12).double()
    objective, _ = b.objective(BALL, STATIC)
    index = b.split.index.tolist()
    found = _diverse_gradient(objective, b.split.x, Draws(3, index), 0.7)
    x = b.split.x.clone().requires_grad_()
    logits = b.classifier(_changed(x, Draws(3, index), 0.7))
    loss = torch.nn.functional.cross_entropy(logits, b.split.y, reduction="sum")
    expected = torch.autograd.grad(loss, x)[0]
    error = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert error.max() < 1e-9


def test_images_are_changed_as_often_as_asked_and_stay_in_the_box():
    x = digits().split.x
    draws = Draws(0, list(range(len(x))))
    changed = torch.stack([(_changed(x, draws, 0.7) != x).flatten(1).any(1) for _ in range(40)])
    assert abs(float(changed.float().mean()) - 0.7) < 0.04
    moved = _changed(x, draws, 1.0)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert 0 < float((moved - x).abs().mean()) < 0.1


class Alternating(OBJECTIVES["cross-entropy"]):
    """Gradients of ones, then of minus halves, and so on."""

    asked = 0

    def gradient(self, x, rows=None):
        self.asked += 1
        return torch.ones_like(x) if self.asked % 2 else torch.full_like(x, -0.5)


def test_gradients_are_gathered_in_units_of_their_own_size():
    b = digits().take(4)
    x = torch.full_like(b.split.x, 0.5)
    recorder = Recorder(Victim(b.classifier), x, b.split.y, BALL)
    moved = {}
    for decay in (0.0, 0.5, 1.0):
        attack = MomentumDiverse(steps=2, decay=decay, probability=1e-9)
        draws = Draws(0, b.split.index.tolist())
        objective = Alternating(recorder, b.split.y)
        moved[decay] = float((attack.perturb(objective, x, BALL, draws) - x)[0, 0, 0, 0])
    first, second = (length(k, 2, BALL.eps) for k in (0, 1))
    assert abs(moved[0.0] - (first - second)) < 1e-6
    assert abs(moved[0.5] - (first - second)) < 1e-6  # .5 - 1 still points back
    assert abs(moved[1.0] - first) < 1e-6  # 1 - 1 points nowhere


def test_what_is_made_on_one_classifier_fools_another():
    b = digits().take(100)
    other = digits(epochs=3).classifier
    right = other(b.split.x).argmax(1) == b.split.y
    plain = OBJECTIVES["cross-entropy"]
    recorder = Recorder(Victim(b.classifier), b.split.x, b.split.y, Budget("linf", 0.25))
    objective = plain(recorder, b.split.y)
    draws = Draws(0, b.split.index.tolist())
    images = transfer(objective, b.split.x, recorder.budget, draws, steps=40, targets=0)
    fooled = (other(images).argmax(1) != b.split.y)[right]
    assert fooled.float().mean() > 0.8


def test_where_a_detector_is_known_it_aims_at_several_classes_and_the_recorder_sees_the_image_itself():
    b = digits().take(24)
    attack = MomentumDiverse(steps=20, targets=2)
    attacked = b.attack(attack, Budget("linf", 0.25), ADAPTIVE, "dual")
    recorder = attacked.recorder
    assert recorder.evasion_score.isfinite().float().mean() > 0.5
    assert recorder.stages[-1] == "momentum, diverse inputs"
    # 20 gradients, two looks on the way and one at the end for each class; the classes are one more.
    assert set(recorder.forward.tolist()) == {2 * 23 + 1}
