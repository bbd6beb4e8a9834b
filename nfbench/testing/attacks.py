"""The contract of an attack."""

from __future__ import annotations

import torch

from nfbench.core.attack import Attack
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.values import Access, Budget
from nfbench.core.victim import Victim
from nfbench.testing.attempts import EPS, IMAGES, TIGHT, AttackTrial, require_inside
from nfbench.testing.checks import Check, clauses, expect, is_a, run_all, same
from nfbench.testing.fixtures import (
    linear_classifier,
    linear_images,
    misclassified,
    optimum,
    planted_victim,
)


def check_attack(attack: Attack) -> None:
    """Run `attack` on a linear classifier whose optimum is known; the first broken clause raises.

    Raises:
        AssertionError: naming the cause and what to do.
    """
    run_all(attack_checks(attack))


def attack_checks(attack: Attack) -> list[Check]:
    """The contract of an attack, clause by clause."""
    tests = [
        _declares_itself,
        _stays_within,
        _leaves_images_alone,
        _draws_from_draws,
        _repeats_itself,
        _ignores_the_batch,
        _works,
        _is_near_the_optimum,
        _stays_within_where_it_fails,
        _returns_no_placeholder,
        _needs_the_access_it_claims,
        _serves_adaptive_threat_models,
    ]
    return clauses(attack, AttackTrial(attack), tests, vital=[_declares_itself, _stays_within])


def _declares_itself(trial: AttackTrial) -> None:
    """It declares norm, access and objectives"""
    attack = trial.attack
    expect(isinstance(attack.needs, Access), f"needs = {attack.needs!r}: use a member of Access")
    expect(is_a(attack.passes, int) and attack.passes >= 1, f"passes = {attack.passes!r}: a count")
    expect(
        attack.adaptive_objectives, "adaptive_objectives is empty: name at least one, such as 'margin'"
    )
    for name in (attack.static_objective, *attack.adaptive_objectives):
        expect(
            name in OBJECTIVES, f"no objective is called {name!r}; there are: {', '.join(OBJECTIVES)}"
        )


def _stays_within(trial: AttackTrial) -> None:
    """It returns images within ball and box"""
    require_inside(trial.outcome.images, trial.split, trial.budget)
    if trial.attack.minimises:
        bounded = Budget(trial.attack.norm, EPS[trial.attack.norm])
        require_inside(trial.run(budget=bounded).images, trial.split, bounded)


def _leaves_images_alone(trial: AttackTrial) -> None:
    """It leaves the images and labels it is given alone"""
    _ = trial.outcome
    fresh = linear_images(IMAGES)
    expect(
        torch.equal(fresh.x, trial.split.x),
        "perturb wrote into the images it was given: clone them first",
    )
    expect(torch.equal(fresh.y, trial.split.y), "perturb wrote into the labels: clone them first")


def _draws_from_draws(trial: AttackTrial) -> None:
    """It draws from `draws`, not from torch's global generator"""
    expect(
        not trial.outcome.drew_globally,
        "perturb draws from torch's global generator: use draws.uniform, draws.normal or draws.signs, "
        "or fork the generator around a library that can't",
    )


def _repeats_itself(trial: AttackTrial) -> None:
    """The same draws give the same images"""
    again = trial.run(global_seed=2).images
    differ = int((trial.outcome.images != again).flatten(1).any(1).sum())
    expect(
        not differ,
        f"{differ} of {IMAGES} images differ in a second run with the same draws: take all randomness "
        "from `draws`, and keep nothing between calls",
    )


def _ignores_the_batch(trial: AttackTrial) -> None:
    """An image's result does not depend on its neighbours"""
    rows = torch.tensor([0, IMAGES // 2])
    alone = torch.cat([trial.run(trial.split.take(row[None])).images for row in rows])
    together = trial.outcome.images[rows]
    differ = int((~same(together, alone)).sum())
    expect(
        not differ,
        f"{differ} of {len(rows)} images come out otherwise when attacked alone: look for losses, "
        "norms or "
        "stopping rules over the whole batch; draw per image from `draws`",
    )


def _works(trial: AttackTrial) -> None:
    """It fools a linear classifier"""
    fooled = misclassified(trial.victim.classifier, trial.outcome.images, trial.split.y)
    size = "without a bound" if trial.attack.minimises else "within twice the distance it takes"
    expect(
        fooled >= 0.9,
        f"it fools a linear classifier on {fooled:.0%} of the images {size}: look at the sign of the "
        "step, "
        "and whether the objective is climbed",
    )


def _is_near_the_optimum(trial: AttackTrial) -> None:
    """A minimising attack comes near the optimum"""
    if not trial.attack.minimises:
        return
    size = trial.budget.size(trial.split.x, trial.outcome.images)
    ratio = float((size / optimum(trial.split.x, trial.split.y, trial.attack.norm)).median())
    expect(
        ratio <= 2,
        f"its perturbations of a linear classifier are {ratio:.1f} times the smallest ones (median); "
        "an attack that minimises should come within a factor of 2",
    )


def _stays_within_where_it_fails(trial: AttackTrial) -> None:
    """It stays within a ball in which it can't succeed"""
    tight = Budget(trial.attack.norm, TIGHT[trial.attack.norm])
    require_inside(trial.run(budget=tight).images, trial.split, tight)


def _returns_no_placeholder(trial: AttackTrial) -> None:
    """Where it fails it returns the image or an attempt"""
    stubborn = linear_classifier()
    head = dict(stubborn.network.named_children())["head"]
    head.bias.copy_(torch.tensor([100.0, 0.0]))  # type: ignore[operator]  # a Linear
    zeros = trial.split.take(trial.split.y == 0)
    images = trial.run(zeros, victim=Victim(stubborn)).images
    require_inside(images, zeros, trial.budget)
    flat = images.flatten(1)
    blank = int((flat == flat[:, :1]).all(1).sum())
    expect(
        not blank,
        f"{blank} of {len(zeros)} images that can't be made to fail come back in a single colour: "
        "return the "
        "best attempt or the image itself, never a placeholder",
    )


def _needs_the_access_it_claims(trial: AttackTrial) -> None:
    """It can't do without the access it claims to need"""
    if trial.attack.needs is not Access.GRADIENT:
        return
    try:
        trial.run(access=Access.SCORES)
    except UnknownToAttacker:
        return
    raise AssertionError(
        "it declares needs = Access.GRADIENT and ran to the end without gradients: declare "
        "needs = Access.SCORES, or do not swallow UnknownToAttacker"
    )


def _serves_adaptive_threat_models(trial: AttackTrial) -> None:
    """Where the detector is known, it queries what it finds"""
    victim = planted_victim()
    bounded = Budget(trial.attack.norm, EPS[trial.attack.norm])
    found = torch.zeros(IMAGES, dtype=torch.bool)
    for name in trial.attack.adaptive_objectives:
        images, recorder, _ = trial.run(budget=bounded, victim=victim, objective=name)
        require_inside(images, trial.split, bounded)
        found |= recorder.evasion_score.isfinite()
    share = float(found.double().mean())
    expect(
        share >= 0.5,
        "under an adaptive threat model it left a misclassified point with the recorder for "
        f"{share:.0%} of "
        "the images: only points that went through objective.query, loss, margin or gradient count, so "
        "query "
        "the last one too where objective.knows_detector",
    )
