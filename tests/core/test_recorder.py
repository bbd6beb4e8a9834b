"""The recorder keeps what counts, counts what was asked, and withholds what is not granted."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.errors import ContractViolation, UnknownToAttacker
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Alarm, Victim


class FirstThree(nn.Module):
    """Logits are the first three pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :3]


class FourthPixel(Detector):
    """The score is the fourth pixel."""

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, 3]


class Moody(FourthPixel):
    """The fourth pixel, and more of it in some draws."""

    stochastic = True
    moods: ClassVar[dict[int, float]] = {2: 0.2, 9: 0.1, 18: 0.3}

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return super().score(x) + self.moods.get(self.draw, 0.0)


ALARM = Alarm(threshold=0.5, median=0.2, unit=0.1)
X = torch.tensor([[0.6, 0.4, 0.0, 0.9]] * 3).view(3, 1, 2, 2)  # class 0, score .9
LABELS = torch.zeros(3, dtype=torch.int64)


def recorder(*, detector: bool = True, eps: float = 0.5, access: Access = Access.GRADIENT) -> Recorder:
    classifier = Classifier(FirstThree(), 3).eval()
    victim = Victim(classifier, FourthPixel(classifier), ALARM) if detector else Victim(classifier)
    return Recorder(victim, X, LABELS, Budget("linf", eps), access)


def point(score: float, *, fooled: bool = True, offset: float = 0.0) -> torch.Tensor:
    """One image with a known score and prediction; `offset` goes into a logit that never wins."""
    return torch.tensor([0.4 if fooled else 0.6, 0.5, offset, score]).view(1, 1, 2, 2)


def batch(*points: torch.Tensor) -> torch.Tensor:
    return torch.cat(points)


def test_nothing_is_known_before_the_first_query():
    r = recorder()
    assert r.evasion_score.tolist() == [math.inf] * 3
    assert torch.equal(r.best, X)
    assert not r.finished.any()
    assert r.forward.tolist() == r.backward.tolist() == [0, 0, 0]


def test_the_lowest_score_among_misclassified_points_is_kept_with_its_image():
    r = recorder()
    first = batch(point(0.7), point(0.8), point(0.6))
    second = batch(point(0.8), point(0.5), point(0.6, offset=0.3))
    r.query(first)
    r.query(second)
    assert torch.equal(r.evasion_score, torch.tensor([0.7, 0.5, 0.6]))
    assert torch.equal(r.best, batch(point(0.7), point(0.5), point(0.6)))


def test_a_point_that_is_classified_correctly_does_not_count():
    r = recorder()
    r.query(batch(point(0.5, fooled=False), point(0.6), point(0.5, fooled=False)))
    assert r.evasion_score.isfinite().tolist() == [False, True, False]
    assert torch.equal(r.best[0], X[0])


def test_points_outside_the_ball_or_the_box_gain_nothing():
    r = recorder(eps=0.3)
    outside_ball, outside_box, inside = point(0.55), point(0.65), point(0.7)  # moved by .35, .25, .2
    outside_box[0, 0, 1, 0] = -0.01
    r.query(batch(inside, outside_ball, outside_box))
    assert torch.equal(r.evasion_score, torch.tensor([0.7, math.inf, math.inf]))
    assert not r.finished.any()
    r.query(batch(outside_ball, outside_box, inside))
    assert torch.equal(r.evasion_score, torch.tensor([0.7, math.inf, 0.7]))
    assert torch.equal(r.best, batch(inside, X[1:2], inside))


def test_a_probe_that_is_not_recorded_counts_as_a_query_and_nothing_else():
    r = recorder()
    seen = r.query(batch(point(0.1), point(0.1), point(0.1)), record=False)
    assert torch.equal(seen.score, torch.full((3,), 0.1))
    assert not r.evasion_score.isfinite().any()
    assert not r.finished.any()
    assert torch.equal(r.best, X)
    assert r.forward.tolist() == [1, 1, 1]


def test_rows_say_whom_the_candidates_belong_to():
    r = recorder()
    rows = torch.tensor([2, 0])
    r.query(batch(point(0.6), point(0.7)), rows)
    assert torch.equal(r.evasion_score, torch.tensor([0.7, math.inf, 0.6]))
    assert torch.equal(r.best[2], point(0.6)[0])
    assert torch.equal(r.best[1], X[1])
    assert r.forward.tolist() == [1, 0, 1]


def test_rows_of_what_is_recorded_do_not_repeat():
    r, rows = recorder(), torch.tensor([1, 1])
    with pytest.raises(ContractViolation, match="rows of a query repeat"):
        r.query(batch(point(0.1), point(0.2)), rows)
    r.query(batch(point(0.1), point(0.2)), rows, record=False)
    assert r.forward.tolist() == [0, 2, 0]


def test_a_point_counts_with_the_higher_of_two_draws_of_a_stochastic_detector():
    classifier = Classifier(FirstThree(), 3).eval()
    r = Recorder(Victim(classifier, Moody(classifier), ALARM), X, LABELS, Budget("linf", 0.8))
    first = batch(point(0.35), point(0.4), point(0.1, fooled=False))
    r.query(first)  # draws 1 and 2
    assert torch.allclose(r.evasion_score, torch.tensor([0.55, 0.6, math.inf]))
    assert r.forward.tolist() == [2, 2, 1]
    r.query(batch(point(0.5), point(0.45), point(0.9, fooled=False)))  # draws 9 and 10: .6; .55 not .45
    assert torch.allclose(r.evasion_score, torch.tensor([0.55, 0.55, math.inf]))
    assert torch.equal(r.best[:2], batch(point(0.35), point(0.45)))
    assert r.forward.tolist() == [3, 4, 2]
    r.query(batch(point(0.3), point(0.3), point(0.9, fooled=False)))  # draws 17 and 18: a lucky first
    assert torch.allclose(r.evasion_score, torch.tensor([0.55, 0.55, math.inf]))
    assert not r.finished.any()
    assert r.forward.tolist() == [5, 6, 3]


def test_to_be_finished_takes_eight_draws_of_a_stochastic_detector():
    classifier = Classifier(FirstThree(), 3).eval()
    late = type("Late", (Moody,), {"moods": {8: 0.5, 13: 0.05}})
    r = Recorder(Victim(classifier, late(classifier), ALARM), X, LABELS, Budget("linf", 0.9))
    r.query(batch(point(0.1), point(0.55), point(0.1, fooled=False)))  # the eighth draw tells
    assert torch.allclose(r.evasion_score, torch.tensor([0.6, 0.55, math.inf]))
    assert r.forward.tolist() == [8, 2, 1]
    assert not r.finished.any()
    r.query(batch(point(0.1), point(0.18), point(0.1, fooled=False)))  # draws 9 to 16
    assert torch.allclose(r.evasion_score, torch.tensor([0.15, 0.23, math.inf]))
    assert r.finished.tolist() == [True, False, False]
    assert r.forward.tolist() == [16, 7, 2]


def test_every_pass_is_counted_for_the_images_it_was_made_for():
    ticks = []
    classifier = Classifier(FirstThree(), 3).eval()
    r = Recorder(Victim(classifier), X, LABELS, Budget("linf", 1.0), tick=ticks.append)
    r.query(X)
    r.query(X[:2], torch.tensor([1, 2]))
    r.query(X[:1].expand(4, -1, -1, -1), torch.tensor([1, 1, 1, 0]), record=False)
    assert r.forward.tolist() == [2, 5, 2]
    assert r.backward.tolist() == [0, 0, 0]
    assert ticks == [3, 2, 4]


def test_backward_passes_are_counted_when_they_happen():
    r = recorder()
    x = X[:2].clone().requires_grad_()
    seen = r.query(x, torch.tensor([0, 2]))
    assert r.backward.tolist() == [0, 0, 0]
    torch.autograd.grad(seen.score.sum(), x, retain_graph=True)
    torch.autograd.grad(seen.logits.sum(), x)
    assert r.forward.tolist() == [1, 0, 1]
    assert r.backward.tolist() == [2, 0, 2]


def test_with_a_detector_an_image_is_finished_at_the_clean_median():
    r = recorder(eps=1.0)
    r.query(batch(point(0.21), point(0.2), point(0.1, fooled=False)))
    assert r.finished.tolist() == [False, True, False]
    r.query(batch(point(0.9), point(0.9), point(0.9)))
    assert r.finished.tolist() == [False, True, False]  # stays finished


def test_without_a_detector_an_image_is_finished_once_it_was_misclassified_inside_the_ball():
    r = recorder(detector=False)
    r.query(batch(point(0.9), point(0.9, fooled=False), point(0.1)))  # the last one leaves the ball
    assert r.finished.tolist() == [True, False, False]
    assert not r.evasion_score.isfinite().any()
    assert torch.equal(r.best, X)
    r.query(X)
    assert r.finished.tolist() == [True, False, False]


def test_what_the_recorder_keeps_is_detached_and_a_copy():
    r = recorder()
    x = batch(point(0.6), point(0.6), point(0.6)).requires_grad_()
    r.query(x)
    assert not r.best.requires_grad
    with torch.no_grad():
        x.zero_()
    assert torch.equal(r.best[0], point(0.6)[0])


@pytest.mark.parametrize("detector", [True, False])
@pytest.mark.parametrize("access", [Access.SCORES, Access.DECISION])
def test_a_gradient_that_is_not_granted_is_refused(access, detector):
    r = recorder(access=access, detector=detector)
    x = X.clone().requires_grad_()
    seen = r.query(x)
    for part in seen:
        if part is not None:
            with pytest.raises(UnknownToAttacker, match="withheld"):
                part.sum().backward()
    assert r.backward.tolist() == [0, 0, 0]


def test_scores_access_shows_the_true_numbers():
    x = batch(point(0.6), point(0.3), point(0.9, fooled=False))
    granted = recorder().query(x)
    shown = recorder(access=Access.SCORES).query(x)
    assert torch.equal(shown.logits, granted.logits)
    assert torch.equal(shown.score, granted.score)


def test_decision_access_shows_the_class_and_whether_it_is_accepted_and_no_more():
    r = recorder(access=Access.DECISION)
    seen = r.query(batch(point(0.6), point(0.5), point(0.9, fooled=False)))
    assert seen.logits.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert seen.score.tolist() == [1, 0, 1]  # the threshold itself is accepted
    assert seen.penalties is None
    assert r.evasion_score.tolist() == [1, 0, math.inf]
    assert r.finished.tolist() == [False, True, False]


def test_decision_access_without_a_detector_shows_the_class_only():
    seen = recorder(access=Access.DECISION, detector=False).query(X)
    assert seen.logits.tolist() == [[1, 0, 0]] * 3
    assert seen.score is None
