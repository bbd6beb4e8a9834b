"""What a detector costs at run time."""

import time

import pytest
import torch

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.runner import latency as home
from nfbench.runner.latency import BATCH, REPEATS, latency


class Counted(Detector):
    """Counts the images it scores; `step` seconds pass on the test's clock each time."""

    def __init__(self, classifier, clock, step) -> None:
        super().__init__(classifier)
        self.clock, self.step, self.sizes = clock, step, []

    def score(self, x):
        self.sizes.append(len(x))
        self.clock[0] += self.step
        return x.flatten(1).sum(1)


class Network(torch.nn.Module):
    def __init__(self, clock) -> None:
        super().__init__()
        self.clock, self.net = clock, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))

    def forward(self, x):
        self.clock[0] += 0.5
        return self.net(x)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(home, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: now[0])}))
    assert time.perf_counter() > 0  # everybody else's clock goes on
    return now


def test_the_median_is_told_for_an_image_and_beside_the_bare_classifier(clock):
    detector = Counted(Classifier(Network(clock), 2).eval(), clock, 2.0)
    found = latency(detector, torch.rand(50, 1, 2, 2))
    assert found == {"images": 50, "classifier_ms": 500 / 50, "detector_ms": 2000 / 50, "ratio": 4.0}
    assert detector.sizes == [50] * (REPEATS + 1)


def test_no_more_images_than_a_batch_are_timed(clock):
    detector = Counted(Classifier(Network(clock), 2).eval(), clock, 1.0)
    assert latency(detector, torch.rand(BATCH + 1, 1, 2, 2))["images"] == BATCH


def test_every_cell_tells_the_latency_of_its_detector(go, tiny):
    first, second = go(tiny(threat_model=("partial-whitebox", "adaptive-whitebox"))).run.cells
    assert first.metrics["latency_ms"] == second.metrics["latency_ms"]
    assert first.metrics["latency_ms"].value > 0
    assert "on cpu" in first.metrics["latency_ratio"].flag
