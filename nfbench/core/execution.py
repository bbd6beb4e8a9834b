"""Executors: where the jobs of a plan run. What they exchange with the driver is text, never code.

A worker is told a site and a task, both JSON, calls `perform`, and gives back a report, JSON too.
Artifacts go through the store. Imports no torch, so that listing executors stays quick.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from traceback import format_exc
from typing import Literal, Self

from nfbench.core.recipe import Recipe

Result = Literal["made", "present", "busy", "failed", "damaged", "unwritable", "lost"]


@dataclass(frozen=True)
class Task:
    """A job as an executor sees it."""

    key: str
    label: str
    payload: str
    """What `perform` is called with."""
    alone: bool = False
    """Whether nothing else should run on the machine meanwhile; it measures time."""


@dataclass(frozen=True)
class Report:
    """What came of a task."""

    key: str
    result: Result
    """`made`, or `present` if somebody else was quicker; `busy` while somebody else makes it; `failed`
    for a reason that would come again; `damaged` if its input `about` is; `unwritable` if the store
    takes no more; `lost` with the worker, which is worth another try."""
    seconds: float = 0.0
    reason: str = ""
    """One line."""
    traceback: str = ""
    about: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


class Engine(ABC):
    """An executor at work, for one run. Used by one thread."""

    slots: int
    """How many tasks can run at once; more than these need not be submitted."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Take a task on. Returns at once; called with at most `slots` tasks in flight."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Report]:
        """Reports that have come in, waiting at most so long for the first.

        Tasks that went with their worker are among them, as `lost`.
        """

    @abstractmethod
    def close(self, *, abandon: bool) -> None:
        """Free everything. With `abandon` running tasks are stopped; what they leave is told as lost."""


class Executor(Recipe):
    """Base of executor plugins; fields are what a user may set by `--set`."""

    @abstractmethod
    def engine(self, site: str) -> Engine:
        """Start working for a run.

        Args:
            site: what `perform` is called with besides a task: where the store and the data are.

        Raises:
            UsageError: for devices or an address that are not there.
        """


def perform(site: str, payload: str, device: str) -> str:
    """Do a task in this process: what executors call in their workers.

    Args:
        site: what the executor was given.
        payload: that of the task.
        device: where, such as `cpu` or `cuda:1`.

    Returns:
        The report, as JSON; errors are told in it and never raised.
    """
    told = json.loads(payload)
    try:
        module, _, name = json.loads(site)["worker"].partition(":")
        done: Report = getattr(importlib.import_module(module), name)(site, payload, device)
    except Exception as error:
        reason = f"{told['job']['label']}: {type(error).__name__}: {' '.join(str(error).split())}"
        return Report(told["key"], "failed", reason=reason, traceback=format_exc()).to_json()
    return done.to_json()
