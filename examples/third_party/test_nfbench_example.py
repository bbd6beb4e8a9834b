"""The contract of each plugin, and one fact of its own."""

import torch
from nfbench_example import Energy, MomentumFGSM, ScoreQueries

from nfbench.testing import (
    check_attack,
    check_defense,
    check_threat_model,
    linear_classifier,
    linear_images,
)


def test_the_defense_keeps_its_contract() -> None:
    check_defense(Energy())


def test_the_attack_keeps_its_contract() -> None:
    check_attack(MomentumFGSM())


def test_the_threat_model_keeps_its_contract() -> None:
    check_threat_model(ScoreQueries())


def test_energy_is_minus_the_log_of_the_summed_exponentials() -> None:
    classifier, x = linear_classifier(), linear_images(4).x
    detector = Energy().detector(classifier, {"temperature": torch.tensor(1.0)})
    expected = -classifier(x).exp().sum(1).log()
    torch.testing.assert_close(detector.score(x), expected)
