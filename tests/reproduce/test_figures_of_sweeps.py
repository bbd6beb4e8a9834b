"""The papers' figures of what a sweep varies."""

import statistics

import numpy as np
import pytest
from synthetic import STATIC, Runs, drawn, everything, not_run, texts

from nfbench.records import Value

pytest.importorskip("matplotlib")


def test_each_panel_of_figure_5_has_the_statistic_of_its_threat_model():
    runs = Runs()
    for eps in (0.1, 0.05):
        for threat in ("partial-whitebox", "paper-adaptive"):
            runs.add("cifar10-distortion", "fgsm", 1 - eps, threat=threat, eps=eps)
        runs.add("cifar10-distortion", "fgsm", 0.5, eps=1.5, norm="l2")
    runs.add("cifar10-distortion", "detector-breaker", 0.8, threat="adaptive-whitebox")
    figure, data = drawn("figure5", runs)
    names = [data[threat]["statistic"][0] for threat in data]
    assert names == ["auroc_returned", "auroc_successes", "auroc_worst"]
    assert data["partial-whitebox"]["attack"] == ["fgsm", "fgsm"]
    assert data["partial-whitebox"]["x"] == [0.05, 0.1]
    assert data["partial-whitebox"]["value"] == pytest.approx([0.95, 0.9])
    assert data["paper-adaptive"]["value"] == pytest.approx([0.85, 0.8])
    assert data["adaptive-whitebox"]["value"] == pytest.approx([0.6])
    assert data["adaptive-whitebox"]["low"] == pytest.approx([0.58])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["AUROC (all returned)", "AUROC (successes)", "AUROC (worst point)"]


def test_figure_5_without_one_threat_model_says_that_it_was_not_run():
    runs = Runs()
    runs.add("cifar10-distortion", "fgsm")
    figure, data = drawn("figure5", runs)
    assert data["paper-adaptive"] == {}
    assert not_run(figure) == [False, True]


def test_seeds_are_averaged_and_their_spread_widens_the_interval():
    runs = Runs()
    for seed, auroc in enumerate((0.90, 0.94, 0.98)):
        runs.add("cifar10-distortion", "fgsm", auroc, seed=seed)
    found = drawn("figure5", runs).data["partial-whitebox"]
    assert found["value"] == pytest.approx([0.94])
    assert found["seeds"] == [3]
    assert found["low"][0] < 0.92
    assert found["high"][0] > 0.95


def test_what_is_undefined_is_said_and_what_is_weak_or_a_bound_is_marked():
    runs = Runs()
    undefined = {"auroc_successes": Value(value=None, flag="no success")}
    runs.add("cifar10-distortion", "fgsm", threat="paper-adaptive", metrics=undefined)
    runs.add("cifar10-distortion", "bim-b", flags=["the loss rose"], status="flagged")
    bound = {"auroc_worst": Value(value=0.5, flag="upper bound: stopped")}
    runs.add("cifar10-distortion", "detector-breaker", threat="adaptive-whitebox", metrics=bound)
    figure, data = drawn("figure5", runs)
    assert data["paper-adaptive"]["value"] == [None]
    assert data["paper-adaptive"]["flag"] == ["no success"]
    assert data["partial-whitebox"]["weak"] == [True]
    shown = texts(figure).splitlines()
    assert {"FGSM at 0.05: no success", "BIM-b, weak here", "detector-breaker (upper bounds)"} <= set(
        shown
    )


def test_figure_6_has_mean_and_deviation_over_draws():
    figure, data = drawn("figure6", everything())
    expected = [0.97 + 0.004 * i for i in range(4)]
    assert data["summary"]["attack"] == list(STATIC)
    assert data["summary"]["mean"] == pytest.approx([statistics.mean(expected)] * 5)
    assert data["summary"]["deviation"] == pytest.approx([statistics.stdev(expected)] * 5)
    assert data["summary"]["draws"] == [4] * 5
    first = [i for i, attack in enumerate(data["draws"]["attack"]) if attack == "fgsm"]
    assert [data["draws"]["fingerprints"][i] for i in first] == [7, 8, 9, 10]
    assert [data["draws"]["secret"][i] for i in first] == [0, 1, 2, 3]
    assert "FGSM\n0.976\n± 0.005" in texts(figure)


@pytest.mark.parametrize("figure_id", ["figure7", "figure9"])
def test_figures_7_and_9_are_along_size_and_number(figure_id):
    data = drawn(figure_id, everything()).data
    assert data["size"]["attack"][:4] == ["fgsm"] * 4
    assert data["size"]["x"][:4] == pytest.approx([0.003, 0.006, 0.012, 0.024])
    assert data["size"]["value"][:4] == pytest.approx([0.9, 0.89, 0.88, 0.87])
    assert data["number"]["x"][-4:] == [5, 10, 15, 20]
    assert data["number"]["value"][-4:] == pytest.approx([0.9, 0.91, 0.92, 0.93])


def test_a_roc_curve_is_the_mean_over_seeds_of_what_thresholds_let_through():
    data = drawn("figure7", everything()).data["roc"]
    ((_, run),) = everything().runs("cifar10-static")
    at = np.asarray(data["curves"]["false_alarms"])
    assert (at[0], at[-1], len(at)) == (0, 0.4, 401)
    for rate in (0.0, 0.05, 0.2, 0.4):
        detected = []
        for cell in (cell for cell in run.cells if cell.attack.name == "cw"):
            own = run.samples[cell.cell]
            thresholds = [
                t for t in own["clean_score"] if (own["clean_score"] > t).mean() <= rate + 1e-9
            ]
            detected.append((own["adversarial_score"] > min(thresholds)).mean())
        assert data["curves"]["cw"][np.argmin(abs(at - rate))] == pytest.approx(np.mean(detected))
    assert data["auroc_returned"]["value"] == pytest.approx([0.9] * 5)


def test_the_legend_names_each_attack_once_for_all_panels():
    (legend,) = drawn("figure7", everything()).figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == sorted(["FGSM", "JSMA", "BIM-a", "BIM-b", "CW-L₂", "paper: 0.95 or more"])


def test_a_title_has_what_all_detectors_share():
    runs = Runs()
    for i, number in enumerate((5, 10)):
        params = {"fingerprints": number, "eps": 0.01}
        runs.add("mnist-number", "fgsm", 0.9, {"neuralfp.fingerprints": number}, params=params, seed=i)
    shown = texts(drawn("figure9", runs).figure)
    assert "(b) number N of fingerprints, ε = 0.01\n" in shown
    assert shown.count("not run") == 2


def test_epfls_number_has_accuracy_time_and_auroc():
    figure, data = drawn("epfl-number", everything())
    assert data["accuracy"]["x"] == data["auroc"]["x"][:3] == [1, 5, 20]
    assert data["accuracy"]["value"] == pytest.approx([0.97] * 3)
    assert data["auroc"]["attack"] == ["fgsm"] * 3 + ["bim-b"] * 3
    assert data["seconds"]["train_seconds"].tolist() == [4, 8, 23]
    training, scoring, *_ = figure.axes[1].get_lines()
    assert training.get_ydata().tolist() == [1, 2, 5.75]
    assert scoring.get_ydata() == pytest.approx([1, 5, 20])
    assert "training, R² of a line 1.000" in texts(figure)


def test_epfls_number_without_its_study_or_without_its_runs_says_what_was_not_run():
    runs = Runs()
    runs.points = everything().points
    assert not_run(drawn("epfl-number", runs).figure) == [
        False,
        True,
        False,
    ]
    runs = Runs()
    runs.made = everything().made
    assert not_run(drawn("epfl-number", runs).figure) == [
        True,
        False,
        True,
    ]
