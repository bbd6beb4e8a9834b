"""Detectors whose shape misleads one objective and not another: a rejected gap, and a decoy."""

import pytest
import torch
from bench import Centres, Linear, climb, watched

from nfbench.core.classifier import Classifier
from nfbench.core.losses import Lagrangian
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.values import Budget
from nfbench.core.victim import Alarm, Victim

LABEL, TARGET = torch.tensor([0]), torch.tensor([1])


def image(*pixels: float) -> torch.Tensor:
    return torch.tensor(pixels).view(1, 1, 1, 2)


def discs(first: tuple[float, float], second: tuple[float, float], wall: float) -> Victim:
    """Class 1 where the first pixel exceeds `wall`; accepted within .08 of the two centres."""
    weights = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    classifier = Classifier(Linear(weights, torch.tensor([0.0, wall - 0.5])), 2).eval()
    alarm = Alarm(threshold=0.08, median=0.04, unit=0.04)
    return Victim(classifier, Centres(classifier, torch.tensor([first, second])), alarm)


X = image(0.05, 0.5)
GAP = discs((0.05, 0.5), (0.95, 0.5), wall=0.55)
"""Accepted images, a wall that the longest step does not reach, and accepted images behind it."""
BEYOND = Budget("l2", 0.86)


def lowest(victim: Victim, x: torch.Tensor, name: str, budget: Budget, *, aimed: bool = False) -> float:
    objective, recorder = watched(victim, x, LABEL, budget, name)
    climb(objective.towards(TARGET) if aimed else objective, x, budget)
    return recorder.evasion_score.item()


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_dual_crosses_a_gap_in_which_everything_is_rejected(aimed):
    assert lowest(GAP, X, "dual", BEYOND, aimed=aimed) < 0.04


@pytest.mark.parametrize("weight", [1.0, 3.0, 10.0])
def test_the_margin_does_not_cross_it_with_a_weight_of_one_or_more(weight):
    _, recorder = watched(GAP, X, LABEL, BEYOND)
    climb(OBJECTIVES["margin"](recorder, LABEL, GAP.alarm, weight=weight), X, BEYOND)
    assert recorder.evasion_score.item() == float("inf")


def test_the_margin_crosses_it_where_the_detector_hardly_counts():
    _, recorder = watched(GAP, X, LABEL, BEYOND)
    climb(OBJECTIVES["margin"](recorder, LABEL, GAP.alarm, weight=0.01), X, BEYOND)
    assert recorder.evasion_score.item() < GAP.alarm.threshold


ASIDE = image(0.2, 0.1)
DECOY = discs((0.2, 0.1), (0.65, 0.9), wall=0.5)
"""What is accepted as class 1 lies aside of the way out of class 0, whose own penalty leads back."""
BOX = Budget("linf", 0.8)


def lagrangian(term: str, name: str = "lagrangian") -> list[float]:
    """S* of each gamma of a fine geometric grid."""
    found = []
    for gamma in torch.logspace(-3, 4, 15).tolist():
        objective, recorder = watched(DECOY, ASIDE, LABEL, BOX, name)
        assert isinstance(objective, Lagrangian)
        climb(objective.with_gamma(gamma, term).towards(TARGET), ASIDE, BOX)
        found.append(recorder.evasion_score.item())
    return found


@pytest.mark.parametrize("name", ["lagrangian", "paper"])
def test_no_weight_of_the_true_class_s_penalty_hides_an_image_that_leaves_the_class(name):
    assert min(lagrangian("true", name)) > 3 * DECOY.alarm.threshold


def test_the_target_s_penalty_hides_it():
    assert min(lagrangian("target")) <= DECOY.alarm.threshold
    assert lowest(DECOY, ASIDE, "dual", BOX, aimed=True) <= 0.01
