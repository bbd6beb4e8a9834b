"""The contract of each kind of plugin, to be called from a plugin's own tests.

from nfbench.testing import check_defense
def test_it_keeps_the_contract(): check_defense(MyDefense())

Every check takes a recipe and raises an AssertionError that names the cause and what to do.
"""

from nfbench.testing.attacks import check_attack
from nfbench.testing.checks import Check
from nfbench.testing.datasets import check_dataset
from nfbench.testing.defenses import check_defense
from nfbench.testing.fixtures import (
    Brightness,
    linear_classifier,
    linear_images,
    optimum,
    planted_victim,
)
from nfbench.testing.models import check_model
from nfbench.testing.plugins import checks
from nfbench.testing.threats import check_threat_model

__all__ = [
    "Brightness",
    "Check",
    "check_attack",
    "check_dataset",
    "check_defense",
    "check_model",
    "check_threat_model",
    "checks",
    "linear_classifier",
    "linear_images",
    "optimum",
    "planted_victim",
]
