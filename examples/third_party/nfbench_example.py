"""A defense, an attack and a threat model that nfbench knows nothing of."""

import torch
from torch.nn.functional import normalize

from nfbench import (
    OBJECTIVES,
    Access,
    Alarm,
    Attack,
    Budget,
    Classifier,
    Count,
    Defense,
    Detector,
    Draws,
    FitData,
    Images,
    Labels,
    Objective,
    Positive,
    Recorder,
    Scores,
    ThreatModel,
    hookimpl,
)


class Energy(Defense):
    """Little free energy in the logits is suspicious. Liu et al. (2020)."""

    name = "example-energy"
    paper = "https://arxiv.org/abs/2010.03759"
    temperature: Positive = 1.0

    def fit(self, classifier: Classifier, data: FitData) -> dict[str, torch.Tensor]:
        return {"temperature": torch.tensor(self.temperature)}

    def detector(self, classifier: Classifier, state: dict[str, torch.Tensor]) -> Detector:
        return _EnergyDetector(classifier, state["temperature"])


class _EnergyDetector(Detector):
    def __init__(self, classifier: Classifier, temperature: torch.Tensor) -> None:
        super().__init__(classifier)
        self.temperature = torch.nn.Buffer(temperature)

    def score(self, x: Images) -> Scores:
        energy: Scores = -self.temperature * (self.classifier(x) / self.temperature).logsumexp(1)
        return energy


class MomentumFGSM(Attack):
    """Signed steps along an accumulated gradient. Dong et al. (2018)."""

    name = "example-mi-fgsm"
    paper = "https://arxiv.org/abs/1710.06081"
    norm = "linf"
    steps: Count = 10
    decay: Positive = 1.0

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        x_adv, momentum = x, torch.zeros_like(x)
        for _ in range(self.steps):
            gradient = objective.gradient(x_adv).flatten(1)
            momentum = self.decay * momentum + normalize(gradient, p=1).view_as(x)
            x_adv = budget.project(x, x_adv + budget.eps / self.steps * momentum.sign())
        if objective.knows_detector:
            objective.query(x_adv)  # only what was queried can count
        return x_adv


class ScoreQueries(ThreatModel):
    """Sees the classifier's logits, has no gradients and does not know of the detector."""

    name = "example-score-queries"
    knowledge = "logits of the classifier"
    access = Access.SCORES

    def objectives(self, attack: Attack) -> tuple[str, ...]:
        return (attack.static_objective,)

    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        return OBJECTIVES[name](recorder, labels)


@hookimpl
def nfbench_defenses() -> list[type[Defense]]:
    return [Energy]


@hookimpl
def nfbench_attacks() -> list[type[Attack]]:
    return [MomentumFGSM]


@hookimpl
def nfbench_threat_models() -> list[type[ThreatModel]]:
    return [ScoreQueries]
