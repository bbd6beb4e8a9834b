"""Runs small enough for a test: 20 digits, a network trained for one epoch."""

import pytest

from nfbench.runner.options import Options
from nfbench.session import Place, execute


@pytest.fixture(scope="session")
def tiny():
    """`Options` of a small run, with whatever a test changes."""

    def make(settings=None, **changes):
        steps = {"training": {"epochs": 1}}
        usual = {
            "defense": ("max-softmax",),
            "attacks": ("fgsm",),
            "threat_model": ("partial-whitebox",),
            "limit": 20,
        }
        return Options(**(usual | changes), settings=steps | (settings or {}))

    return make


@pytest.fixture
def go(tmp_path, registry, notes):
    """Execute options in a cache and a run directory of this test's own."""

    def run(options, *, given=registry, cache="cache", out="run"):
        place = Place(tmp_path / out, tmp_path / cache, "cpu")
        return execute(options, place, given, notes)

    return run
