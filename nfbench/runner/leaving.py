"""What a run leaves out: attacks that say nothing under a threat model, or not of a defense.

Written `attack@threat-model`, or `defense:attack@threat-model`; each part may be a glob.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from nfbench.core.errors import UsageError


def left_out(patterns: Sequence[str], defense: str, attack: str, threat_model: str) -> bool:
    """Whether a pattern names this cell."""
    return any(_matches(pattern, (defense, attack, threat_model)) for pattern in patterns)


def require_meant(patterns: Sequence[str], cells: Iterable[tuple[str, str, str]]) -> None:
    """Refuse patterns that leave nothing out, which a typing error does.

    Args:
        patterns: what is to be left out.
        cells: defense, attack and threat model of everything there would be.

    Raises:
        UsageError: naming the pattern.
    """
    everything = list(cells)
    for pattern in patterns:
        if pattern.count("@") != 1 or pattern.count(":") > 1:
            raise UsageError(
                f"--skip {pattern}: expected attack@threat-model or defense:attack@threat-model, "
                "such as 'cw*@blackbox'"
            )
        if not any(_matches(pattern, cell) for cell in everything):
            raise UsageError(f"--skip {pattern} has no effect: the run has no such cells")


def _matches(pattern: str, cell: tuple[str, str, str]) -> bool:
    rest, _, threat_model = pattern.partition("@")
    defense, colon, attack = rest.rpartition(":")
    wanted = (defense if colon else "*", attack, threat_model)
    return all(fnmatchcase(name, part) for name, part in zip(cell, wanted, strict=True))
