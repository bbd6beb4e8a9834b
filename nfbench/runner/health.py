"""Gradient health: whether the gradients that attacks follow say how the victim really changes."""

from __future__ import annotations

import torch
from torch import Tensor

from nfbench.core.classifier import memory_on
from nfbench.core.draws import Draws
from nfbench.core.surrogate import Straight
from nfbench.core.values import Images, Labels, per_image
from nfbench.core.victim import Victim

PROBED = 16
"""Images that are looked at."""
STEPS = (2e-2, 5e-3, 1e-3, 2e-4)
"""Largest change of a pixel between the middle and an end of a finite difference."""
DRAW = 1
"""The one draw that a stochastic detector makes for all probes; scores are reported from draw 0."""
WRONG = 0.1
"""Relative difference at which a gradient is off."""
ULP = 2.0**-23


def gradient_health(victim: Victim, x: Images, y: Labels, seed: int) -> dict[str, float]:
    """How often gradients vanish, are not finite, or are not what finite differences say.

    Looks at the detector's score and, named `margin_…`, at the class margin, on the first 16 images,
    with a little noise and drawn in from the edge of the box so that no step leaves it. A gradient is
    off where the median over three directions, its own and two random ones, of the relative error is
    above 10 %; each direction has the best of four step sizes, so that neither kinks nor rounding look
    like a fault.

    Of a score whose gradient is a surrogate's, only zeros and what is not finite are faults: that it
    differs from finite differences is what a surrogate is for.

    Returns:
        Shares of the images in [0, 1]: `zero_gradient`, `non_finite_gradient`, `finite_difference_off`.
    """
    assert victim.detector is not None
    before, victim.detector.draw = victim.detector.draw, DRAW
    x, y = x[:PROBED], y[:PROBED]
    draws = Draws(seed, range(len(x)))
    # Of a flat background pooling takes the greatest of equal numbers, which has no derivative there.
    x = x.clamp(2 * STEPS[0], 1 - 2 * STEPS[0]) + STEPS[0] * (2 * draws.uniform("off flat", x) - 1)
    random = [2 * draws.uniform("health", x) - 1 for _ in range(2)]
    size = max(1, min(PROBED, victim.images_within(memory_on(x), x)))
    found: dict[str, list[Tensor]] = {}
    for rows in torch.arange(len(x), device=x.device).split(size):
        for name, faults in _probe(victim, x[rows], y[rows], [r[rows] for r in random]).items():
            found.setdefault(name, []).append(faults)
    victim.detector.draw = before
    return {name: float(torch.cat(parts).double().mean()) for name, parts in found.items()}


def _probe(victim: Victim, x: Images, y: Labels, random: list[Images]) -> dict[str, Tensor]:
    """Which images have which fault. Each (B,) bool."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        values = _terms(victim, leaf, y)
        gradients = [_gradient(value, leaf) for value in values]
    found = {}
    for place, prefix in enumerate(("", "margin_")):
        value, gradient = values[place].detach(), gradients[place]
        reach = gradient.abs().flatten(1).sum(1)  # what crossing the whole box would change at most
        least = ULP * value.abs()
        if stands_in := place == 0 and isinstance(victim.detector, Straight):
            least = torch.zeros_like(least)  # a surrogate may be in other units than the score
        broken = ~gradient.flatten(1).isfinite().all(1)
        found[f"{prefix}zero_gradient"] = ~broken & ~(reach > least)
        found[f"{prefix}non_finite_gradient"] = broken
        if stands_in:
            continue
        errors = [_error(victim, x, y, place, gradient, d) for d in (_scaled(gradient), *random)]
        off = ~(torch.stack(errors).median(0).values <= WRONG)
        found[f"{prefix}finite_difference_off"] = off & ~broken
    return found


def _terms(victim: Victim, x: Images, y: Labels) -> tuple[Tensor, Tensor]:
    """The detector's score, and the best wrong class's logit less the right one's. (B,) each"""
    seen = victim.observe(x)
    assert seen.score is not None
    right = seen.logits.gather(1, y[:, None])[:, 0]
    return seen.score, seen.logits.scatter(1, y[:, None], -torch.inf).amax(1) - right


def _gradient(value: Tensor, x: Images) -> Tensor:
    """Zero where the value does not depend on the images as far as autograd knows."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value.sum(), x, retain_graph=True, materialize_grads=True)[0]


def _scaled(gradient: Tensor) -> Tensor:
    """With largest entry 1, where it has one."""
    largest = per_image(gradient.abs().flatten(1).amax(1), gradient)
    return (gradient / largest).where(largest > 0, 0.0)


@torch.no_grad()
def _error(  # noqa: PLR0917  # where, of what, and which way
    victim: Victim, x: Images, y: Labels, place: int, gradient: Tensor, direction: Tensor
) -> Tensor:
    """Relative difference of directional derivative and central difference, at the best step. (B,)"""
    told = (gradient * direction).flatten(1).sum(1)
    errors = []
    for step in STEPS:
        up, down = (_terms(victim, x + s * step * direction, y)[place] for s in (1, -1))
        seen = (up - down) / (2 * step)
        apart = (seen - told).abs()
        larger = torch.maximum(seen.abs(), told.abs())
        errors.append((apart / larger).where(apart > 0, 0.0).nan_to_num(torch.inf, torch.inf))
    return torch.stack(errors).amin(0)
