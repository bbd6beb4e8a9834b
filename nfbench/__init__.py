"""nfbench: detectors of adversarial examples against attacks that know about them.

This module is the public API; everything a plugin may import is here and nowhere else. Names are
imported on first use, so that `from nfbench import Entry, hookimpl` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nfbench.adhoc import evaluate
    from nfbench.core.attack import Attack
    from nfbench.core.classifier import Classifier, Trace
    from nfbench.core.dataset import Dataset, Defaults, Facts, Splits, Training
    from nfbench.core.defense import (
        Defense,
        Detector,
        Examples,
        FitData,
        Observation,
        cross_entropy,
        minibatches,
    )
    from nfbench.core.draws import Draws, seed_of
    from nfbench.core.errors import (
        BrokenPlugin,
        ContractViolation,
        DataMissing,
        NFBenchError,
        UnknownPlugin,
        UnknownToAttacker,
        UsageError,
    )
    from nfbench.core.execution import Engine, Executor, Report, Task, perform
    from nfbench.core.hookspecs import Entry, hookimpl
    from nfbench.core.model import Model
    from nfbench.core.objective import Objective
    from nfbench.core.objectives import OBJECTIVES
    from nfbench.core.recipe import Count, Fraction, NonNegative, Positive, Recipe, did_you_mean
    from nfbench.core.recorder import Recorder
    from nfbench.core.threat import ThreatModel
    from nfbench.core.values import (
        Access,
        Budget,
        Images,
        Labels,
        Logits,
        Mask,
        Norm,
        Scores,
        Split,
        per_image,
    )
    from nfbench.core.victim import Alarm, Victim

_HOME = {
    "attack": ["Attack"],
    "classifier": ["Classifier", "Trace"],
    "dataset": ["Dataset", "Defaults", "Facts", "Splits", "Training"],
    "defense": [
        "Defense",
        "Detector",
        "Examples",
        "FitData",
        "Observation",
        "cross_entropy",
        "minibatches",
    ],
    "draws": ["Draws", "seed_of"],
    "errors": [
        "BrokenPlugin",
        "ContractViolation",
        "DataMissing",
        "NFBenchError",
        "UnknownPlugin",
        "UnknownToAttacker",
        "UsageError",
    ],
    "execution": ["Engine", "Executor", "Report", "Task", "perform"],
    "hookspecs": ["Entry", "hookimpl"],
    "model": ["Model"],
    "objective": ["Objective"],
    "objectives": ["OBJECTIVES"],
    "recipe": ["Count", "Fraction", "NonNegative", "Positive", "Recipe", "did_you_mean"],
    "recorder": ["Recorder"],
    "threat": ["ThreatModel"],
    "values": [
        "Access",
        "Budget",
        "Images",
        "Labels",
        "Logits",
        "Mask",
        "Norm",
        "Scores",
        "Split",
        "per_image",
    ],
    "victim": ["Alarm", "Victim"],
}
_MODULE_OF = {name: f"nfbench.core.{home}" for home, names in _HOME.items() for name in names}
_MODULE_OF["evaluate"] = "nfbench.adhoc"

__all__ = [
    "OBJECTIVES",
    "Access",
    "Alarm",
    "Attack",
    "BrokenPlugin",
    "Budget",
    "Classifier",
    "ContractViolation",
    "Count",
    "DataMissing",
    "Dataset",
    "Defaults",
    "Defense",
    "Detector",
    "Draws",
    "Engine",
    "Entry",
    "Examples",
    "Executor",
    "Facts",
    "FitData",
    "Fraction",
    "Images",
    "Labels",
    "Logits",
    "Mask",
    "Model",
    "NFBenchError",
    "NonNegative",
    "Norm",
    "Objective",
    "Observation",
    "Positive",
    "Recipe",
    "Recorder",
    "Report",
    "Scores",
    "Split",
    "Splits",
    "Task",
    "ThreatModel",
    "Trace",
    "Training",
    "UnknownPlugin",
    "UnknownToAttacker",
    "UsageError",
    "Victim",
    "__version__",
    "cross_entropy",
    "did_you_mean",
    "evaluate",
    "hookimpl",
    "minibatches",
    "per_image",
    "perform",
    "seed_of",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nfbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
