"""Random images in front of a random victim, and the formulas of objectives for one of them."""

import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.objective import Objective
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget, Norm, Split
from nfbench.core.victim import Alarm, Victim

COUNT, CLASSES, WEIGHT = 60, 4, 0.7
ALARM = Alarm(threshold=1.15, median=1.0, unit=0.6)


class Net(nn.Module):
    """Logits V tanh(W x)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(9, 12)), nn.Parameter(torch.randn(CLASSES, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.w.T).tanh() @ self.v.T


class Distances(Detector):
    """Penalty of class j: the distance of M x to a centre c_j; the least of them is the score."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.m, self.c = nn.Buffer(torch.randn(5, 12) / 3), nn.Buffer(torch.randn(CLASSES, 5) / 2)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.observe(x).score

    def observe(self, x: torch.Tensor) -> Observation:
        penalties = torch.cdist(x.flatten(1) @ self.m.T, self.c)
        return Observation(self.classifier(x), penalties.amin(1), penalties, penalties**3)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.m.T).sin()


class Case:
    """Random images, labels and targets in front of a random victim, all from one seed."""

    def __init__(self, *, detector: bool) -> None:
        torch.manual_seed(5)
        classifier = Classifier(Net(), CLASSES).eval()
        self.net, self.detector = classifier.network, Distances(classifier) if detector else None
        self.x = torch.rand(COUNT, 3, 2, 2)
        self.labels = torch.randint(CLASSES, (COUNT,))
        self.targets = (self.labels + torch.randint(1, CLASSES, (COUNT,))) % CLASSES
        self.alarm = ALARM if detector else None
        self.guides = Split(torch.rand(9, 3, 2, 2), torch.arange(9) % CLASSES, torch.arange(9))
        self.victim = Victim(classifier, self.detector, self.alarm)

    def objective(self, name: str, *, aimed: bool, norm: Norm = "linf") -> Objective:
        recorder = Recorder(self.victim, self.x, self.labels, Budget(norm, 0.1), guides=self.guides)
        objective = OBJECTIVES[name](recorder, self.labels, self.alarm, weight=WEIGHT)
        return objective.towards(self.targets) if aimed else objective

    def reference(self, formula, *, aimed: bool) -> torch.Tensor:
        """The gradient of `formula(parts)` for each image on its own."""
        found = []
        for i in range(COUNT):
            x = self.x[i].flatten().clone().requires_grad_()
            y, t = int(self.labels[i]), int(self.targets[i]) if aimed else None
            found.append(formula(Parts(self, x, y, t, i)).reshape(3, 2, 2).detach())
        return torch.stack(found)


class Parts:
    """What the formulas are made of, for one image: scalars attached to `x`."""

    def __init__(self, case: Case, x: torch.Tensor, y: int, t: int | None, row: int = 0) -> None:
        self.x, self.y, self.t, self.row = x, y, t, row
        self.z = case.net.v @ torch.tanh(case.net.w @ x)
        others = [self.z[k] for k in range(CLASSES) if k != (y if t is None else t)]
        best = torch.stack(others).max()
        self.fooled = best - self.z[y] if t is None else self.z[t] - best
        if case.detector is not None:
            gaps = case.detector.c - case.detector.m @ x
            self.penalty = [(gap**2).sum() ** 0.5 for gap in gaps]
            term = min(self.penalty) if t is None else self.penalty[t]
            self.suspicion = (term - ALARM.threshold) / ALARM.unit

    def grad(self, value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, self.x, retain_graph=True)[0]


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest relative error of an image's gradient."""
    apart, size = (found - wanted).flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1)
    return float((apart / size.clamp_min(1e-12)).max())


def cross_entropy(p: Parts) -> torch.Tensor:
    """-log p_y, or log p_t."""
    probability = torch.exp(p.z) / torch.exp(p.z).sum()
    return -torch.log(probability[p.y]) if p.t is None else torch.log(probability[p.t])
