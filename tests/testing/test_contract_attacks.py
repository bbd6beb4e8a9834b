"""What `check_attack` lets through, and each mistake that it refuses."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from nfbench import Access, Attack
from nfbench.testing import check_attack, checks


class Step(Attack):
    """One signed step."""

    name = "step"
    norm = "linf"
    adaptive_objectives = ("lagrangian",)

    def perturb(self, objective, x, budget, draws):
        eps = min(budget.eps, 0.25)
        x_adv = budget.project(x, x + eps * objective.gradient(x).sign())
        objective.query(x_adv)
        return x_adv


class Nearest(Attack):
    """Along the gradient, as far as it takes: bisection between the image and a wrong class."""

    name = "nearest"
    norm = "l2"
    minimises = True

    def perturb(self, objective, x, budget, draws):
        direction = F.normalize(objective.gradient(x).flatten(1)).view_as(x)
        low, high = torch.zeros(len(x), 1, 1, 1), torch.full((len(x), 1, 1, 1), min(2.0, budget.eps))
        with torch.no_grad():
            far = (x + high * direction).clamp(0, 1)
            possible = (objective.margin(far) > 0).view(-1, 1, 1, 1)
            for _ in range(12):
                middle = (low + high) / 2
                there = (objective.margin((x + middle * direction).clamp(0, 1)) > 0).view(-1, 1, 1, 1)
                low, high = torch.where(there, low, middle), torch.where(there, middle, high)
            return torch.where(possible, (x + high * direction).clamp(0, 1), self.failure(x))

    def failure(self, x):
        return x


class Guess(Attack):
    """The best of random steps, from queries alone."""

    name = "guess"
    norm = "linf"
    needs = Access.SCORES

    def perturb(self, objective, x, budget, draws):
        best, top = x, torch.full((len(x),), -math.inf)
        with torch.no_grad():
            for _ in range(200):
                signs = draws.signs("guess", 1, x)[:, 0]
                candidate = budget.project(x, x + budget.eps * signs)
                value = objective.loss(candidate)
                best = torch.where((value > top).view(-1, 1, 1, 1), candidate, best)
                top = torch.maximum(top, value)
        return best


@pytest.mark.parametrize("attack", [Step(), Nearest(), Guess()], ids=lambda a: a.name)
def test_a_good_attack_passes(attack):
    check_attack(attack)


def stepping(name, body, **declared):
    """An attack like `Step` whose `perturb` is `body`."""
    return type("Planted", (Step,), {"name": name, "__doc__": "Planted.", "perturb": body, **declared})()


def _over_budget(self, objective, x, budget, draws):
    return (x + (budget.eps + 1e-3) * objective.gradient(x).sign()).clamp(0, 1)


def _outside_the_box(self, objective, x, budget, draws):
    return x + 0.6 * objective.gradient(x).sign()


def _fixed_step(self, objective, x, budget, draws):
    return (x + 0.1 * objective.gradient(x).sign()).clamp(0, 1)


def _writes(self, objective, x, budget, draws):
    x += 0.25 * objective.gradient(x).sign()
    return x


def _writes_a_copy_back(self, objective, x, budget, draws):
    x_adv = Step.perturb(self, objective, x.clone(), budget, draws)
    x.copy_(x_adv * 0.999)
    return x_adv


def _flat(self, objective, x, budget, draws):
    return Step.perturb(self, objective, x, budget, draws).flatten(1)


def _double(self, objective, x, budget, draws):
    return Step.perturb(self, objective, x, budget, draws).double()


def _nan(self, objective, x, budget, draws):
    return Step.perturb(self, objective, x, budget, draws) / 0 * 0


def _global_noise(self, objective, x, budget, draws):
    start = budget.project(x, x + budget.eps * (2 * torch.rand_like(x) - 1))
    return budget.project(x, start + 2 * budget.eps * objective.gradient(start).sign())


def _numpy_noise(self, objective, x, budget, draws):
    import numpy as np

    keep = torch.from_numpy(np.random.rand(len(x), 1, 4, 4)) < 0.9  # noqa: NPY002
    return budget.project(x, x + budget.eps * keep * objective.gradient(x).sign())


CALLS = {}


def _remembers(self, objective, x, budget, draws):
    calls = CALLS.setdefault(self.name, itertools.count(1))
    return budget.project(x, x + budget.eps / next(calls) ** 0.1 * objective.gradient(x).sign())


def _summed(self, objective, x, budget, draws):
    gradient = objective.gradient(x)
    return budget.project(x, x + 20 * budget.eps * gradient / gradient.norm())


def _best_of_batch(self, objective, x, budget, draws):
    draw = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1
    return budget.project(x, x + budget.eps * (objective.gradient(x).sign() + 0.5 * draw))


def _downhill(self, objective, x, budget, draws):
    return budget.project(x, x - budget.eps * objective.gradient(x).sign())


def _does_nothing(self, objective, x, budget, draws):
    return x.clone()


def _swallows(self, objective, x, budget, draws):
    try:
        return Step.perturb(self, objective, x, budget, draws)
    except Exception:
        return x


def _unqueried(self, objective, x, budget, draws):
    return budget.project(x, x + budget.eps * objective.gradient(x).sign())


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (_over_budget, "left the ball or the box"),
        (_outside_the_box, "left the ball or the box"),
        (_fixed_step, "left the ball or the box"),
        (_writes, "wrote into the images"),
        (_writes_a_copy_back, "wrote into the images"),
        (_flat, "must return images of shape"),
        (_double, "torch.float64"),
        (_nan, "not finite"),
        (_global_noise, "draws from torch's global generator"),
        (_numpy_noise, "differ in a second run with the same draws"),
        (_remembers, "differ in a second run with the same draws"),
        (_summed, "attacked alone"),
        (_best_of_batch, "attacked alone"),
        (_downhill, "fools a linear classifier on 0%"),
        (_does_nothing, "fools a linear classifier on 0%"),
        (_swallows, "do not swallow UnknownToAttacker"),
        (_unqueried, "left a misclassified point with the recorder for 0%"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_attack_is_refused(refused, body, cause):
    refused(check_attack, stepping("planted", body), cause)


class Black(Nearest):
    """Returns black images where it fails."""

    name = "black"

    def failure(self, x):
        return torch.zeros_like(x)


class Careless(Nearest):
    """Goes to the nearest half, and stays there."""

    name = "careless"

    def perturb(self, objective, x, budget, draws):
        far = F.normalize(objective.gradient(x).flatten(1)).view_as(x) * min(budget.eps, 2.0)
        return (x + far).clamp(0, 1)


def test_black_images_for_failures_are_refused(refused):
    refused(check_attack, Black(), "left the ball|in a single colour")


def test_black_images_are_refused_even_where_no_ball_forbids_them():
    clause = next(c for c in checks(Black()) if c.title.startswith("where it fails"))
    with pytest.raises(AssertionError, match="in a single colour: return the best attempt"):
        clause.run()


def test_a_minimising_attack_far_from_the_optimum_is_refused(refused):
    refused(check_attack, Careless(), "times the smallest ones")


def test_an_attack_that_needs_more_access_than_it_says_is_refused(refused):
    planted = stepping("understates", Step.perturb, needs=Access.SCORES)
    refused(check_attack, planted, "declares needs = Access.SCORES and asked for more")


def test_an_attack_that_needs_less_access_than_it_says_is_refused(refused):
    planted = type(
        "Planted", (Guess,), {"name": "overstates", "needs": Access.GRADIENT, "__doc__": "x"}
    )()
    refused(check_attack, planted, "ran to the end without gradients")


def test_an_unknown_objective_is_refused(refused):
    planted = stepping("unknown", Step.perturb, static_objective="crossentropy")
    refused(check_attack, planted, "no objective is called 'crossentropy'; there are: cross-entropy")
