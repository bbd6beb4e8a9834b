"""Matching chooses its guides as said, and is a distance to what the detector sees of them."""

import pytest
import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.matching import Matching
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget, Split
from nfbench.core.victim import Alarm, Victim

ALARM = Alarm(threshold=1.0, median=0.5, unit=0.5)


class TwoPixels(Detector):
    """Looks at twice the first pixel and at the square of the second; the first is the score."""

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, 0]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([2 * x.flatten(1)[:, 0], x.flatten(1)[:, 1] ** 2], 1)


class Silent(TwoPixels):
    """Does not say what it looks at."""

    def features(self, x: torch.Tensor) -> None:
        return None


def images(*pixels: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(pixels).view(-1, 1, 1, 2)


GUIDES = Split(
    images((0.1, 0.1), (0.2, 0.2), (0.5, 0.5), (0.6, 0.6), (0.9, 0.9)),
    torch.tensor([0, 1, 1, 2, 1]),
    torch.arange(5),
)


def matching(
    x: torch.Tensor,
    *labels: int,
    rank: int = 0,
    guides: Split | None = GUIDES,
    detector: type[Detector] | None = TwoPixels,
    access: Access = Access.GRADIENT,
) -> Matching:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(2, 4)), 4).eval()
    victim = Victim(classifier)
    if detector is not None:
        victim = Victim(classifier, detector(classifier), ALARM)
    y = torch.tensor(labels)
    recorder = Recorder(victim, x, y, Budget("linf", 0.5), access, guides=guides)
    objective = Matching(recorder, y, victim.alarm)
    objective.rank = rank
    return objective


def aims(objective: Matching) -> list[float]:
    """The first pixel of each image's guide, which tells the guides apart."""
    return [round(float(guide.flatten()[0]), 3) for guide in objective.aim()]


NEAR_ZERO = images((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


def test_the_guide_is_the_nearest_image_of_another_class():
    assert aims(matching(NEAR_ZERO, 0, 1, 2)) == [0.2, 0.1, 0.1]


@pytest.mark.parametrize(("rank", "wanted"), [(1, 0.5), (2, 0.6), (3, 0.9), (4, 0.9), (9, 0.9)])
def test_a_rank_counts_on_from_the_nearest_to_the_last_there_is(rank, wanted):
    x = NEAR_ZERO[:1]
    assert aims(matching(x, 0, rank=rank)) == [wanted]


def test_aiming_at_a_class_the_guides_are_of_that_class():
    for rank, wanted in enumerate([[0.2, 0.6, 0.1], [0.5, 0.6, 0.1], [0.9, 0.6, 0.1]]):
        objective = matching(NEAR_ZERO, 0, 0, 1, rank=rank).towards(torch.tensor([1, 2, 0]))
        assert aims(objective) == wanted


def test_a_class_without_guides_falls_back_to_any_wrong_class():
    x = NEAR_ZERO[:1]
    assert aims(matching(x, 0).towards(torch.tensor([3]))) == [0.2]


def test_distances_are_in_pixels_of_the_image_that_is_aimed_for():
    x = images((0.55, 0.57), (0.7, 0.95))
    assert aims(matching(x, 0, 2)) == [0.6, 0.9]


def test_its_variants_are_the_three_nearest_guides_each_seen_afresh():
    x = NEAR_ZERO[:1]
    objective = matching(x, 0)
    objective.aim()
    variants = list(objective.variants())
    assert [aims(variant) for variant in variants] == [[0.2], [0.5], [0.6]]
    assert all(isinstance(variant, Matching) for variant in variants)


def test_the_value_is_minus_the_squared_distance_in_units_of_the_guide():
    x = images((0.4, 0.7))
    objective = matching(x, 0)
    objective.aim()  # (.5, .5), seen as (1, .25)
    wanted = -((0.8 - 1) ** 2 + (0.49 - 0.25) ** 2) / (1 + 0.25**2)
    assert objective.loss(x).item() == pytest.approx(wanted)


def test_the_value_is_zero_at_the_guide_and_negative_elsewhere():
    x = NEAR_ZERO
    objective = matching(x, 0, 1, 2)
    chosen = objective.aim()
    assert objective.loss(chosen).tolist() == [0, 0, 0]
    assert (objective.loss(x) < 0).all()
    assert objective.loss(chosen[[2, 0]], torch.tensor([2, 0])).tolist() == [0, 0]


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_the_gradient_is_that_of_the_formula(aimed):
    x, rows = images((0.3, 0.8), (0.6, 0.2), (0.9, 0.4)).double(), torch.tensor([2, 0])
    guides = Split(GUIDES.x.double(), GUIDES.y, GUIDES.index)
    objective = matching(x, 0, 1, 2, guides=guides)
    objective._recorder._victim.classifier.double()
    if aimed:
        objective = objective.towards(torch.tensor([2, 2, 0]))
    wanted = []
    for (a, b), (g, h) in zip(x.flatten(1), objective.aim().flatten(1), strict=True):
        size = (2 * g) ** 2 + h**4
        wanted.append([-2 * 2 * (2 * a - 2 * g) / size, -2 * (b**2 - h**2) * 2 * b / size])
    wanted = torch.tensor(wanted).view_as(x)
    assert torch.allclose(objective.gradient(x), wanted, rtol=1e-6, atol=0)
    assert torch.allclose(objective.gradient(x[rows], rows), wanted[rows], rtol=1e-6, atol=0)


@pytest.mark.parametrize("detector", [Silent, None])
def test_the_logits_stand_in_where_a_detector_does_not_say_what_it_looks_at(detector):
    x = images((0.4, 0.7))
    objective = matching(x, 0, detector=detector)
    logits = objective._recorder._victim.classifier
    g = logits(objective.aim())
    wanted = -(logits(x) - g).square().sum() / g.square().sum()
    assert objective.loss(x).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_guides_are_looked_at_once_a_run_and_gain_the_image_nothing():
    x = NEAR_ZERO
    objective = matching(x, 0, 1, 2)
    objective.aim()
    assert objective._recorder.evasion_score.tolist() == [torch.inf] * 3
    for _ in range(3):
        objective.step(x)
    assert objective._recorder.forward.tolist() == [4, 4, 4]
    objective.begin().step(x)
    assert objective._recorder.forward.tolist() == [6, 6, 6]


@pytest.mark.parametrize("guides", [None, GUIDES.take(GUIDES.y > 9)], ids=["none", "empty"])
def test_without_guides_it_is_the_evasion_margin(guides):
    x = NEAR_ZERO
    alone = matching(x, 0, 1, 2, guides=guides)
    margin = alone.recast(OBJECTIVES["margin"])
    assert torch.equal(alone.step(x).gradient, margin.step(x).gradient)
    assert torch.equal(alone.loss(x), margin.loss(x))
    with pytest.raises(UnknownToAttacker, match="no clean image of another class"):
        alone.aim()


def test_an_image_whose_class_alone_has_guides_climbs_the_margin_and_its_neighbours_do_not():
    only = GUIDES.take(GUIDES.y == 1)
    found = matching(NEAR_ZERO, 0, 1, 2, guides=only)
    other = matching(NEAR_ZERO, 0, 2, 2, guides=only)
    found._recorder._victim = other._recorder._victim
    wanted, margin = other.loss(NEAR_ZERO), found.recast(OBJECTIVES["margin"]).loss(NEAR_ZERO)
    assert torch.equal(found.loss(NEAR_ZERO), torch.stack([wanted[0], margin[1], wanted[2]]))
    rows = torch.tensor([1, 2])
    assert torch.equal(found.loss(NEAR_ZERO[rows], rows), torch.stack([margin[1], wanted[2]]))


def test_whoever_begins_with_a_part_of_the_batch_has_guides_for_all_of_it():
    x, rows = NEAR_ZERO, torch.tensor([2, 0])
    part, whole = matching(x, 0, 1, 2), matching(x, 0, 1, 2)
    part._recorder._victim = whole._recorder._victim
    assert torch.equal(part.step(x[rows], rows).gradient, whole.step(x).gradient[rows])
    assert part.loss(x).tolist() == whole.loss(x).tolist()


def test_the_guides_are_near_the_image_under_attack_wherever_the_attack_has_come():
    x = images((0.55, 0.57))
    objective = matching(x, 0)
    objective.step(images((0.15, 0.1)))  # nearer to another guide
    assert objective.loss(images((0.6, 0.6))).item() == 0


@pytest.mark.parametrize("access", [Access.SCORES, Access.DECISION])
def test_what_the_detector_looks_at_is_withheld_where_gradients_are(access):
    x = NEAR_ZERO
    with pytest.raises(UnknownToAttacker, match="features are withheld"):
        matching(x, 0, 1, 2, access=access).loss(x)
