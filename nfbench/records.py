"""What the runner leaves behind and the report reads: one record a cell, versioned."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

SCHEMA = 2
"""Version of the result files; raised when a reader of the old ones would misread the new."""

INTERRUPTED = "interrupted before it ran"
"""Reason of a cell that another run of the same command will fill."""

MARK = "⚑"
"""Beside numbers of flagged cells: they are shown and not ranked."""

Status = Literal["done", "failed", "skipped", "flagged"]


def revision(environment: Mapping[str, Any]) -> str:
    """The source that a process ran from: its commit, and whether that was changed, or a version."""
    commit = environment.get("git_commit") or f"nfbench {environment.get('nfbench', 'unknown')}"
    return f"{commit[:12]}{' changed' * bool(environment.get('git_dirty'))}"


class PluginRecord(BaseModel):
    """A plugin as it was used."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    name: str
    params: dict[str, Any]
    plugin: str
    version: str


class Value(BaseModel):
    """A metric; null where it is undefined, `flag` says why. Rates lie in [0, 1]."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    flag: str = ""


class CellRecord(BaseModel):
    """One finished (or failed, or skipped) entry of the matrix: a line of `results.jsonl`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    schema_version: int = SCHEMA
    cell: str
    defense: PluginRecord
    defender: str = ""
    """What the defender knows, where the detector learns from attacked images."""
    attack: PluginRecord
    threat_model: PluginRecord
    adaptive: bool
    """Whether the attacker knows of the detector."""
    asks_victim: bool = True
    """Whether he can ask the victim's own detector, and so choose among results image by image."""
    aims_at_threshold: bool = False
    """Whether the attack stops where the detector accepts at 5 %, and would follow another threshold."""
    follows_gradient: bool = False
    """Whether the attack follows the gradient of the victim's own detector."""
    objectives: list[str]
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float | None
    """Null: unbounded."""
    dataset: dict[str, Any]
    model: dict[str, Any]
    seed: int
    status: Status
    reason: str = ""
    flags: list[str] = []
    """Signs that the attack is weaker than it should be, a line each."""
    notes: list[str] = []
    """What a reader of the numbers must know, a line each."""
    caveat: str = ""
    """Why the numbers overstate what the defense could do, if they do."""
    metrics: dict[str, Value] = {}
    counts: dict[str, int] = {}
    timing: dict[str, float] = {}
    cost: dict[str, float] = {}
    stages: list[list[str]] = []
    """For each of `objectives` the parts of the attack, by the numbers in the vector `stage`."""
    winners: dict[str, int] = {}
    """How many images' best points each objective, or stage of one, has found; failures have none."""
    health: dict[str, float] = {}
    """Shares of probed images on which the victim's gradient is at fault, where it was granted."""
    environment: dict[str, Any] = {}
    """Of the process that scored it."""
    origins: list[str] = []
    """Source revision and device of every artifact it was computed from, each once."""
    inputs: list[str] = []
    """Digests of the artifacts it was computed from."""

    @property
    def finished(self) -> bool:
        """Whether there are numbers, flagged or not."""
        return self.status in ("done", "flagged")

    @property
    def row(self) -> str:
        """The defense, with what its defender knows; a dagger where there is a caveat."""
        label = self.defense.name + (f" ({self.defender})" if self.defender else "")
        return label + " †" * bool(self.caveat)

    @property
    def radius(self) -> float:
        """Of the ball; infinite where it is unbounded."""
        return math.inf if self.eps is None else self.eps

    @property
    def victim(self) -> tuple[Hashable, ...]:
        """What cells share that attack the same images of one victim, in one norm."""
        taught = self.attack.name if self.defender == "whitebox-defense" else ""
        return self.row, taught, self.seed, self.norm
