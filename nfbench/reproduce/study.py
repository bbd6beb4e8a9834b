"""Studies: experiments of the papers that are no matrix of defenses and attacks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nfbench.core.registry import Registry
from nfbench.records import Value
from nfbench.store import Artifact

_HOME = "nfbench.reproduce.studies"
STUDIES: Mapping[str, str] = {
    "linear-svm": f"{_HOME}.linear_svm:linear_svm",
    "gaussian-balls": f"{_HOME}.gaussian_balls:gaussian_balls",
    "sign-stability": f"{_HOME}.sign_stability:sign_stability",
    "sign-stability-normed": f"{_HOME}.sign_stability:sign_stability",
    "time-in-n": f"{_HOME}.time_in_n:time_in_n",
}
"""Where each study is."""
VERSIONS: Mapping[str, int] = {}
"""Of studies that once made something else from the same parameters."""


class Made(NamedTuple):
    """What a study found."""

    values: dict[str, Value]
    """What claims are judged by."""
    arrays: dict[str, NDArray[Any]]
    """What figures are drawn from."""

    def as_artifact(self) -> Artifact:
        """As the cache keeps it."""
        import torch

        tensors = {name: torch.from_numpy(np.array(array)) for name, array in self.arrays.items()}
        return Artifact(tensors, {name: value.model_dump() for name, value in self.values.items()})

    @classmethod
    def of(cls, artifact: Artifact) -> Made:
        """From the cache."""
        values = {name: Value.model_validate(value) for name, value in artifact.info.items()}
        return cls(values, {name: tensor.numpy() for name, tensor in artifact.tensors.items()})


class Bench(NamedTuple):
    """What a study is given besides its parameters."""

    registry: Registry
    data_dir: Path | None
    tick: Callable[[float], None]
    """Called with the share that is done, in (0, 1]."""


def later(tick: Callable[[float], None], done: int, whole: int) -> Callable[[float], None]:
    """The progress of one part of `whole` equal ones, `done` of which are over, as that of all."""
    return lambda part: tick((done + part) / whole)


class Study(Protocol):
    """A study: deterministic given its parameters, which are plain data; timings aside."""

    def __call__(self, bench: Bench, **parameters: Any) -> Made: ...


def study_named(name: str) -> Study:
    """The function of a study."""
    module, _, function = STUDIES[name].partition(":")
    return cast("Study", getattr(importlib.import_module(module), function))
