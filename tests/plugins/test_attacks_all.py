"""What holds for every attack, under both threat models, whatever it climbs."""

import math

import pytest
import torch
from attack_bench import ADAPTIVE, STATIC, digits

from nfbench.core.registry import Registry
from nfbench.core.values import ULP, Budget
from nfbench.runner import attacking
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.measuring import measure
from nfbench_attacks import detector_breaker

BRIEF = {
    "fgsm": {},
    "bim-a": {"steps": 10, "step": 0.03},
    "bim-b": {"steps": 10, "step": 0.03},
    "pgd": {"steps": 8, "restarts": 2},
    "pgd-l2": {"steps": 12},
    "cw": {"binary_search_steps": 3, "steps": 30, "learning_rate": 0.05, "initial_const": 0.5},
    "pgd-l1": {"steps": 8},
    "apgd": {"steps": 8},
    "apgd-l2": {"steps": 8},
    "cw-fp": {"binary_search_steps": 3, "gamma2_steps": 2, "steps": 60, "learning_rate": 0.05},
    "cw-fp-one": {"binary_search_steps": 3, "steps": 60, "learning_rate": 0.05},
    "square": {"queries": 40},
    "square-l2": {"queries": 40},
    "hopskipjump": {"queries": 400, "probes": 20},
    "hopskipjump-linf": {"queries": 400, "probes": 20},
    "random-search": {"points": 300},
    "mi-di-fgsm": {"steps": 6},
    "mi-di-l2": {"steps": 6},
    "detector-breaker": {"budget": "quick"},
    "detector-breaker-l2": {"budget": "quick"},
    "fmn": {"steps": 30},
    "fmn-linf": {"steps": 30},
    "jsma": {},
    "spsa": {"steps": 6, "samples": 16, "learning_rate": 0.05},
}
EPS = {"linf": 0.2, "l2": 1.5, "l1": 5, "l0": 20}
DRAWN = (
    "pgd",
    "pgd-l1",
    "pgd-l2",
    "apgd",
    "apgd-l2",
    "spsa",
    "square",
    "square-l2",
    "hopskipjump",
    "hopskipjump-linf",
    "random-search",
    "mi-di-fgsm",
    "mi-di-l2",
)
"""Attacks that draw random numbers under both threat models; targets are drawn where static."""


@pytest.fixture(autouse=True)
def short_portfolio(monkeypatch):
    """Every stage of the portfolio, a few steps each."""
    plan = detector_breaker._Plan(4, 2, 1, 4, 1, 1, 5, 12)
    monkeypatch.setitem(detector_breaker._PLANS, "quick", plan)


def attack_of(name, **params):
    return Registry.load().find("attack", name).load()(**{**BRIEF[name], **params})


def _cases():
    for name in BRIEF:
        attack = attack_of(name)
        for threat in (STATIC, ADAPTIVE):
            for objective in threat.objectives(attack):
                yield pytest.param(name, threat, objective, id=f"{name}-{threat.name}-{objective}")


CASES = list(_cases())


def attempt_of(name, threat, objective, seed=0, **params):
    attack = attack_of(name, **params)
    eps = math.inf if attack.minimises else EPS[attack.norm]
    return Attempt(attack, threat, objective, Budget(attack.norm, eps), seed)


def crafted(attempt, images=24, size=512):
    b = digits().take(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacking, "MAX_IMAGES", size)
        return b, craft(attempt, b.victim, b.split, guides=b.split).vectors


def test_every_bundled_attack_is_here():
    assert sorted(BRIEF) == sorted(Registry.load().names("attack"))


@pytest.mark.parametrize(("name", "threat", "objective"), CASES)
def test_alone_an_image_becomes_what_it_becomes_in_company(name, threat, objective):
    attempt = attempt_of(name, threat, objective)
    _, together = crafted(attempt)
    for size in (1, 7):
        _, apart = crafted(attempt, size=size)
        assert apart.keys() == together.keys()
        for key, values in together.items():
            assert torch.equal(values, apart[key]), (key, size)


@pytest.mark.parametrize(("name", "threat", "objective"), CASES)
def test_images_stay_in_the_ball_and_the_box_and_the_input_as_it_was(name, threat, objective):
    attempt = attempt_of(name, threat, objective)
    before = digits().take(60).split.x.clone()
    b, found = crafted(attempt, images=60)
    assert torch.equal(b.split.x, before)
    images, budget = found["images"], attempt.budget
    assert images.dtype == torch.float32
    assert budget.contains(b.split.x, images).all()
    assert images.min() >= 0
    assert images.max() <= 1
    delta = (images.double() - b.split.x.double()).flatten(1)
    slack = {"linf": ULP, "l2": ULP * math.sqrt(64), "l1": ULP * 64, "l0": 0}[budget.norm]
    sizes = {"linf": delta.abs().amax(1), "l2": delta.norm(dim=1), "l1": delta.abs().sum(1)}
    size = (sizes | {"l0": (delta != 0).sum(1)})[budget.norm]
    assert size.max() <= budget.eps + slack
    assert (size > 0).float().mean() > (0 if name.startswith("cw-fp") else 0.5)  # a random class is far


@pytest.mark.parametrize(("name", "threat", "objective"), CASES)
def test_the_seed_alone_decides_the_bytes(name, threat, objective):
    _, one = crafted(attempt_of(name, threat, objective))
    torch.manual_seed(99)
    _, again = crafted(attempt_of(name, threat, objective))
    _, other = crafted(attempt_of(name, threat, objective, seed=1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    random = name in DRAWN or (name in ("cw", "jsma") and threat is STATIC)
    changed = (one["images"] != other["images"]).flatten(1).any(1).float().mean()
    if name.startswith("cw-fp") and threat is STATIC:
        return  # most random classes are too far for so few steps
    if name.startswith(("detector-breaker", "hopskipjump")) and threat is ADAPTIVE:
        return  # what finds the best point may have drawn no number
    assert changed > 0.5 if random else changed == 0


@pytest.mark.parametrize(
    ("name", "threat", "objective"), [case for case in CASES if case.values[1] is ADAPTIVE]
)
def test_an_adaptive_attack_is_judged_by_its_best_recorded_point(name, threat, objective):
    b = digits().take(24)
    attempt = attempt_of(name, threat, objective)
    attacked = b.attack(attempt.attack, attempt.budget, threat, objective)
    _, found = crafted(attempt)
    low = attacked.recorder.evasion_score
    caught = low.isfinite()
    assert caught.float().mean() > 0.2
    assert torch.equal(found["images"][caught], attacked.recorder.best[caught])
    assert torch.equal(found["images"][~caught], attacked.images[~caught])
    rescored = measure(b.victim.detector, b.split, [found["images"]])[0]["evasion_score"]
    assert torch.equal(rescored, low)
    assert torch.equal(found["prediction"] != b.split.y, caught)


LONGER = [
    ("bim-b", {"steps": 5, "step": 0.03}, {"steps": 12}),
    ("bim-a", {"steps": 5, "step": 0.03}, {"steps": 12}),
    ("pgd", {"steps": 5, "schedule": "constant", "step": 0.2, "restarts": 1}, {"steps": 12}),
    ("pgd", {"steps": 6, "restarts": 1}, {"restarts": 3}),
    ("cw", {"binary_search_steps": 2}, {"binary_search_steps": 4}),
    ("spsa", {"steps": 4}, {"steps": 8}),
]


@pytest.mark.parametrize(
    ("name", "params", "more"), LONGER, ids=[f"{n}-{next(iter(m))}" for n, _, m in LONGER]
)
def test_going_further_along_the_same_path_never_raises_the_best_score(name, params, more):
    b = digits()
    brief, longer = (attempt_of(name, ADAPTIVE, "margin", **p) for p in (params, {**params, **more}))
    scores = [
        b.attack(a.attack, a.budget, ADAPTIVE, "margin").recorder.evasion_score for a in (brief, longer)
    ]
    assert (scores[1] <= scores[0]).all()
    assert (scores[1] < scores[0]).any()


def test_a_point_outside_the_ball_gains_nothing():
    b, budget = digits(), Budget("linf", 0.05)
    honest = attempt_of("bim-b", ADAPTIVE, "margin").attack
    objective, recorder = b.objective(budget, ADAPTIVE, "margin")
    plain = b.attack(honest, budget, ADAPTIVE, "margin").recorder
    honest.perturb(objective, b.split.x, budget, None)
    for eps in (0.1, 0.3, 1.0):
        far = b.attack(honest.model_copy(update={"step": eps}), Budget("linf", eps), ADAPTIVE, "margin")
        lower = far.recorder.evasion_score < plain.evasion_score
        assert lower.float().mean() > 0.2  # it would be worth it
        objective.query(far.recorder.best)
        objective.query(far.images + 1)
    assert torch.equal(recorder.evasion_score, plain.evasion_score)
    assert torch.equal(recorder.best, plain.best)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "threat", "objective"), CASES)
def test_on_a_gpu_success_is_the_same_alone_and_the_best_score_nearly(name, threat, objective):
    b = digits().take(24)
    attempt = attempt_of(name, threat, objective)
    victim, split = b.victim.to("cuda"), b.split.to("cuda")
    scored = []
    try:
        for size in (512, 1, 7):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(attacking, "MAX_IMAGES", size)
                images = craft(attempt, victim, split, guides=split).vectors["images"]
            scored.append(measure(victim.detector, split, [images])[0]["evasion_score"].cpu())
    finally:
        b.victim.to("cpu")
    for apart in scored[1:]:
        assert torch.equal(apart.isfinite(), scored[0].isfinite())
        caught = apart.isfinite()
        assert torch.allclose(apart[caught], scored[0][caught], atol=1e-4, rtol=0)
