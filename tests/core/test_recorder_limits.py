"""What the recorder grants and no more: so many queries, decisions, features; and who found what."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Alarm, Victim

ALARM = Alarm(threshold=0.5, median=0.2, unit=0.1)
X = torch.tensor([[0.6, 0.4, 0.0, 0.9]] * 3).view(3, 1, 2, 2)  # class 0, score .9
LABELS = torch.zeros(3, dtype=torch.int64)


class FirstThree(nn.Module):
    """Logits are the first three pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :3]


class FourthPixel(Detector):
    """The score is the fourth pixel, which is also what it looks at."""

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, 3]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, 3:]


class Moody(FourthPixel):
    """More of it in some draws."""

    stochastic = True
    moods: ClassVar[dict[int, float]] = {}

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return super().score(x) + self.moods.get(self.draw, 0.0)


def recorder(
    access: Access = Access.GRADIENT,
    *,
    detector: type[Detector] | None = FourthPixel,
    queries: int | None = None,
    norm: str = "linf",
) -> Recorder:
    classifier = Classifier(FirstThree(), 3).eval()
    victim = Victim(classifier)
    if detector is not None:
        victim = Victim(classifier, detector(classifier), ALARM)
    return Recorder(victim, X, LABELS, Budget(norm, 0.9), access, queries=queries)


def points(*scores: float, offset: float = 0.0, fooled: bool = True) -> torch.Tensor:
    """Points with known scores; `offset` in a pixel that decides nothing makes them farther."""
    return torch.tensor([[0.4 if fooled else 0.6, 0.5, offset, s] for s in scores]).view(-1, 1, 2, 2)


def test_the_stage_that_found_each_image_s_best_point_is_the_winner():
    r = recorder()
    r.query(points(0.7, 0.9, 0.9))
    r.stage("first")
    r.query(points(0.8, 0.6, 0.9))
    r.stage("second")
    r.query(points(0.8, 0.6, 0.9, fooled=False))
    assert r.winner.tolist() == [0, 1, 0]
    r.stage("first")  # again
    r.query(points(0.1), torch.tensor([2]))
    assert r.stages == ["", "first", "second"]
    assert r.winner.tolist() == [0, 1, 1]
    assert torch.allclose(r.evasion_score, torch.tensor([0.7, 0.6, 0.1]))


def test_who_only_equals_the_best_point_does_not_win():
    r = recorder()
    r.query(points(0.5, 0.5, 0.5))
    r.stage("late")
    r.query(points(0.5, 0.5, 0.5, offset=0.3))
    assert r.winner.tolist() == [0, 0, 0]
    assert torch.equal(r.best, points(0.5, 0.5, 0.5))


def test_nobody_wins_an_image_that_was_never_misclassified():
    r = recorder()
    r.query(points(0.1, 0.1, 0.1, fooled=False))
    r.query(points(0.1, 0.1, 0.1), record=False)
    assert r.winner.tolist() == [-1, -1, -1]


def test_no_more_queries_are_answered_than_were_granted():
    r = recorder(queries=2)
    assert r.left() == 2
    r.query(X)
    r.query(X[:1], torch.tensor([1]))
    assert r.left() == 0  # of the image asked about most
    assert [r.left(torch.tensor([i])) for i in range(3)] == [1, 0, 1]
    with pytest.raises(UnknownToAttacker, match="no more than 2 queries an image"):
        r.query(X)
    with pytest.raises(UnknownToAttacker, match="no more than 2 queries an image"):
        r.query(X[:1], torch.tensor([1]))
    assert r.forward.tolist() == [1, 2, 1]


def test_a_refused_query_gains_nothing():
    r = recorder(queries=1)
    r.query(X)
    with pytest.raises(UnknownToAttacker):
        r.query(points(0.1, 0.1, 0.1))
    assert r.evasion_score.tolist() == [math.inf] * 3


def test_probes_and_repeated_rows_count_as_queries_too():
    r = recorder(queries=3)
    r.query(points(0.1, 0.1, 0.1), torch.tensor([1, 1, 1]), record=False)
    assert r.left(torch.tensor([1])) == 0
    with pytest.raises(UnknownToAttacker):
        r.query(X[:1], torch.tensor([1]), record=False)
    with pytest.raises(UnknownToAttacker):
        recorder(queries=2).query(points(0.1, 0.1, 0.1), torch.tensor([0, 0, 0]), record=False)


def test_a_budget_of_no_queries_answers_none():
    r = recorder(queries=0)
    assert r.left() == 0
    with pytest.raises(UnknownToAttacker, match="no more than 0"):
        r.query(X)


def test_without_a_limit_there_is_no_number_left():
    r = recorder()
    assert r.left() is None
    assert r.left(torch.tensor([0])) is None


def test_draws_are_counted_by_questions_about_an_image_not_by_calls():
    seen = []

    class Watched(FourthPixel):
        stochastic = True

        def score(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(self.draw)
            return super().score(x)

    r = recorder(detector=Watched)
    together = points(0.3, 0.3, 0.3)
    r.query(together, record=False)
    for row in range(3):  # the same images, one by one
        r.query(together[row : row + 1], torch.tensor([row]), record=False)
    r.query(together[:2], torch.tensor([0, 0]), record=False)
    r.query(together[:1], torch.tensor([0]), record=False)
    assert seen == [1, 9, 9, 9, 17, 25]
    r.query(together[:0], torch.arange(0), record=False)


def test_further_draws_of_a_stochastic_detector_are_not_the_attacker_s_queries():
    r = recorder(detector=Moody, queries=2)
    r.query(points(0.1, 0.6, 0.7))
    assert r.forward.tolist() == [8, 2, 2]
    assert r.left() == 1


def test_under_decisions_the_first_accepted_point_is_kept_and_then_nearer_ones():
    r = recorder(Access.DECISION)
    r.query(points(0.8, 0.8, 0.8, offset=0.5))  # wrong and rejected
    assert r.evasion_score.tolist() == [1, 1, 1]
    r.query(points(0.3, 0.7, 0.7, offset=0.4))  # accepted; rejected, nearer; rejected
    assert r.evasion_score.tolist() == [0, 1, 1]
    r.query(points(0.1, 0.5, 0.6, offset=0.7))  # farther though less suspicious; accepted; no better
    assert torch.allclose(r.best[0], points(0.3, offset=0.4)[0])
    assert torch.allclose(r.best[1], points(0.5, offset=0.7)[0])
    assert torch.allclose(r.best[2], points(0.7, offset=0.4)[0])
    r.query(points(0.45, 0.8, 0.8, offset=0.1))  # nearer; rejected, nearer than an accepted one
    assert torch.allclose(r.best[0], points(0.45, offset=0.1)[0])
    assert torch.allclose(r.best[1], points(0.5, offset=0.7)[0])
    assert r.evasion_score.tolist() == [0, 0, 1]
    assert r.finished.tolist() == [True, True, False]


def test_nearer_is_meant_in_the_norm_of_the_budget():
    wide = points(0.5, 0.5, 0.5, offset=0.39)  # .2, .1, .39 and .4: the largest is .4, the sum 1.09
    long = points(0.45, 0.45, 0.45, offset=0.0)  # .2, .1, 0 and .45: .45 and .75
    for norm, nearest in (("linf", wide), ("l1", long)):
        for order in ((wide, long), (long, wide)):
            r = recorder(Access.DECISION, norm=norm)
            for x in order:
                r.query(x)
            assert torch.equal(r.best, nearest)


def test_under_decisions_nothing_tells_how_suspicious_a_point_is():
    shown = []
    for scores in ((0.51, 0.0, 0.5), (0.9, 0.5, 0.2)):
        r = recorder(Access.DECISION)
        seen = r.query(points(*scores))
        shown.append((seen.logits, seen.score, r.evasion_score, r.finished))
        assert [part for part in seen[2:] if part is not None] == []
    assert all(torch.equal(a, b) for a, b in zip(*shown, strict=True))


def test_under_decisions_a_nearer_point_needs_two_accepting_draws_too():
    moody = type("Lucky", (Moody,), {"moods": {10: 0.9}})
    r = recorder(Access.DECISION, detector=moody)
    r.query(points(0.4, 0.4, 0.4, offset=0.7))  # draws 1 to 8 accept
    r.query(points(0.4, 0.4, 0.4, offset=0.1))  # draw 9 accepts, draw 10 would not
    assert torch.equal(r.best, points(0.4, 0.4, 0.4, offset=0.7))


@pytest.mark.parametrize("detector", [FourthPixel, None])
def test_features_are_for_those_who_are_granted_gradients(detector):
    x = points(0.3, 0.4, 0.5)
    seen = recorder(detector=detector).query(x, features=True)
    wanted = x.flatten(1)[:, 3:] if detector else seen.logits
    assert torch.equal(seen.features, wanted)
    assert recorder(detector=detector).query(x).features is None
    for access in (Access.SCORES, Access.DECISION):
        r = recorder(access, detector=detector)
        with pytest.raises(UnknownToAttacker, match="features are withheld"):
            r.query(x, features=True)
        assert r.forward.tolist() == [0, 0, 0]
