"""Two linear functions: the lowest score of a misclassified point is known for every angle between."""

import math

import numpy as np
import pytest
import torch
from bench import Along, Linear, climb
from scipy.optimize import linprog

from nfbench.core.classifier import Classifier
from nfbench.core.gradients import KAPPA, Dual, Orthogonal, orthogonal_step
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget, Norm
from nfbench.core.victim import Alarm, Victim

PIXELS = 16
ALARM = Alarm(threshold=-0.05, median=-10.0, unit=0.05)  # below any score: nothing is ever finished
ANGLES = (0, 5, 10, 20, 30, 45, 60, 90, 120, 150, 160, 170, 175, 180)
PARALLEL = (5, 10, 170, 175)
BUDGETS: dict[Norm, Budget] = {"l2": Budget("l2", 0.2), "linf": Budget("linf", 0.1)}


class Unguarded(Orthogonal):
    """The orthogonal steps of the formula, however parallel the two gradients are."""

    def combine(self, fool, hide, margin, rows):
        return orthogonal_step(fool, hide, margin > KAPPA, parallel=2.0)


def vectors(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors w, v in a random plane at `angle` degrees."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(PIXELS, 2)))
    turned = math.radians(angle)
    return q[:, 0], math.cos(turned) * q[:, 0] + math.sin(turned) * q[:, 1]


def reach(u: np.ndarray, budget: Budget) -> float:
    """The most that <u, delta> can be in the ball."""
    return budget.eps * float(np.linalg.norm(u) if budget.norm == "l2" else np.abs(u).sum())


def optimum(w: np.ndarray, v: np.ndarray, b: float, budget: Budget) -> float:
    """min <v, delta> subject to <w, delta> >= b in the ball around 0."""
    eps = budget.eps
    if budget.norm == "linf":
        return float(linprog(v, A_ub=[-w], b_ub=[-b], bounds=[(-eps, eps)] * PIXELS).fun)
    if -eps * (w @ v) >= b:
        return -eps
    across = v - (v @ w) * w
    length = float(np.linalg.norm(across))
    slide = math.sqrt(eps**2 - b**2) * across / length if length > 1e-9 else 0 * w
    return float(v @ (b * w - slide))


def gap(kind: type[Objective], angle: float, norm: Norm) -> float:
    """How far S* stays above the optimum, as a share of what the ball lets the score move."""
    budget, (w, v) = BUDGETS[norm], vectors(angle)
    b = 0.5 * reach(w, budget)
    weights = torch.tensor(np.stack([0 * w, w]), dtype=torch.float32)
    classifier = Classifier(Linear(weights, torch.tensor([0.0, b]), 10.0), 2).eval()
    detector = Along(classifier, torch.tensor(v, dtype=torch.float32))
    x, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    recorder = Recorder(Victim(classifier, detector, ALARM), x, labels, budget)
    climb(kind(recorder, labels, ALARM), x, budget)
    return (recorder.evasion_score.item() - optimum(w, v, b, budget)) / reach(v, budget)


def test_the_closed_form_is_what_a_fine_sweep_of_the_circle_finds():
    for angle in ANGLES:
        w, v = vectors(angle)
        across = v - (v @ w) * w
        across = across / max(np.linalg.norm(across), 1e-9)
        turns = np.linspace(0, 2 * np.pi, 20001)
        radii = np.linspace(0, 0.2, 21)
        points = np.concatenate([r * np.stack([np.cos(turns), np.sin(turns)], 1) for r in radii])
        feasible = points[points[:, 0] >= 0.1] @ np.stack([w, across]) @ v
        assert optimum(w, v, 0.1, BUDGETS["l2"]) == pytest.approx(feasible.min(), abs=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("angle", ANGLES)
def test_dual_reaches_the_optimum_at_every_angle(angle, norm):
    assert -1e-5 <= gap(Dual, angle, norm) <= 0.02


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("angle", PARALLEL)
def test_orthogonal_steps_without_a_guard_do_not_where_the_goals_are_nearly_parallel(angle, norm):
    assert gap(Unguarded, angle, norm) > 0.1


@pytest.mark.parametrize("angle", PARALLEL)
def test_the_guard_lets_orthogonal_steps_reach_it_in_l2(angle):
    assert gap(Orthogonal, angle, "l2") <= 0.02


@pytest.mark.parametrize("angle", [5, 10, 20])
def test_even_guarded_orthogonal_steps_stay_above_it_in_linf_at_small_angles(angle):
    assert gap(Orthogonal, angle, "linf") > 0.05
