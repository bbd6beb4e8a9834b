"""Attackers without the victim, or without its secret: they attack replicas and hope."""

from typing import ClassVar, Literal

from nfbench import OBJECTIVES, Alarm, Attack, Count, Labels, Objective, Recorder, ThreatModel


class Blackbox(ThreatModel):
    """Knows data and architecture; attacks several classifiers trained without the defense at once.

    The papers' blackbox attacker (Dathathri et al. 2018, Appendix F) has one replica.
    """

    name = "blackbox"
    paper = "https://arxiv.org/abs/1803.03870"
    knowledge = "data, architecture"
    classifier: ClassVar[Literal["victim", "undefended-replica"]] = "undefended-replica"

    replicas: Count = 3
    """Classifiers that the attacker trains."""

    @property
    def replica_count(self) -> int:
        return self.replicas

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return (attack.static_objective,)

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels)


class LimitedKnowledge(ThreatModel):
    """Knows the classifier and how the detector was made, not its secret; Carlini & Wagner (2017).

    Makes replicas of the detector with other secrets and other data and attacks their mean, an
    expectation over secrets. The point is chosen there, among all objectives, and meets the victim's
    detector once.
    """

    name = "limited-knowledge"
    paper = "https://arxiv.org/abs/1705.07263"
    knowledge = "classifier, method of the detector"
    detector: ClassVar[Literal["none", "victim", "other-secret"]] = "other-secret"

    replicas: Count = 3
    """Detectors, with classifiers of their own where these are trained for them, that he makes."""

    @property
    def replica_count(self) -> int:
        return self.replicas

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return attack.adaptive_objectives

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels, alarm)
