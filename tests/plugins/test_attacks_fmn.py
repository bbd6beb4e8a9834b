"""FMN: as near as Foolbox's without a detector; no farther than a guide; images do not mix."""

import math

import foolbox
import pytest
import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.draws import Draws
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget, Split
from nfbench.core.victim import Alarm, Victim
from nfbench_attacks.fmn import FMN, FMNLinf

COUNT, SHAPE = 40, (1, 6, 6)


class Centred(nn.Module):
    def forward(self, x):
        return 4 * (x - 0.5)


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    net = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(36, 40), nn.Tanh(), nn.Linear(40, 5))
    return Classifier(net, 5).eval().requires_grad_(requires_grad=False)


@pytest.fixture
def split(classifier):
    x = torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2))
    return Split(x, classifier(x).argmax(1), torch.arange(COUNT))


def run(attack, victim, split, budget, guides=None):
    recorder = Recorder(victim, split.x, split.y, budget, guides=guides)
    objective = OBJECTIVES["margin"](recorder, split.y, victim.alarm)
    images = attack.perturb(objective, split.x, budget, Draws(0, split.index.tolist()))
    return images, budget.size(split.x, images), recorder


@pytest.mark.parametrize("attack", [FMN(), FMNLinf()], ids=["l2", "linf"])
def test_without_a_detector_it_comes_as_near_as_foolbox(classifier, split, attack):
    images, size, _ = run(attack, Victim(classifier), split, Budget(attack.norm, math.inf))
    assert (classifier(images).argmax(1) != split.y).all()
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    theirs = {"l2": foolbox.attacks.L2FMNAttack, "linf": foolbox.attacks.LInfFMNAttack}[attack.norm]
    found, _, fooled = theirs(steps=200)(model, split.x, split.y, epsilons=None)
    other = Budget(attack.norm, math.inf).size(split.x, found)
    assert fooled.all()
    assert size.median() <= 1.02 * other.median()
    assert (size <= 1.1 * other + 1e-3).double().mean() > 0.9


class Island(Detector):
    """Accepts what is near one image, and is flat elsewhere."""

    def score(self, x):
        far = (x - self.place).flatten(1).square().sum(1).sqrt()
        return (far - 0.5).clamp(max=0.5)


def test_a_guide_is_where_it_begins_if_nothing_else_leads_there(classifier, split):
    place = split.take(split.y != split.y[0])
    detector = Island(classifier)
    detector.place = place.x[:1]
    victim = Victim(classifier, detector, Alarm(threshold=0.0, median=-0.4, unit=0.5))
    attacked = split.take(split.y == split.y[0])
    budget = Budget("l2", math.inf)
    lost, _, _ = run(FMN(steps=60), victim, attacked, budget)
    assert torch.equal(lost, attacked.x)  # without a success the image itself
    images, size, recorder = run(FMN(steps=60), victim, attacked, budget, place.take(torch.tensor([0])))
    assert recorder.evaded.all()
    assert (detector.score(images) <= 0).all()
    whole = budget.size(attacked.x, place.x[:1].expand_as(attacked.x))
    assert (size < whole - 0.3).all()
    assert (size > whole - 0.5 - 1e-4).all()


def test_nothing_leaves_a_ball_that_is_given(classifier, split):
    budget = Budget("linf", 0.05)
    images, size, recorder = run(FMNLinf(steps=40), Victim(classifier), split, budget)
    assert budget.contains(split.x, images).all()
    fooled = classifier(images).argmax(1) != split.y
    assert torch.equal(fooled, size > 0)
    assert torch.equal(fooled, recorder.finished)
    assert 0 < int(fooled.sum()) < COUNT
