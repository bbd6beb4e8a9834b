"""What an attack that stops early says, and what it does not."""

import numpy as np
import pytest
from test_cells import UNDEFENDED, vectors

from nfbench.report.cells import measures

BELOW = [
    "rauc",
    "rauc_to_10",
    "sr_at_10_fpr",
    "sr_at_50_fpr",
    "sr_at_10_fpr_8bit",
    "sr_at_50_fpr_8bit",
    "robust_accuracy_at_10",
    "robust_accuracy_at_50",
    "robust_accuracy_lenient_at_10",
    "robust_accuracy_lenient_at_50",
]


def test_an_attack_that_stops_at_the_threshold_says_nothing_of_lower_ones():
    found = measures(vectors(), UNDEFENDED, aims_at_threshold=True)
    free = measures(vectors(), UNDEFENDED)
    for name in BELOW:
        assert found[name].value is None
        assert "stops at the 5 % threshold" in found[name].flag
        assert free[name].value is not None
    for name in ("auroc_worst", "auroc_worst_8bit"):
        assert found[name].flag.startswith("upper bound")
        assert found[name].value == free[name].value
    same = {name for name in free if name not in BELOW and not name.startswith("auroc_worst")}
    assert {name: found[name].value for name in same} == {name: free[name].value for name in same}


def test_the_success_of_an_attack_that_follows_the_threshold_has_the_interval_of_a_rate():
    hugging = vectors() | {"evasion_score": np.array([0.38, 0.38, 0.38, 0.38], dtype=np.float32)}
    found = measures(hugging, UNDEFENDED, aims_at_threshold=True)["sr_at_5_fpr"]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.5101, abs=1e-4)  # Wilson's of 4 of 4
    assert measures(hugging, UNDEFENDED)["sr_at_5_fpr"].low < 0.3
