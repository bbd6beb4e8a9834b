"""Does the sign of the expected responses decide how steadily NeuralFP trains? (EPFL, II and figure 1)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Dataset, Splits, Training
from nfbench.core.draws import seed_of
from nfbench.core.errors import UsageError
from nfbench.core.recipe import Count, Positive, Recipe
from nfbench.core.values import Images, Labels
from nfbench.records import Value
from nfbench.reproduce.studies.seeds import mean, share, spread
from nfbench.reproduce.study import Bench, Made
from nfbench.runner.train import train
from nfbench.stats.intervals import wilson

Array = NDArray[Any]

SIGNS = ("given", "negated")
MOST = 0.9
"""Share of its decrease after which a loss counts as converged."""
STEEP = 0.05
"""Share of the steps in which the steepest part of a decrease is looked for."""
HALF = 0.5
"""Share of the loss of a guess below which the data loss counts as on its way."""
SMOOTHED = 50
"""Losses are means over this part of all steps."""
TESTED = 5000
"""Test images that the accuracy is of, at most."""


class Signs(Recipe):
    """All parameters of the study."""

    name = "sign-stability"
    paper = "https://arxiv.org/abs/1803.03870"

    dataset: str = "mnist"
    model: str = "mnist-table8"
    """Without dropout, if it has any."""
    batch_norm: bool = False
    """Keep the network's batch normalisation. The report does not say whether its network had any."""
    loss: Literal["mean", "sum"] = "sum"
    """Squared error summed over classes (eq. 5) or averaged (released code)."""
    fingerprints: Count = 5
    size: Positive = 0.1
    dx_range: Literal["pos", "sym"] = "pos"
    on: float = 0.75
    """Response of an image's own class, the other sign being its negative; 0.75 is eq. (11)."""
    off: float = -0.25
    """Response of every other class."""
    seeds: Count = 3
    images: Count = 50_000
    """Training images, at most."""
    epochs: Count = 10
    batch_size: Count = 64
    learning_rate: Positive = 1e-3


class _Course(NamedTuple):
    """How one training went."""

    data: Array  # (steps,) cross-entropy
    fingerprint: Array  # (steps,)
    correct: Array  # (I,)


def sign_stability(bench: Bench, **parameters: Any) -> Made:
    """Train with the responses (on, off) and with their negative, and watch both losses.

    Losses are means over the latest 2 % of all steps. Values, each of SIGN `given` and `negated`, over
    seeds with 95 % intervals:

    - data_wait_SIGN: steps until the data loss is at most half of that of a guess, ln K. All steps where
      that never happens; the flag tells of how many seeds.
    - never_SIGN: share of the seeds where it never happens.
    - fingerprint_wait_SIGN: steps until the fingerprint loss has done 90 % of its decrease.
    - data_wait_spread_SIGN, fingerprint_wait_spread_SIGN: standard deviations over seeds, in steps.
    - data_jump_SIGN, fingerprint_jump_SIGN: share of the whole decrease that happens within the
      steepest 5 % of the steps.
    - data_final_SIGN, over that of a guess, and fingerprint_final_SIGN, over that of a network that
      does not answer.
    - accuracy_SIGN, of test images without perturbation.

    and data_wait_more, fingerprint_wait_more, data_final_more, fingerprint_final_more, accuracy_more:
    given less negated, paired by seeds, which have their images, order, weights and dx in common.

    Args:
        bench: `tick` is called after each training step.
        parameters: those of `Signs`.

    Returns:
        These values; `data_given`, `fingerprint_given`, `data_negated` and `fingerprint_negated`
        (S, steps), raw; `targets` (2, 2), on and off of each sign; `guess` () and `still` (), the
        losses of a guess and of a network that does not answer; `window` (), the steps a mean is over.

    Raises:
        UsageError: a parameter is unknown or out of range, or a name is none.
        DataMissing: the data set's files are absent.
    """
    asked = Signs.from_params(parameters)
    data = bench.registry.find("dataset", asked.dataset).load().from_params({})
    assert isinstance(data, Dataset)
    splits, facts = data.splits(bench.data_dir), data.describe(bench.data_dir)
    ...
