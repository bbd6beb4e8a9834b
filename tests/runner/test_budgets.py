"""How far a portfolio got with half of its passes, what it costs, and how it is asked for."""

import pytest
import torch

from nfbench.core.errors import UsageError
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import AGES, Recorder
from nfbench.core.values import Budget, Split
from nfbench.core.victim import Victim
from nfbench.runner.attacking import at_half_budget
from nfbench.runner.cost import price
from nfbench.runner.options import Options
from nfbench.runner.spec import resolve
from nfbench.testing.fixtures import linear_images, planted_victim
from nfbench_attacks.detector_breaker import DetectorBreaker


def names(registry, *attacks, **options):
    spec = resolve(Options(defense=("random",), attacks=attacks, **options), registry)
    return [(a.name, getattr(a.recipe, "budget", None)) for a in spec.attacks]


def test_the_strongest_is_the_portfolio_of_each_norm_with_a_radius(registry):
    assert names(registry, "strongest") == [("detector-breaker", "quick")]
    assert names(registry, "strongest", eps=("l2=1",)) == [("detector-breaker-l2", "quick")]
    both = names(registry, "strongest", eps=("l2=1", "0.1"), budget="standard")
    assert both == [("detector-breaker", "standard"), ("detector-breaker-l2", "standard")]


def test_a_setting_wins_over_the_flag_for_all(registry):
    settings = {"detector-breaker": {"budget": "thorough"}}
    assert names(registry, "strongest", budget="quick", settings=settings)[0][1] == "thorough"


@pytest.mark.parametrize(
    ("attack", "budget", "why"),
    [
        ("fgsm", "quick", "--budget has no effect: none of the attacks has one"),
        ("strongest", "qick", "detector-breaker.budget = 'qick'"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(registry, attack, budget, why):
    with pytest.raises(UsageError, match=why):
        names(registry, attack, budget=budget)


def test_a_larger_budget_allows_more_passes():
    passes = [DetectorBreaker(budget=b).passes for b in ("quick", "standard", "thorough")]
    assert passes == sorted(passes)
    assert passes[1] > 5 * passes[0]


def test_the_price_is_told_in_passes_images_and_time():
    told = price(DetectorBreaker(budget="quick"), planted_victim(), linear_images(16))
    assert told.startswith("detector-breaker: at most ")
    assert "for each of 16 images" in told
    assert " ms a pass" in told


def test_the_history_holds_the_best_score_by_powers_of_two_of_passes():
    victim, split = planted_victim(), linear_images(8)
    recorder = Recorder(victim, split.x, split.y, Budget("linf", 1.0))
    wrong = torch.stack([split.x[(split.y != y).nonzero()[0, 0]] for y in split.y])
    seen = []
    for _ in range(5):
        recorder.query(split.x)
    recorder.query(wrong)  # the sixth pass
    seen.append(recorder.evasion_score.clone())
    assert recorder.history.shape == (8, AGES)
    assert recorder.history[:, :2].isinf().all()
    assert torch.equal(recorder.history[:, 2], seen[0])


def test_half_of_the_budget_is_half_of_what_the_longest_took():
    history = torch.full((2, AGES), torch.inf)
    history[0, 2], history[1, 4] = 0.5, 0.25  # found within 4 to 7, and within 16 to 31 passes
    for most, found in ((15, [torch.inf] * 2), (16, [0.5, torch.inf]), (64, [0.5, 0.25])):
        forward = torch.tensor([6, most])
        assert at_half_budget(history, forward).tolist() == found


def test_an_attack_that_is_through_with_an_image_may_dismiss_it():
    victim, split = planted_victim(), linear_images(8)
    recorder = Recorder(victim, split.x, split.y, Budget("linf", 1.0), guides=Split(*_none(split)))
    objective = OBJECTIVES["dual"](recorder, split.y, victim.alarm)
    chosen = torch.arange(8) < 3
    objective.dismiss(chosen)
    assert torch.equal(objective.finished, chosen)
    assert not objective.evaded.any()
    assert Recorder(Victim(victim.classifier), split.x, split.y, Budget("linf", 1.0)).evaded.sum() == 0


def _none(split):
    return split.x[:0], split.y[:0], split.index[:0]
