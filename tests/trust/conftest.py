"""One small run with two detectors, its cache and its archive, and copies to tamper with."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from trusted import DAY, ROW, SMALL, WEAK, run_into, sent

from nfbench.report.run import read
from nfbench.runner.options import Options
from nfbench.session import plan_of
from nfbench.store import Store
from nfbench.trust import Means, break_row, submit


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


@pytest.fixture(scope="session")
def weak(tmp_path_factory, registry):
    """A run of a weak attack, what a strong one makes of the same victim, and the clean images."""
    home = tmp_path_factory.mktemp("weak")
    run = run_into(home, registry, **WEAK)
    stronger = SMALL | {
        "attacks": ("pgd",),
        "settings": {"training": {"epochs": 1}, "pgd": {"steps": 20}},
    }
    run_into(home, registry, name="strong", **stronger | {"eps": ("0.1",)})
    options = Options(**stronger, eps=("0.1",), limit=40)
    plan, store = plan_of(options, registry), Store(home / "cache")
    cell = next(c for c in plan.cells if c.threat_model.name == "adaptive-whitebox")
    crafts = [store.get(key).tensors for key in cell.crafts]
    test = plan.spec.dataset.recipe.splits(None).test
    clean = {int(i): x.numpy() for i, x in zip(test.index, test.x, strict=True)}
    strong = read(home / "strong").samples[cell.name]
    best = strong["winner"].clip(0)
    images = np.stack([c["images"].numpy() for c in crafts])[best, np.arange(len(best))]
    return run, strong["index"], images, clean, strong


@pytest.fixture
def row(weak, tmp_path, registry):
    """A copy of the run to break, and the means to."""
    shutil.copytree(weak[0], tmp_path / "run")
    return tmp_path / "run", Means(registry, weak[0].parent / "cache", "cpu")


@pytest.fixture
def broken(weak, row, tmp_path):
    """A row that was broken: its folder, the means, and the line of the break."""
    folder, means = row
    return folder, means, break_row(sent(tmp_path, weak[1], weak[2]), ROW, folder, means, date=DAY)
