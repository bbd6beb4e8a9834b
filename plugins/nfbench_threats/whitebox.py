"""The two white boxes: with and without the detector."""

from typing import ClassVar, Literal, TypeAlias

from nfbench import OBJECTIVES, Alarm, Attack, Labels, Objective, Positive, Recorder, ThreatModel

Follow: TypeAlias = Literal["auto", "declared", "distilled", "none"]
Climb: TypeAlias = Literal["dual", "margin", "selective", "orthogonal", "matching", "lagrangian"]


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
    detector: ClassVar[Literal["none", "victim", "other-secret"]] = "victim"

    objective_names: tuple[Climb, ...] | None = None
    """Objectives to run instead of those the attack asks for; each image keeps its best."""
    weight: Positive = 1.0
    """Logits that one clean interquartile range of suspicion is worth in the evasion margin."""
    surrogate: Follow = "auto"
    """Whose gradient is followed where a detector has none: the surrogate's that it declares, one's
    distilled from its scores, the first of these that there is, or nobody's."""

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return self.objective_names or attack.adaptive_objectives

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels, alarm, weight=self.weight)


class PaperAdaptive(ThreatModel):
    """White box on everything, attacking as the NeuralFP paper says or as its released code does.

    What the attack returns is what is scored, not the best point it saw, so that Tables 6 and 13 to 15
    can be compared cell by cell.
    """

    name = "paper-adaptive"
    paper = "https://arxiv.org/abs/1803.03870"
    knowledge = "classifier, detector, secret, threshold; the paper's objective"
    detector: ClassVar[Literal["none", "victim", "other-secret"]] = "victim"
    keeps_best = False

    protocol: Literal["paper", "released-code"] = "paper"

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return (self.protocol,)

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels, alarm)
