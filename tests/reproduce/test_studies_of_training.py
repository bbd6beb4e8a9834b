"""Studies of training: the sign of the responses, and time against the number of fingerprints."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from studying import (
    DIGITS,
    REGISTRY,
    Sources,
    cross_entropy_by_hand,
    fingerprint_loss_by_hand,
    made,
    neuralfp,
)
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.reproduce.figures.base import draw
from nfbench.reproduce.studies import sign_stability as signs
from nfbench.reproduce.studies import time_in_n as times
from nfbench.reproduce.studies.courses import averaged, decreased, steepest, steps_until

BRIEF = DIGITS | {"fingerprints": 2, "images": 320, "epochs": 2, "seeds": 2}


def close(found, expected, tolerance):
    return np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def test_losses_of_both_signs_are_recorded_for_every_step_and_begin_alike():
    found = made("sign-stability", **BRIEF)
    for sign in signs.SIGNS:
        assert found.arrays[f"data_{sign}"].shape == (2, 2 * (320 // 64))
        assert found.arrays[f"fingerprint_{sign}"].shape == (2, 2 * (320 // 64))
    first = found.arrays["data_given"][:, 0], found.arrays["data_negated"][:, 0]
    np.testing.assert_array_equal(*first)
    assert first[0][0] != first[0][1]
    assert found.arrays["targets"].tolist() == [[0.75, -0.25], [-0.75, 0.25]]
    assert found.arrays["guess"] == pytest.approx(math.log(10))
    assert found.arrays["still"] == pytest.approx(2 * (0.75**2 + 9 * 0.25**2))


def test_the_same_parameters_train_the_same_networks():
    one, other = (made("sign-stability", **BRIEF) for _ in range(2))
    assert one.values == other.values


@pytest.mark.parametrize(("loss", "summed"), [("mean", False), ("sum", True)])
def test_the_two_losses_are_those_of_a_computation_by_hand(loss, summed):
    torch.manual_seed(2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4))
    classifier = Classifier(network, 4).train()
    defense = neuralfp(preset="epfl", fingerprints=2, eps=0.3, loss=loss)
    x, y = torch.rand(9, 1, 2, 3), torch.arange(9) % 4
    watch = signs._Watch(defense)
    total = watch(classifier, x, y)
    dx, dy = (t.double().numpy() for t in defense.secrets((1, 2, 3), 4))
    weights = [p.detach().double().numpy() for p in classifier.parameters()]

    def forward(rows):
        hidden = np.tanh(rows.reshape(-1, 6) @ weights[0].T + weights[1])
        return hidden @ weights[2].T + weights[3]

    rows = x.double().numpy()
    logits = np.stack([forward(rows), *(forward(rows + shift) for shift in dx)])
    data = cross_entropy_by_hand(logits[0], y.tolist())
    fingerprint = fingerprint_loss_by_hand(logits, dy, y.tolist(), summed=summed)
    assert watch.data == pytest.approx([data], rel=1e-5)
    assert watch.fingerprint == pytest.approx([fingerprint], rel=1e-5)
    assert total.item() == pytest.approx(data + fingerprint, rel=1e-5)
    assert total.requires_grad


def test_without_batch_normalisation_the_papers_sign_learns_the_fingerprints_and_no_digit():
    sizes = DIGITS | {"fingerprints": 5, "seeds": 1, "epochs": 30, "images": 1000, "learning_rate": 2e-3}
    found = made("sign-stability", **sizes).values
    assert found["fingerprint_final_given"].value < 0.3
    assert found["data_final_given"].value > 0.95
    assert found["never_given"].value == 1
    assert found["accuracy_more"].value < -0.3
    normed = made("sign-stability", **sizes | {"batch_norm": True, "epochs": 8}).values
    assert normed["never_given"].value == 0
    assert normed["accuracy_given"].value > 0.9


def test_batch_normalisation_is_taken_out_wherever_it_is():
    model = REGISTRY.find("model", "mnist-table8").load().from_params({})
    network = model.build((1, 28, 28), 10)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    signs.without_norm(network)
    assert len(norms) == 4
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_a_wait_that_did_not_end_is_a_bound_or_unknown():
    ended = {name: np.array([2.0, 4.0]) for name in signs.COMPARED} | {"never": np.zeros(2, dtype=bool)}
    endless = ended | {"never": np.array([True, False]), "data_wait": np.array([9.0, 4.0])}
    assert signs._compared(endless, ended)["data_wait_more"].value == pytest.approx(3.5)
    assert signs._compared(endless, ended)["data_wait_more"].flag == "or more"
    assert signs._compared(endless, ended)["data_wait_times"].value == pytest.approx(math.sqrt(9 / 2))
    logs = np.log([9 / 2, 1])
    low, high = np.exp(stats.t.interval(0.95, 1, logs.mean(), stats.sem(logs)))
    times_as_long = signs._compared(endless, ended)["data_wait_times"]
    assert (times_as_long.low, times_as_long.high) == pytest.approx((low, high))
    assert signs._compared(ended, endless)["data_wait_more"].value is None
    assert signs._compared(ended, ended)["data_wait_more"].flag == ""


def test_a_loss_is_averaged_over_the_latest_fiftieth_of_the_steps():
    losses = np.random.default_rng(3).normal(size=150)
    expected = [losses[max(0, t - 2) : t + 1].mean() for t in range(150)]
    assert close(averaged(losses), np.array(expected), 1e-12)
    assert averaged(losses[:4]).tolist() == losses[:4].tolist()


def test_waits_and_falls_of_curves_that_are_known():
    late = np.where(np.arange(100) < 70, 2.0, 0.1)
    straight = np.linspace(2, 0, 100)
    both = np.stack([late, straight, np.full(100, 2.0)])
    assert steps_until(both, 1.0).tolist() == [71, 51, math.inf]
    assert steepest(both) == pytest.approx([1.9, 5 * 2 / 99, 0])
    assert steepest(both[:, :1]).tolist() == [0, 0, 0]
    left = decreased(both)
    assert (left[0, 0], left[0, -1], left[1, 33]) == pytest.approx((1, 0, 1 - 33 / 99))
    assert not left[2].any()


def test_the_figure_of_both_signs_has_a_line_for_every_seed(tmp_path):
    found = made("sign-stability", **BRIEF)
    svg, _, record = draw("epfl-figure1", Sources(sign_stability=found), tmp_path, {})
    assert svg.stat().st_size < 300_000
    data = json.loads(record.read_text("utf-8"))["data"]
    assert data["step"] == list(range(1, 11))
    for sign in signs.SIGNS:
        np.testing.assert_allclose(data[sign]["data"], found.arrays[f"data_{sign}"], rtol=1e-5)


def test_time_is_measured_for_every_number_of_fingerprints():
    ticks = []
    found = made("time-in-n", ticks, **DIGITS, numbers=[4, 0, 2], batch=8, repeats=3)
    assert found.arrays["number"].tolist() == [0, 2, 4]
    for name in ("train", "score"):
        samples = found.arrays[f"{name}_samples"]
        assert samples.shape == (3, 3)
        assert (samples > 0).all()
        np.testing.assert_array_equal(found.arrays[f"{name}_seconds"], np.median(samples, axis=0))
        straight = stats.linregress([0, 2, 4], np.median(samples, axis=0)).rvalue ** 2
        assert found.values[f"r2_{name}"].value == pytest.approx(straight)
        rate = found.values[f"rate_{name}_2"]
        assert rate.value == pytest.approx(8 / np.median(samples[:, 1]))
        assert rate.low <= rate.value <= rate.high
    assert all(math.isfinite(v.value) for v in found.values.values())
    assert ticks == pytest.approx([0.25, 0.5, 0.75, 1])


def test_the_straightness_and_the_slope_are_those_of_scipys_line():
    rng = np.random.default_rng(1)
    x = np.array([1, 2, 5, 10, 20])
    rows = 3 + 0.5 * x + rng.normal(size=(6, 5))
    fits = [stats.linregress(x, row) for row in rows]
    assert close(times.straightness(x, rows), np.array([fit.rvalue**2 for fit in fits]), 1e-10)
    assert close(times.slope(x, rows), np.array([fit.slope / fit.intercept for fit in fits]), 1e-10)
    assert times.straightness(x, 2.0 * x + 1) == pytest.approx(1)
    with_none = np.array([0, 1, 2])
    assert times.slope(with_none, np.array([4.0, 5.0, 6.0])) == pytest.approx(0.25)
    assert times.straightness(with_none, np.ones(3)) == 1
