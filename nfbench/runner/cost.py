"""What an attack will cost, measured on a few images before it starts."""

from __future__ import annotations

import time

import torch

from nfbench.core.attack import Attack
from nfbench.core.classifier import MIN_ROWS
from nfbench.core.values import Split
from nfbench.core.victim import Victim


def price(attack: Attack, victim: Victim, images: Split) -> str:
    """One line: passes of an image that meets every stage, and how long that is for all of them."""
    few = images.x[: 4 * MIN_ROWS]
    for seconds in (_timed(victim, few), _timed(victim, few)):  # the first pass warms up
        a_pass = seconds / len(few)
    passes = attack.passes_among(victim.classifier.num_classes)
    minutes = a_pass * passes * len(images) / 60
    told = f"{60 * minutes:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min"
    return (
        f"{attack.name}: at most {passes} passes forward and back for each of {len(images)} "
        f"images, {told} at {1e3 * a_pass:.2g} ms a pass; images leave once nothing more is to be had"
    )


def _timed(victim: Victim, x: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.enable_grad():
        at = x.clone().requires_grad_()
        seen = victim.observe(at)
        goal = seen.logits.sum() if seen.score is None else seen.logits.sum() + seen.score.sum()
        float(torch.autograd.grad(goal, at)[0].sum())  # a GPU has finished by then
    return time.perf_counter() - start
