"""The gradient of every objective against autograd of its formula, written out for one image."""

import pytest
import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.objective import Objective
from nfbench.core.objectives import KAPPA, OBJECTIVES, Lagrangian
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
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
        return Observation(self.classifier(x), penalties.amin(1), penalties)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
        self.victim = Victim(classifier, self.detector, self.alarm)

    def objective(self, name: str, *, aimed: bool) -> Objective:
        recorder = Recorder(self.victim, self.x, self.labels, Budget("linf", 0.1))
        objective = OBJECTIVES[name](recorder, self.labels, self.alarm, weight=WEIGHT)
        return objective.towards(self.targets) if aimed else objective

    def reference(self, formula, *, aimed: bool) -> torch.Tensor:
        """The gradient of `formula(parts)` for each image on its own."""
        found = []
        for i in range(COUNT):
            x = self.x[i].flatten().clone().requires_grad_()
            y, t = int(self.labels[i]), int(self.targets[i]) if aimed else None
            found.append(formula(Parts(self, x, y, t)).reshape(3, 2, 2).detach())
        return torch.stack(found)


class Parts:
    """What the formulas are made of, for one image: scalars attached to `x`."""

    def __init__(self, case: Case, x: torch.Tensor, y: int, t: int | None) -> None:
        self.x, self.y, self.t = x, y, t
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


def cross_entropy(p: Parts) -> torch.Tensor:
    """-log p_y, or log p_t."""
    probability = torch.exp(p.z) / torch.exp(p.z).sum()
    return -torch.log(probability[p.y]) if p.t is None else torch.log(probability[p.t])


def margin(p: Parts) -> torch.Tensor:
    if not hasattr(p, "suspicion"):
        return p.fooled
    if p.fooled > 0:
        return min(p.fooled, -WEIGHT * p.suspicion)
    return p.fooled - WEIGHT * max(p.suspicion, torch.zeros(()))


def selective(p: Parts) -> torch.Tensor:
    return -p.suspicion if p.fooled > KAPPA else p.fooled


def orthogonal_gradient(p: Parts) -> torch.Tensor:
    f, g = p.grad(p.fooled), -p.grad(p.suspicion)
    step, other = (g, f) if p.fooled > KAPPA else (f, g)
    if abs(float(f @ g)) > 0.9 * float(f.norm() * g.norm()):
        return step
    return step - (step @ other) / (other @ other) * other


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
@pytest.mark.parametrize(
    ("name", "formula", "detector"),
    [
        ("cross-entropy", cross_entropy, False),
        ("cross-entropy", cross_entropy, True),
        ("lagrangian", lambda p: cross_entropy(p) - min(p.penalty), True),
        ("margin", margin, False),
        ("margin", margin, True),
        ("selective", selective, True),
    ],
)
def test_an_objective_has_the_gradient_of_its_formula(name, formula, detector, aimed):
    case = Case(detector=detector)
    wanted = case.reference(lambda p: p.grad(formula(p)), aimed=aimed)
    assert error(case.objective(name, aimed=aimed).gradient(case.x), wanted) <= 1e-6


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_the_orthogonal_gradient_is_the_selective_one_less_its_part_along_the_other(aimed):
    case = Case(detector=True)
    wanted = case.reference(orthogonal_gradient, aimed=aimed)
    assert error(case.objective("orthogonal", aimed=aimed).gradient(case.x), wanted) <= 1e-6


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
@pytest.mark.parametrize("term", ["true", "target", "predicted", "min"])
def test_the_lagrangian_weighs_the_term_it_is_told(term, aimed):
    def formula(p: Parts) -> torch.Tensor:
        classes = {"true": p.y, "target": p.y if p.t is None else p.t, "predicted": int(p.z.argmax())}
        penalty = min(p.penalty) if term == "min" else p.penalty[classes[term]]
        return p.grad(cross_entropy(p) - 0.3 * penalty)

    case = Case(detector=True)
    objective = case.objective("lagrangian", aimed=aimed)
    assert isinstance(objective, Lagrangian)
    found = objective.with_gamma(0.3, term).gradient(case.x)
    assert error(found, case.reference(formula, aimed=aimed)) <= 1e-6


def test_rows_pick_the_labels_targets_and_weights_of_their_images():
    case = Case(detector=True)
    rows = torch.tensor([7, 3, 50])
    for aimed in (False, True):
        for name in OBJECTIVES:
            objective = case.objective(name, aimed=aimed)
            if isinstance(objective, Lagrangian):
                objective = objective.with_gamma(torch.linspace(0, 5, COUNT), "target")
            part, whole = objective.gradient(case.x[rows], rows), objective.gradient(case.x)[rows]
            assert error(part, whole) <= 1e-12, name


def test_the_random_images_take_every_branch_of_the_formulas():
    case = Case(detector=True)
    for aimed in (False, True):
        objective = case.objective("margin", aimed=aimed)
        seen = objective.query(case.x)
        fooled, suspicion = objective._class_margin(seen.logits, None), objective._suspicion(seen, None)
        for branch in (fooled > 0, suspicion > 0, fooled < -WEIGHT * suspicion):
            assert 5 < int(branch.sum()) < COUNT - 5
        assert bool(((fooled > 0) & (suspicion < 0)).any())
