"""Sweeps small enough for a test: 20 digits, networks trained for an epoch."""

import pytest

from nfbench.runner.options import Options
from nfbench.session import Place
from nfbench.sweeping import unroll
from nfbench.sweeping.running import planned, sweep


class Notes:
    """A progress display that only remembers."""

    def __init__(self):
        self.totals, self.labels, self.failures, self.warnings, self.notes = [], [], [], [], []

    def total(self, weight, jobs):
        self.totals.append(jobs)

    def started(self, job):
        pass

    def advanced(self, job, share):
        pass

    def finished(self, job, seconds):
        self.labels.append(job.label)

    def failed(self, job, reason):
        self.failures.append(reason)

    def warned(self, message):
        self.warnings.append(message)

    def noted(self, message):
        self.notes.append(message)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture(scope="session")
def small():
    """`Options` of a small run, with whatever a test changes."""

    def make(settings=None, **changes):
        usual = {
            "defense": ("neuralfp",),
            "attacks": ("fgsm",),
            "threat_model": ("partial-whitebox",),
            "limit": 20,
        }
        return Options(**(usual | changes), settings={"training": {"epochs": 1}, **(settings or {})})

    return make


@pytest.fixture
def go(registry, notes, tmp_path):
    """Sweep; the same cache each time."""

    def call(options, *vary, out="out", statistic="auroc_worst", progress=notes):
        place = Place(tmp_path / out, tmp_path / "cache", "cpu", statistic)
        return sweep(planned(unroll(options, vary, registry)), place, registry, progress, "the command")

    return call
