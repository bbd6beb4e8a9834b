"""Attackers who may ask the defended system as often as they are allowed to, and see no more."""

from typing import ClassVar, Literal

from nfbench import (
    OBJECTIVES,
    Access,
    Alarm,
    Attack,
    Count,
    Labels,
    Objective,
    Positive,
    Recorder,
    ThreatModel,
)


class ScoreQueries(ThreatModel):
    """Sees logits and detector score of whatever image he sends, a limited number of times."""

    name = "score-queries"
    knowledge = "logits and scores of queries, threshold"
    detector: ClassVar[Literal["none", "victim", "other-secret"]] = "victim"
    access = Access.SCORES

    queries: Count = 10_000
    """Queries granted for each image."""
    weight: Positive = 1.0
    """Logits that one clean interquartile range of suspicion is worth in the evasion margin."""

    @property
    def query_limit(self) -> int:
        return self.queries

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return ("margin",)

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels, alarm, weight=self.weight)


class DecisionQueries(ScoreQueries):
    """Sees the label, and whether an image is accepted, a limited number of times."""

    name = "decision-queries"
    knowledge = "label and acceptance of queries"
    access = Access.DECISION
