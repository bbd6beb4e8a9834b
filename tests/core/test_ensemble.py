"""Replicas as one: committees of classifiers, and detectors in units of their own clean scores."""

import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.ensemble import committee, replica_victim
from nfbench.core.victim import Alarm, Victim


class Planted(Detector):
    """Score: the first pixel times `scale`; class k's penalty is k units more."""

    def __init__(self, classifier: Classifier, scale: float) -> None:
        super().__init__(classifier)
        self.scale = scale

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x[:, 0, 0, 0]

    def observe(self, x: torch.Tensor) -> Observation:
        score = self.score(x)
        more = self.scale * torch.arange(3, dtype=x.dtype)
        return Observation(self.classifier(x), score, score[:, None] + more)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.flatten(1)[:, :2]


class Rolling(Planted):
    stochastic = True

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return super().score(x) + self.draw


def classifier(seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 3).eval().requires_grad_(False)


def replica(seed: int, scale: float, alarm: Alarm, kind: type[Planted] = Planted) -> Victim:
    known = classifier(seed)
    return Victim(known, kind(known, scale), alarm)


X = torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
ALARMS = Alarm(2.0, 1.0, 0.5), Alarm(-1.0, -3.0, 4.0)


def pair(kind: type[Planted] = Planted) -> list[Victim]:
    return [replica(1, 3.0, ALARMS[0], kind), replica(2, -7.0, ALARMS[1], kind)]


def test_a_committee_votes_with_log_probabilities():
    one, two = classifier(1), classifier(2)
    two.network[1].weight.mul_(100)  # who is louder has no more votes than who is sure
    expected = (one(X).log_softmax(1) + two(X).log_softmax(1)) / 2
    together = committee([one, two])
    assert together.num_classes == 3
    assert torch.allclose(together(X), expected, atol=1e-6)
    assert torch.allclose(together(X[:1]), expected[:1], atol=1e-6)


def test_suspicion_is_the_mean_of_each_detectors_in_its_own_units():
    known = classifier(3)
    victim = replica_victim(known, pair(), detectors=True)
    seen = victim.observe(X)
    pixel = X[:, 0, 0, 0]
    expected = ((3 * pixel - 2) / 0.5 + (-7 * pixel + 1) / 4) / 2
    assert torch.allclose(seen.score, expected, atol=1e-5)
    assert torch.equal(seen.logits, known(X))
    steps = (3 / 0.5 + -7 / 4) / 2 * torch.arange(3)
    assert torch.allclose(seen.penalties, expected[:, None] + steps, atol=1e-4)
    assert victim.alarm == Alarm(0.0, ((1 - 2) / 0.5 + (-3 + 1) / 4) / 2, 1.0)


def test_what_all_detectors_look_at_is_side_by_side():
    victim = replica_victim(classifier(3), pair(), detectors=True)
    flat = X.flatten(1)[:, :2]
    assert torch.allclose(victim.inspect(X).features, torch.cat([3 * flat, -7 * flat], 1))


def test_every_member_makes_the_draw_that_is_asked_for():
    victim = replica_victim(classifier(3), pair(Rolling), detectors=True)
    assert victim.detector.stochastic
    victim.detector.draw = 0
    before = victim.observe(X).score
    victim.detector.draw = 4
    assert torch.allclose(victim.observe(X).score - before, torch.tensor((4 / 0.5 + 4 / 4) / 2))
    assert not replica_victim(classifier(3), pair(), detectors=True).detector.stochastic


def test_without_the_victims_classifier_and_without_detectors_it_is_the_committee():
    members = pair()
    victim = replica_victim(None, members, detectors=False)
    assert victim.detector is None
    assert victim.alarm is None
    expected = committee([m.classifier for m in members])(X)
    assert torch.equal(victim.classifier(X), expected)
