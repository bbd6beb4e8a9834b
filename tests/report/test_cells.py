"""From per-image vectors to a cell's metrics, on an example small enough to do by hand."""

import math

import numpy as np
import pytest

from nfbench.report.cells import (
    BENIGN,
    Undefended,
    cost,
    counts,
    lowest,
    measures,
    winners,
    worst_case,
)
from nfbench.report.operating import LEAST_FOR_1

UNDEFENDED = Undefended(3, 4)


def vectors(calibration: int = 39) -> dict[str, np.ndarray]:
    """Five test images, one of them misclassified when clean; the other four attacked, three fooled.

    Calibration scores are 1/100, 2/100, …; of 39 the threshold at 5 % is .38, at 10 % .36, at 50 % .20.
    """
    return {
        "index": np.array([0, 1, 3, 4]),
        "label": np.array([0, 1, 2, 3]),
        "clean_prediction": np.array([0, 1, 2, 3]),
        "clean_score": np.array([0.10, 0.20, 0.30, 0.50], dtype=np.float32),
        "adversarial_prediction": np.array([1, 0, 0, 3]),
        "adversarial_score": np.array([0.15, 0.37, 0.60, 0.05], dtype=np.float32),
        "evasion_score": np.array([0.15, 0.37, 0.60, np.inf], dtype=np.float32),
        "evasion_score_8bit": np.array([0.15, np.inf, 0.37, np.inf], dtype=np.float32),
        "linf": np.array([0.1, 0.2, 0.3, 0.9], dtype=np.float32),
        "l2": np.array([1.0, 2.0, 3.0, 9.0], dtype=np.float32),
        "l1": np.array([2.0, 3.0, 7.0, 9.0], dtype=np.float32),
        "l0": np.array([4.0, 5.0, 6.0, 9.0], dtype=np.float32),
        "forward": np.array([10, 20, 30, 40]),
        "backward": np.array([1, 2, 3, 4]),
        "calibration_score": (np.arange(1, calibration + 1) / 100).astype(np.float32),
        "test_label": np.array([0, 1, 9, 2, 3]),
        "test_prediction": np.array([0, 1, 8, 2, 3]),
        "test_score": np.array([0.10, 0.20, 0.90, 0.30, 0.50], dtype=np.float32),
        # Image 1 of the attacked ones is misclassified under noise, which sends no false alarm then.
        "noisy_prediction": np.array([0, 5, 2, 3]),
        "noisy_score": np.array([0.39, 0.99, 0.05, 0.38], dtype=np.float32),
        "noisy_l2": np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32),
        **{f"benign_{name}_prediction": np.array([0, 1, 8, 2, 3]) for name in BENIGN},
        **{f"benign_{name}_score": np.array([0.39, 0.1, 0.9, 0.1, 0.1]) for name in BENIGN},
        "benign_shift_prediction": np.array([0, 1, 8, 2, 4]),
        "benign_shift_score": np.array([0.39, 0.1, 0.9, 0.4, 0.9]),
    }


def H(first: int, last: int) -> float:  # noqa: N802  # the harmonic sum's own name
    return sum(1 / rank for rank in range(first, last + 1))


BY_HAND = {
    "auroc_returned": (1 + 3 + 4 + 0) / 16,
    "auroc_successes": (1 + 3 + 4) / 12,
    "auroc_worst": (1 + 3 + 4 + 4) / 16,
    # Down the ranks .60+ .50- .37+ .30- .20- .15+ .10- .05+: precision at each hit, a quarter each.
    "ap": (1 / 1 + 2 / 3 + 3 / 6 + 4 / 8) / 4,
    "fpr_at_95_tpr": 1.0,
    "success_rate": 3 / 4,
    "undefended_error": 3 / 4,
    "clean_accuracy": 4 / 5,
    "accuracy_under_attack": 1 / 5,
    "threshold_at_5": 0.38,
    "threshold_at_10": 0.36,
    "threshold_at_50": 0.20,
    "tpr_at_5_fpr": 1 / 4,
    "tpr_at_10_fpr": 2 / 4,
    "tpr_at_50_fpr": 2 / 4,
    "sr_at_5_fpr": 2 / 4,
    "sr_at_10_fpr": 1 / 4,
    "sr_at_50_fpr": 1 / 4,
    "sr_at_5_fpr_8bit": 2 / 4,
    "sr_at_10_fpr_8bit": 1 / 4,
    "sr_at_50_fpr_8bit": 1 / 4,
    "fpr_realised_at_5": 2 / 5,
    "fpr_realised_at_10": 2 / 5,
    "fpr_realised_at_50": 3 / 5,
    # Correct, accepted when clean (.10 .20 .30 .50) and not evaded (.15 .37 .60 inf), out of five.
    "robust_accuracy_at_5": 1 / 5,
    "robust_accuracy_at_10": 2 / 5,
    "robust_accuracy_at_50": 1 / 5,
    # Neither clean nor attacked misclassified and accepted: the clean error scores .90, above all.
    "robust_accuracy_lenient_at_5": 3 / 5,
    "robust_accuracy_lenient_at_10": 4 / 5,
    "robust_accuracy_lenient_at_50": 4 / 5,
    "auroc_worst_8bit": (1 + 4 + 3 + 4) / 16,
    # Calibration 1/100 … 39/100, 40 levels: strict(tau) is 0 below .10, 1/5 up to .15, 0 to .19,
    # 1/5 from .20 to .29, 2/5 from .30 to .36, 1/5 from .37.
    "rauc": 40 / 5 * (H(10, 14) + H(20, 29) + 2 * H(30, 36) + H(37, 39)) / 39,
    "rauc_to_10": 40 / 5 * (2 * H(36, 36) + H(37, 39)) / 4,
    **{f"alarm_precision_1_in_{10**k}": 0.25 / (0.25 + 0.4 * 10**k) for k in range(2, 7)},
    "gain": 3 / 4 - 2 / 4,
    "mean_linf": 0.2,
    "mean_l2": 2.0,
    "mean_l1": 4.0,
    "mean_l0": 5.0,
    # Negatives .05 .10 .20 .30 .38 .39 .50 .99 against .15 .37 .60 .05 (a tie).
    "auroc_noisy": (2 + 4 + 7 + 0.5) / 32,
    "fpr_on_attack_sized_noise_at_5": 1 / 3,
    "accuracy_on_attack_sized_noise": 3 / 4,
    "mean_l2_of_attack_sized_noise": 2.5,
    "fpr_on_noise_at_5": 1 / 4,
    "fpr_on_brightness_at_5": 1 / 4,
    "fpr_on_jpeg_at_5": 1 / 4,
    "fpr_on_shift_at_5": 2 / 3,
    "fpr_on_8bit_at_5": 1 / 4,
    "auroc_returned_oracle_sign": 8 / 16,
    "auroc_successes_oracle_sign": 8 / 12,
    "auroc_noisy_oracle_sign": 1 - 13.5 / 32,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_metric_has_the_value_computed_by_hand(name):
    assert measures(vectors(), UNDEFENDED)[name].value == pytest.approx(BY_HAND[name], rel=1e-6)


def test_a_change_that_costs_accuracy_is_not_called_harmless():
    found = measures(vectors(), UNDEFENDED)
    assert found["fpr_on_shift_at_5"].flag == "not harmless here: accuracy drops 20.0 points"
    assert found["fpr_on_jpeg_at_5"].flag == ""


def test_a_score_turned_round_says_that_it_was_chosen_on_the_test_images():
    found = measures(vectors(), UNDEFENDED)
    assert found["auroc_noisy"].value < 0.5 < found["auroc_noisy_oracle_sign"].value
    assert "test labels" in found["auroc_noisy_oracle_sign"].flag


def test_every_metric_with_a_value_is_in_the_hand_made_list():
    found = measures(vectors(), UNDEFENDED)
    assert {name for name, value in found.items() if value.value is not None} == set(BY_HAND)


def test_rates_at_one_percent_are_null_with_a_reason_below_a_thousand_calibration_images():
    found = measures(vectors(LEAST_FOR_1 - 1), UNDEFENDED)
    assert found["sr_at_1_fpr"].value is None
    assert "999 calibration images" in found["sr_at_1_fpr"].flag
    assert "1000 needed" in found["sr_at_1_fpr"].flag
    assert measures(vectors(LEAST_FOR_1), UNDEFENDED)["sr_at_1_fpr"].value is not None


def test_rates_without_a_threshold_are_null_with_a_reason():
    found = measures(vectors(18), UNDEFENDED)
    for name in ("tpr_at_5_fpr", "sr_at_5_fpr", "fpr_realised_at_5", "robust_accuracy_at_5"):
        assert found[name].value is None
        assert found[name].flag == "18 calibration images; more needed"
    assert found["gain"].value is None
    assert found["sr_at_10_fpr"].value is not None


def test_statistics_of_successes_are_null_where_there_are_none():
    none = vectors()
    none["adversarial_prediction"] = none["label"]
    none["evasion_score"] = np.full(4, np.inf)
    found = measures(none, Undefended(0, 4))
    for name in ("auroc_successes", "mean_linf", "mean_l2", "mean_l1", "mean_l0"):
        assert found[name].value is None
        assert found[name].flag == "no success"
    assert found["auroc_worst"].value == 1.0
    assert found["sr_at_5_fpr"].value == 0.0


def test_infinite_scores_are_scores_and_no_metric_is_infinite():
    extreme = vectors()
    extreme["adversarial_score"] = np.array([np.inf, -np.inf, 0.25, 0.05])
    found = measures(extreme, UNDEFENDED)
    assert found["auroc_returned"].value == (4 + 0 + 2 + 0) / 16
    assert all(value.value is None or math.isfinite(value.value) for value in found.values())


def test_a_score_that_is_no_number_is_refused():
    broken = vectors()
    broken["adversarial_score"] = np.array([np.nan, 0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="without NaN"):
        measures(broken, UNDEFENDED)


def test_stopping_at_the_median_makes_the_worst_auroc_a_bound_and_says_so():
    found = measures(vectors(), UNDEFENDED, stopped_at_median=True)
    assert "upper bound" in found["auroc_worst"].flag
    assert found["auroc_worst"].value == BY_HAND["auroc_worst"]
    assert found["auroc_returned"].flag == ""


def test_counts_and_costs_say_what_the_numbers_rest_on():
    assert counts(vectors(), UNDEFENDED) == {
        "attempted": 5,
        "clean": 4,
        "adversarial": 4,
        "successful": 3,
        "calibration": 39,
        "undefended": 4,
    }
    assert cost(vectors()) == {"forward": 25.0, "backward": 2.5}


def test_the_worst_case_takes_the_lowest_score_of_each_image():
    first, second = vectors(), vectors()
    second["evasion_score"] = np.array([np.inf, 0.90, 0.15, 0.45], dtype=np.float32)
    # Image by image .15 .37 .15 .45 against clean .10 .20 .30 .50 and the threshold .38.
    found = worst_case([first, second])
    assert found["auroc_worst"] == (1 + 3 + 1 + 3) / 16
    assert found["sr_at_5_fpr"] == 3 / 4
    single = measures(first, UNDEFENDED)
    assert worst_case([first]) == {k: single[k].value for k in ("auroc_worst", "sr_at_5_fpr")}


def test_the_worst_case_refuses_cells_of_different_images():
    other = vectors()
    other["index"] = np.array([0, 1, 2, 3])
    with pytest.raises(AssertionError):
        worst_case([vectors(), other])


def test_who_cannot_choose_image_by_image_has_the_strongest_single_attack():
    first, second = vectors(), vectors()
    first["evasion_score"] = np.array([0.15, np.inf, np.inf, np.inf])
    second["evasion_score"] = np.array([np.inf, 0.37, 0.35, np.inf])
    strongest = {"auroc_worst": (4 + 3 + 3 + 4) / 16, "sr_at_5_fpr": 2 / 4}
    assert worst_case([first, second], chosen=False) == strongest
    assert worst_case([first, second])["sr_at_5_fpr"] == 3 / 4


def test_of_attacks_with_equal_success_the_one_with_lower_scores_is_the_strongest():
    first, second = vectors(), vectors()
    first["evasion_score"] = np.array([0.35, np.inf, np.inf, np.inf])
    second["evasion_score"] = np.array([0.05, np.inf, np.inf, np.inf])
    assert worst_case([first, second], chosen=False)["auroc_worst"] == 12 / 16


def test_winners_are_counted_by_objective_and_by_the_stage_that_has_a_name():
    found = {"winner": np.array([0, 0, 1, -1, 0, 1]), "stage": np.array([1, 1, 0, 0, 0, -1])}
    assert winners(found, ["dual", "static"], [["", "long"], [""]]) == {
        "long": 2,
        "static": 2,
        "dual": 1,
    }


def test_acceptance_by_fresh_draws_is_reported_where_there_is_one():
    drawn = vectors() | {"fresh_acceptance": np.array([1.0, 0.25, 0.0, 0.0])}
    assert measures(drawn, UNDEFENDED)["sr_at_5_fpr_fresh"].value == 1.25 / 4
    assert "sr_at_5_fpr_fresh" not in measures(vectors(), UNDEFENDED)


def test_of_several_cells_of_a_stochastic_detector_the_lowest_expected_score_counts_not_the_luck():
    one = vectors() | {"expected_score": np.array([0.2, 0.3, 0.6, np.inf])}
    other = vectors() | {
        "evasion_score": np.array([0.30, 0.20, 0.10, 0.40], dtype=np.float32),
        "expected_score": np.array([0.1, 0.4, 0.7, 0.5]),
    }
    assert lowest([one, other]).tolist() == pytest.approx([0.30, 0.37, 0.60, 0.40])
    plain = [{key: cell[key] for key in cell if key != "expected_score"} for cell in (one, other)]
    assert lowest(plain).tolist() == pytest.approx([0.15, 0.20, 0.10, 0.40])


def test_the_mean_distance_is_over_the_images_that_evade():
    near = vectors() | {"distance": np.array([0.5, np.inf, 1.0, np.inf], dtype=np.float32)}
    assert measures(near, UNDEFENDED)["mean_distance"].value == pytest.approx(0.75)
    none = vectors() | {"distance": np.full(4, np.inf, dtype=np.float32)}
    assert measures(none, UNDEFENDED)["mean_distance"].flag == "no success"
    assert "mean_distance" not in measures(vectors(), UNDEFENDED)


def test_what_only_the_second_half_of_the_passes_found_is_counted_image_by_image():
    both = {"half_budget_score": np.array([0.9, 0.1, np.inf, np.inf])}
    both["full_budget_score"] = np.array([0.2, 0.1, 0.3, np.inf])
    found = measures(vectors() | both, UNDEFENDED)
    assert found["sr_at_5_fpr_at_half_budget"].value == 1 / 4
    assert found["sr_at_5_fpr_late"].value == 2 / 4
    assert "sr_at_5_fpr_late" not in measures(vectors(), UNDEFENDED)
