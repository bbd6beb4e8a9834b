"""Surrogates: which gradient an attack follows where a detector has none, decided before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from nfbench.core.attack import Attack
from nfbench.core.defense import Detector, Gradient
from nfbench.core.surrogate import Straight, declared
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access
from nfbench.runner.student import stand_in

Surrogate: TypeAlias = Literal["", "declared", "distilled"]
"""What is followed in place of the score; empty: nothing is."""
Follow: TypeAlias = Literal["auto", "declared", "distilled", "none"]


def chosen(threat: ThreatModel) -> Follow:
    """What a threat model follows; one that says nothing about it takes what there is."""
    follow: Follow = getattr(threat, "surrogate", "auto")
    return follow


def needed(attack: Attack, threat: ThreatModel) -> bool:
    """Whether a detector without gradient would stand in the way."""
    return threat.adaptive and threat.access is Access.GRADIENT is attack.needs


def surrogate_of(gradient: Gradient, attack: Attack, threat: ThreatModel) -> Surrogate:
    """What an attack follows in place of the score of a detector with such a gradient."""
    if gradient == "exact" or not needed(attack, threat):
        return ""
    if chosen(threat) == "distilled" or gradient == "none":
        return "distilled"
    return "declared"


def unfollowable(name: str, gradient: Gradient, attack: Attack, threat: ThreatModel) -> str:
    """Why there is nothing that the attack could follow on the detector `name`; empty if there is."""
    if gradient == "exact" or not needed(attack, threat):
        return ""
    instead = f"take a query attack, or set {threat.name}.surrogate to distilled"
    if chosen(threat) == "none":
        return f"{name} has no gradient, and {threat.name} follows no surrogate: {instead}"
    if chosen(threat) == "declared" and gradient == "none":
        return f"{name} has no gradient and declares no surrogate: {instead}"
    return ""


def followed(
    detector: Detector, surrogate: Surrogate, tensors: Mapping[str, Tensor], shape: Sequence[int]
) -> Detector:
    """The detector as an attack has it: its own values, with the gradient of what stands in."""
    if not surrogate:
        return detector
    if surrogate == "declared":
        return Straight(detector, declared(detector)).eval()
    return Straight(detector, stand_in(tensors, tuple(shape), detector.classifier)).eval()


def note(surrogate: Surrogate, correlations: Sequence[float]) -> list[str]:
    """What a reader must know of the gradients; the least correlation where there are several."""
    if surrogate == "declared":
        return ["gradients are those of a declared surrogate"]
    if surrogate == "distilled":
        found = f"(rank correlation {min(correlations):.2f})"
        return [f"gradients are those of a surrogate distilled from its scores {found}"]
    return []
