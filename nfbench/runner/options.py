"""What is asked for, before any name is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean

DEFAULT_THREAT_MODELS = ("partial-whitebox", "adaptive-whitebox")
DEFENDERS = ("blackbox-defense", "whitebox-defense")
"""What the defender knows: `blackbox-defense` learns from one attack and is tested on all (Table 4
of the NeuralFP paper), `whitebox-defense` learns from each attack it is tested on (Table 10)."""


STRONGEST = {"linf": "detector-breaker", "l2": "detector-breaker-l2"}
"""What `--attacks strongest` is, for each norm that there is a portfolio for."""


@dataclass(frozen=True)
class Options:
    """What a command line, an environment and a file ask for, before any name is looked up."""

    defense: Sequence[str] = ()
    attacks: Sequence[str] = ("all",)
    threat_model: Sequence[str] = DEFAULT_THREAT_MODELS
    defender: Sequence[str] = DEFENDERS[:1]
    dataset: str = "digits"
    model: str = ""
    weights: Path | None = None
    skip: Sequence[str] = ()
    """Cells to leave out, `attack@threat-model` or `defense:attack@threat-model`; globs."""
    eps: Sequence[str] = ()
    budget: str = ""
    """How long the strongest attacks may take; their own default if empty."""
    limit: int | None = None
    train_limit: int | None = None
    seed: Sequence[int] = (0,)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spare: frozenset[str] = frozenset()
    """What `settings` and `skip` may name although it is not part of the run."""
    data_dir: Path | None = None


def defenders_of(names: Sequence[str]) -> tuple[str, ...]:
    """What defenders may know, from the names of a flag.

    Raises:
        UsageError: for an unknown one.
    """
    if not names:
        raise UsageError(f"--defender needs {' or '.join(DEFENDERS)}, or all")
    for name in names:
        if name not in (*DEFENDERS, "all"):
            hint = did_you_mean(name, DEFENDERS)
            raise UsageError(f"--defender {name}: expected {' or '.join(DEFENDERS)}, or all{hint}")
    return DEFENDERS if "all" in names else tuple(dict.fromkeys(names))
