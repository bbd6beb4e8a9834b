"""Shared fixtures: a registry, and real data where the checkout has it."""

import os
import sys
from pathlib import Path

import pytest

from nfbench.core.registry import Registry

# Helper processes started by tests inherit this; jobs themselves always use one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture
def without_matplotlib(monkeypatch):
    """As where the extra `figures` is not installed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


class Notes:
    """A progress display that only remembers."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.failures: list[str] = []
        self.warnings: list[str] = []

    def total(self, weight, jobs):
        self.promised = jobs

    def started(self, job):
        pass

    def advanced(self, job, share):
        assert 0 <= share <= 1

    def finished(self, job, seconds):
        self.labels.append(job.label)

    def failed(self, job, reason):
        self.failures.append(reason)

    def noted(self, message):
        pass

    def warned(self, message):
        self.warnings.append(message)


@pytest.fixture
def notes():
    return Notes()
