"""What a run leaves out: attacks that say nothing under a threat model, named `attack@threat-model`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from nfbench.core.errors import UsageError


def left_out(patterns: Sequence[str], attack: str, threat_model: str) -> bool:
    """Whether a pattern names this pair; both halves may be globs."""
    return any(_matches(pattern, attack, threat_model) for pattern in patterns)


def require_meant(patterns: Sequence[str], attacks: Sequence[str], threat_models: Sequence[str]) -> None:
    """Refuse patterns that leave nothing out, which a typing error does.

    Raises:
        UsageError: naming the pattern.
    """
    for pattern in patterns:
        if pattern.count("@") != 1:
            raise UsageError(f"--skip {pattern}: expected attack@threat-model, such as 'cw*@blackbox'")
        if not any(_matches(pattern, a, t) for a in attacks for t in threat_models):
            raise UsageError(
                f"--skip {pattern} has no effect: no such attack and threat model in this run"
            )


def _matches(pattern: str, attack: str, threat_model: str) -> bool:
    left, _, right = pattern.partition("@")
    return fnmatchcase(attack, left) and fnmatchcase(threat_model, right)
