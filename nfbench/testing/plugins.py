"""Any plugin's checks, whatever its kind: for `check-plugin` and for parametrised tests."""

from pathlib import Path

from nfbench.core.attack import Attack
from nfbench.core.dataset import Dataset
from nfbench.core.defense import Defense
from nfbench.core.model import Model
from nfbench.core.recipe import Recipe
from nfbench.core.threat import ThreatModel
from nfbench.testing.attacks import attack_checks
from nfbench.testing.checks import Check
from nfbench.testing.datasets import dataset_checks
from nfbench.testing.defenses import defense_checks
from nfbench.testing.models import model_checks
from nfbench.testing.threats import threat_model_checks


def checks(recipe: Recipe, data_dir: Path | None = None) -> list[Check]:
    """One check a clause of the contract of `recipe`'s kind. `data_dir` is for datasets.

    Raises:
        TypeError: for a recipe of no kind that has a contract.
    """
    match recipe:
        case Defense():
            return defense_checks(recipe)
        case Attack():
            return attack_checks(recipe)
        case ThreatModel():
            return threat_model_checks(recipe)
        case Dataset():
            return dataset_checks(recipe, data_dir)
        case Model():
            return model_checks(recipe)
    raise TypeError(f"{type(recipe).__name__} is no defense, attack, threat model, dataset or model")
