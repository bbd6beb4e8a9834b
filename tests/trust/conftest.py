"""One small run with two detectors, its cache and its archive, and copies to tamper with."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from trusted import run_into

from nfbench.trust import Means, submit


@dataclass(frozen=True)
class Made:
    """A run directory, the cache with its artifacts, and the archive of both."""

    run: Path
    cache: Path
    archive: Path
    means: Means


@pytest.fixture(scope="session")
def original(tmp_path_factory, registry):
    home = tmp_path_factory.mktemp("trust")
    run = run_into(home, registry)
    means = Means(registry, home / "cache", "cpu")
    return Made(run, home / "cache", submit(run, means).path, means)


@pytest.fixture
def made(original, tmp_path):
    """A copy of the run directory and the archive; the cache is shared."""
    run, archive = tmp_path / "run", tmp_path / original.archive.name
    shutil.copytree(original.run, run)
    shutil.copy(original.archive, archive)
    return Made(run, original.cache, archive, original.means)
