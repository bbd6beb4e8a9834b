"""Every bundled plugin keeps the contract that strangers' plugins are held to."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nfbench import DataMissing
from nfbench.core.registry import Registry
from nfbench.testing import checks

REGISTRY = Registry.load()
QUICK = {
    "cw": {"binary_search_steps": 5, "steps": 60, "learning_rate": 0.02, "initial_const": 0.1},
    "spsa": {"steps": 40, "samples": 64, "learning_rate": 0.02},
    "square": {"queries": 500},
    "square-l2": {"queries": 500},
    "cw-fp": {"binary_search_steps": 5, "steps": 60, "learning_rate": 0.02, "initial_gamma1": 0.1},
    "cw-fp-one": {"binary_search_steps": 5, "steps": 60, "learning_rate": 0.02, "initial_gamma1": 0.1},
    "random-search": {"points": 1000},
    "hopskipjump": {"queries": 1000},
    "hopskipjump-linf": {"queries": 1000},
}
"""Schedules that a linear classifier needs no more than."""
GENERATED = ("imagefolder", "npz")
"""Datasets that are whatever the user's files are."""


def named(*kinds):
    found = [(kind, name) for kind in kinds for name in REGISTRY.names(kind)]
    return [(kind, name) for kind, name in found if REGISTRY.find(kind, name).distribution == "nfbench"]


def keeps(recipe, data_dir=None):
    for check in checks(recipe, data_dir):
        check.run()


def test_no_bundled_plugin_is_broken():
    assert not REGISTRY.broken
    assert len(named("defense", "attack", "threat-model", "dataset", "model")) >= 24


@pytest.mark.parametrize(("kind", "name"), named("defense", "attack", "threat-model", "model"))
def test_the_contract_is_kept(kind, name):
    keeps(REGISTRY.find(kind, name).load().from_params(QUICK.get(name, {})))


@pytest.mark.parametrize("preset", ["code", "code-cifar10", "code-imagenet", "paper", "epfl"])
def test_every_preset_of_neuralfp_keeps_the_contract(preset):
    keeps(REGISTRY.find("defense", "neuralfp").load()(preset=preset, random_sign=preset == "paper"))


@pytest.mark.parametrize("target", ["random", "runner-up", "untargeted"])
def test_jsma_keeps_the_contract_whatever_it_aims_at(target):
    keeps(REGISTRY.find("attack", "jsma").load()(target=target))


def test_pgd_keeps_the_contract_with_restarts():
    keeps(REGISTRY.find("attack", "pgd").load()(restarts=2))


@pytest.mark.parametrize("name", [n for _, n in named("dataset") if n not in GENERATED])
def test_the_contract_is_kept_by_published_data(name, data_dir, tmp_path):
    dataset = REGISTRY.find("dataset", name).load()()
    if name == "digits":
        keeps(dataset, tmp_path)
        return
    if data_dir is None:
        pytest.skip(f"no data directory with {name} (set NFBENCH_DATA_DIR)")
    try:
        dataset.splits(data_dir)
    except DataMissing as missing:
        pytest.skip(str(missing))
    keeps(dataset, data_dir)


@pytest.fixture
def data_dir():
    shared = Path(__file__).parents[3] / "shared" / "data"
    given = os.environ.get("NFBENCH_DATA_DIR")
    return Path(given) if given else shared if shared.is_dir() else None


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 16, 16, 3), generator=generator, dtype=torch.uint8).numpy()


def test_the_contract_is_kept_by_an_npz_file(tmp_path):
    labels = {"y_train": np.arange(200) % 4, "y_test": np.arange(40) % 4}
    np.savez(tmp_path / "mine.npz", x_train=images(200, 0), x_test=images(40, 1), **labels)
    keeps(REGISTRY.find("dataset", "npz").load()(), tmp_path / "mine.npz")


def test_the_contract_is_kept_by_a_folder_of_images(tmp_path):
    from PIL import Image

    for part, count, seed in (("train", 120, 2), ("test", 20, 3)):
        for number, pixels in enumerate(images(count, seed)):
            place = tmp_path / part / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number}.png")
    keeps(REGISTRY.find("dataset", "imagefolder").load()(size=16), tmp_path)
