"""How far a portfolio got with half of its passes, what it costs, and how it is asked for."""

import pytest
import torch

from nfbench.core.draws import Draws
from nfbench.core.errors import UsageError
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import AGES, Recorder, column
from nfbench.core.values import Budget, Split
from nfbench.core.victim import Victim
from nfbench.runner.cost import price
from nfbench.runner.measuring import at_half_budget
from nfbench.runner.options import Options
from nfbench.runner.spec import resolve
from nfbench.testing.fixtures import linear_images, planted_victim
from nfbench_attacks.apgd import APGD
from nfbench_attacks.detector_breaker import DetectorBreaker, _RestingAPGD
from nfbench_attacks.gradient import PGD
from nfbench_attacks.momentum import MomentumDiverse
from nfbench_threats.whitebox import AdaptiveWhitebox, PaperAdaptive, PartialWhitebox


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


def test_no_more_classes_are_paid_for_than_there_are():
    few, many, all_of_them = (DetectorBreaker(budget="thorough").passes_among(k) for k in (3, 10, 100))
    assert DetectorBreaker(budget="thorough").passes_among(1000) == all_of_them > many > few
    told = price(DetectorBreaker(budget="thorough"), planted_victim(), linear_images(16))
    classes = planted_victim().classifier.num_classes
    assert f"most {DetectorBreaker(budget='thorough').passes_among(classes)} passes" in told


@pytest.mark.parametrize("attack", [DetectorBreaker(), MomentumDiverse()])
def test_what_leaves_the_choice_to_the_recorder_is_not_scored_by_what_it_returns(attack):
    assert "returns no best point of its own" in PaperAdaptive().mismatch(attack)
    assert not AdaptiveWhitebox().mismatch(attack)
    assert not PartialWhitebox().mismatch(attack)
    assert not PaperAdaptive().mismatch(PGD())


def test_auto_pgd_within_a_portfolio_leaves_finished_images_alone():
    victim, split = planted_victim(), linear_images(16)
    recorder = Recorder(victim, split.x, split.y, Budget("linf", 0.1))
    objective = OBJECTIVES["cross-entropy"](recorder, split.y, victim.alarm)
    done = torch.arange(16) < 5
    objective.dismiss(done)
    draws = Draws(0, range(16))
    _RestingAPGD(steps=3, starts="image").perturb(objective, split.x, recorder.budget, draws)
    assert not recorder.forward[done].any()
    assert recorder.forward[~done].all()
    APGD(steps=3, starts="image").perturb(objective, split.x, recorder.budget, draws)
    assert recorder.forward.all()


def test_a_ball_as_large_as_the_box_gets_nothing_ready_made():
    victim, split = planted_victim(), linear_images(6)
    for eps, allowed in ((0.9, True), (1.0, False)):
        recorder = Recorder(victim, split.x, split.y, Budget("linf", eps), guides=split)
        objective = OBJECTIVES["margin"](recorder, split.y, victim.alarm)
        DetectorBreaker(budget="standard").perturb(
            objective, split.x, recorder.budget, Draws(0, range(6))
        )
        assert bool({"probes", "fmn-linf"} & set(recorder.stages)) == allowed


def test_the_price_is_told_in_passes_images_and_time():
    told = price(DetectorBreaker(budget="quick"), planted_victim(), linear_images(16))
    assert told.startswith("detector-breaker: at most ")
    assert "for each of 16 images" in told
    assert " ms a pass" in told


def test_the_history_holds_the_best_score_by_eighths_of_an_octave_of_passes():
    victim, split = planted_victim(), linear_images(8)
    recorder = Recorder(victim, split.x, split.y, Budget("linf", 1.0))
    wrong = torch.stack([split.x[(split.y != y).nonzero()[0, 0]] for y in split.y])
    for _ in range(5):
        recorder.query(split.x)
    recorder.query(wrong)  # the sixth pass
    assert recorder.history.shape == (8, AGES)
    sixth = int(column(torch.tensor(6)))
    assert recorder.history[:, :sixth].isinf().all()
    assert torch.equal(recorder.history[:, sixth], recorder.evasion_score)


def test_half_of_the_budget_is_half_of_what_the_longest_took_and_hardly_less():
    passes = torch.arange(1, 3000)
    history = torch.full((len(passes), AGES), torch.inf)
    history[torch.arange(len(passes)), column(passes)] = 0.5
    for most in (15, 16, 64, 1040, 5000):
        counted = at_half_budget(history, torch.tensor([6, most])).isfinite()
        last = int(passes[counted].max())
        assert torch.equal(passes[counted], passes[:last])
        assert last <= most / 2 < 1.1 * last + 1


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
