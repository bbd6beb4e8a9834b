"""PGD and FMN where the best that any attack can do is known: a linear classifier and detector."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.draws import Draws
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
from nfbench.core.victim import Alarm, Victim
from nfbench_attacks.fmn import FMN
from nfbench_attacks.gradient import PGDL2

SHAPE, EPS, NEEDED, COUNT = (1, 5, 5), 0.4, 0.25, 20
ALARM = Alarm(threshold=-0.05, median=-10.0, unit=0.1)
"""The clean score is 0, so every image is rejected until it moves."""


class Plane(Detector):
    """Score <v, x - x0>."""

    def __init__(self, classifier: Classifier, v: torch.Tensor) -> None:
        super().__init__(classifier)
        self.v = nn.Buffer(v)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5).flatten(1) @ self.v


class Planes:
    """Grey images that are misclassified where <w, d> > NEEDED and scored <v, d>; w, v unit vectors."""

    def __init__(self, angle: float) -> None:
        torch.manual_seed(0)
        basis = torch.linalg.qr(torch.randn(25, 2, dtype=torch.float64))[0].T
        self.w = basis[0]
        self.v = math.cos(math.radians(angle)) * basis[0] + math.sin(math.radians(angle)) * basis[1]
        layer = nn.Linear(25, 2).requires_grad_(False)
        layer.weight.copy_(torch.stack([torch.zeros(25, dtype=torch.float64), self.w]))
        layer.bias.copy_(torch.tensor([NEEDED + 0.5 * float(self.w.sum()), 0.0]))
        classifier = Classifier(nn.Sequential(nn.Flatten(), layer), 2).eval()
        self.victim = Victim(classifier, Plane(classifier, self.v.float()).eval(), ALARM)
        self.x, self.labels = torch.full((COUNT, *SHAPE), 0.5), torch.zeros(COUNT, dtype=torch.int64)

    def attack(self, name: str) -> tuple[Recorder, torch.Tensor]:
        """The recorder, and the evasion margin of what the attack returned."""
        budget = Budget("l2", EPS)
        recorder = Recorder(self.victim, self.x, self.labels, budget)
        objective = ADAPTIVE.objective(name, recorder, self.labels, ALARM)
        images = PGDL2().perturb(objective, self.x, budget, Draws(0, range(COUNT)))
        return recorder, objective.margin(images)

    def lowest_score(self) -> float:
        """min <v, d> subject to <w, d> >= NEEDED and |d| <= EPS."""
        along = float(self.v @ self.w)
        if -EPS * along >= NEEDED:
            return -EPS
        return NEEDED * along - math.sqrt((EPS**2 - NEEDED**2) * (1 - along**2))

    def smallest_size(self) -> float:
        """min |d| subject to <w, d> >= NEEDED and <v, d> <= threshold."""
        along, low = float(self.v @ self.w), ALARM.threshold
        if NEEDED * along <= low:
            return NEEDED
        if low * along >= NEEDED:
            return abs(low)
        return math.sqrt(NEEDED**2 + (low - NEEDED * along) ** 2 / (1 - along**2))

    def largest_margin(self) -> float:
        """max min(<w, d> - NEEDED, (threshold - <v, d>) / unit), by duality a minimum over a weight."""
        weights = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
        slope = weights * self.w - (1 - weights) * self.v / ALARM.unit
        offset = -weights * NEEDED + (1 - weights) * ALARM.threshold / ALARM.unit
        return float((offset[:, 0] + EPS * slope.norm(dim=1)).min())


ANGLES = [45, 60, 90, 120, 135]
"""Beyond, `orthogonal` must fail: across v it gets no further than EPS sin(angle) along w."""


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("name", ["selective", "orthogonal"])
def test_the_best_score_is_nearly_the_lowest_there_is(angle, name):
    case = Planes(angle)
    low, best = case.lowest_score(), case.attack(name)[0].evasion_score
    assert (best >= low - 1e-5).all()  # nothing can lie below
    assert ((best - low) / EPS).max() < 0.05


@pytest.mark.parametrize("angle", ANGLES)
def test_the_evasion_margin_is_nearly_the_largest_there_is(angle):
    case = Planes(angle)
    reached, best = case.attack("margin")[1], case.largest_margin()
    assert (reached <= best + 1e-5).all()
    assert ((best - reached) / EPS).max() < 0.05


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("name", ["margin", "selective"])
def test_fmn_comes_nearly_as_near_as_one_can(angle, name):
    case = Planes(angle)
    recorder = Recorder(case.victim, case.x, case.labels, Budget("l2", math.inf))
    objective = ADAPTIVE.objective(name, recorder, case.labels, ALARM)
    images = FMN().perturb(objective, case.x, recorder.budget, Draws(0, range(COUNT)))
    size, least = recorder.budget.size(case.x, images), case.smallest_size()
    assert (objective.margin(images) > 0).all()
    assert (size >= least - 1e-5).all()
    assert (size <= 1.05 * least).all()


def test_the_closed_form_is_what_a_search_of_the_plane_finds():
    turn = torch.linspace(0, 2 * math.pi, 400_000, dtype=torch.float64)
    for angle in (45, 90, 150):
        case = Planes(angle)
        across = case.v - (case.v @ case.w) * case.w
        across = across / across.norm()
        points = EPS * (turn.cos()[:, None] * case.w + turn.sin()[:, None] * across)
        fooled, hidden = points @ case.w - NEEDED, (ALARM.threshold - points @ case.v) / ALARM.unit
        scores = (points @ case.v)[fooled >= 0]
        if (nearest := case.smallest_size()) < EPS:  # at that radius some point just does, below none
            assert (torch.minimum(fooled, hidden) >= 0).any()
            smaller = points * (nearest / EPS)
            just = (smaller @ case.w > NEEDED - 1e-5) & (smaller @ case.v < ALARM.threshold + 1e-5)
            assert just.any()
            less = 0.999 * smaller
            assert not ((less @ case.w >= NEEDED) & (less @ case.v <= ALARM.threshold)).any()
        assert scores.min().item() == pytest.approx(case.lowest_score(), abs=1e-4)
        assert torch.minimum(fooled, hidden).max().item() == pytest.approx(
            case.largest_margin(), abs=1e-3
        )
