"""How well two unit vectors can fit a preset's responses when one of them must have a given class."""

import numpy as np
import pytest
from scipy.optimize import minimize

from nfbench_defenses.neuralfp import NeuralFP

STARTS = 4
PRESETS = {
    # The least misfit where x has the class, where x has another, and where x + dx has the class. In
    # closed form: the vector that is free is best chosen along u + dy (or v - dy) and leaves
    # ||u + dy| - 1|, which depends on u through <u, dy> alone.
    "code": ({"preset": "code"}, 10, (0.0, 0.0, 0.0445)),
    "code-cifar10": ({"preset": "code-cifar10"}, 10, (0.0, 0.0272, 0.3800)),
    "code-imagenet": ({"preset": "code-imagenet"}, 20, (0.0, 0.0, 0.0)),
    "equation 11": ({"preset": "paper", "dy_on": 0.75, "dy_off": -0.25}, 10, (0.0846, 0.0, 0.0)),
    "paper": ({"preset": "paper"}, 10, (0.0742, 0.0, 0.0)),
    "epfl": ({"preset": "epfl"}, 10, (0.0, 0.0, 0.0846)),
}


def wins(u: np.ndarray) -> np.ndarray:
    """Not negative where entry 0 is the largest."""
    return u[0] - u[1:]


def loses(u: np.ndarray) -> np.ndarray:
    """Not negative where entry 1, which stands for all the others, is at least as large as entry 0."""
    return u[1:2] - u[:1]


CONSTRAINTS = [(wins, None), (loses, None), (None, wins)]
"""On u, the direction of the logits at x, and on v, that at x + dx."""


def least_misfit(dy: np.ndarray, at_x, at_perturbed) -> float:
    """Smallest |v - u - dy| over unit vectors u and v, found by descent from many starts."""
    size = len(dy)

    def misfit(z: np.ndarray) -> tuple[float, np.ndarray]:
        gap = z[size:] - z[:size] - dy
        return gap @ gap, np.concatenate([-2 * gap, 2 * gap])

    constraints = [
        {"type": "eq", "fun": lambda z: z[:size] @ z[:size] - 1},
        {"type": "eq", "fun": lambda z: z[size:] @ z[size:] - 1},
    ]
    if at_x is not None:
        constraints.append({"type": "ineq", "fun": lambda z: at_x(z[:size])})
    if at_perturbed is not None:
        constraints.append({"type": "ineq", "fun": lambda z: at_perturbed(z[size:])})
    rng, best = np.random.default_rng(0), np.inf
    for _ in range(STARTS):
        start = rng.normal(size=2 * size)
        found = minimize(misfit, start, jac=True, method="SLSQP", constraints=constraints)
        if found.success:
            best = min(best, max(found.fun, 0) ** 0.5)
    return best


@pytest.mark.parametrize("name", PRESETS)
def test_responses_conflict_with_classes_exactly_as_the_geometry_says(name):
    knobs, classes, known = PRESETS[name]
    _, dy = NeuralFP(**knobs).secrets((1, 1, 1), classes)
    found = [least_misfit(dy[0, 0].double().numpy(), *constraint) for constraint in CONSTRAINTS]
    assert found == pytest.approx(known, abs=1e-3)
