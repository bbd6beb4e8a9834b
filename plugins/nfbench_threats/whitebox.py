"""The two white boxes: with and without the detector."""

from typing import ClassVar, Literal

from nfbench import OBJECTIVES, Alarm, Attack, Labels, Objective, Positive, Recorder, ThreatModel


class PartialWhitebox(ThreatModel):
    """White box on the classifier, unaware of the detector: the papers' static attacks."""

    name = "partial-whitebox"
    paper = "https://arxiv.org/abs/1803.03870"
    knowledge = "classifier"

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return (attack.static_objective,)

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels)


class AdaptiveWhitebox(ThreatModel):
    """White box on classifier, detector, its secret and its threshold."""

    name = "adaptive-whitebox"
    knowledge = "classifier, detector, secret, threshold"
    detector: ClassVar[Literal["none", "victim"]] = "victim"

    objective_names: tuple[Literal["margin", "selective", "orthogonal", "lagrangian"], ...] | None = None
    """Objectives to run instead of those the attack asks for; each image keeps its best."""
    weight: Positive = 1.0
    """Logits that one clean interquartile range of suspicion is worth in the evasion margin."""

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return self.objective_names or attack.adaptive_objectives

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels, alarm, weight=self.weight)
