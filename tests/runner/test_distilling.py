"""Surrogates in a run and in `evaluate`: who needs one, that it is made once, and what is said of it."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import nfbench
from nfbench import Detector, UsageError
from nfbench.core.registry import Registry
from nfbench.session import plan_of
from nfbench_datasets.digits import Digits
from nfbench_defenses.trivial import MaxSoftmax
from nfbench_models.nets import DigitsMLP

ADAPTIVE = ("adaptive-whitebox",)
SMALL = {"training": {"epochs": 10}, "pgd": {"steps": 30}}


class Blunt(Detector):
    """Unconfident predictions are suspicious, in steps of a half."""

    differentiable = False

    def smooth(self, x):
        logits = self.classifier(x)
        top, winner = logits.max(1)
        others = logits.scatter(1, winner[:, None], -torch.inf).logsumexp(1)
        return others - torch.logaddexp(top, others)

    def score(self, x):
        return (self.smooth(x).detach() * 2).round() / 2


class Honest(Blunt):
    def surrogate(self, x):
        return self.smooth(x)


class BluntDefense(MaxSoftmax):
    """Declares none."""

    name = "blunt"
    gradient: ClassVar[str] = "none"

    def detector(self, classifier, state):
        return Blunt(classifier)


class HonestDefense(BluntDefense):
    """Declares one."""

    name = "honest"
    gradient: ClassVar[str] = "surrogate"

    def detector(self, classifier, state):
        return Honest(classifier)


@pytest.fixture(scope="module")
def known():
    return Registry.load(SimpleNamespace(nfbench_defenses=lambda: [BluntDefense, HonestDefense]))


def kinds(plan, *, of=None):
    jobs = plan.jobs.values() if of is None else [plan.jobs[key] for key in of]
    return [job.kind for job in jobs]


def test_one_surrogate_serves_every_attack_and_radius_of_a_detector(tiny, known):
    attacks, eps = ("fgsm", "pgd"), ("0.1", "0.2")
    plan = plan_of(tiny(defense=("blunt",), attacks=attacks, threat_model=ADAPTIVE, eps=eps), known)
    assert kinds(plan).count("distil") == 1
    for job in plan.jobs.values():
        if job.kind == "craft" and job.recipe["defense"] is not None:
            assert kinds(plan, of=job.needs) == ["train", "fit", "clean", "distil"]
            assert job.recipe["surrogate"] == "distilled"


def test_a_surrogate_does_not_depend_on_the_images_attacked(tiny, known):
    def keys(limit):
        plan = plan_of(tiny(defense=("blunt",), threat_model=ADAPTIVE, limit=limit), known)
        return [key for key, job in plan.jobs.items() if job.kind == "distil"]

    assert keys(20) == keys(21)


@pytest.mark.parametrize(
    ("defense", "attack", "threat"),
    [
        ("honest", "pgd", "adaptive-whitebox"),
        ("max-softmax", "pgd", "adaptive-whitebox"),
        ("blunt", "spsa", "adaptive-whitebox"),
        ("blunt", "spsa", "score-queries"),
        ("blunt", "pgd", "partial-whitebox"),
    ],
)
def test_none_is_distilled_where_none_is_needed(tiny, known, defense, attack, threat):
    plan = plan_of(tiny(defense=(defense,), attacks=(attack,), threat_model=(threat,)), known)
    assert not plan.cells[0].reason
    assert "distil" not in kinds(plan)
    told = [job.recipe.get("surrogate") for job in plan.jobs.values() if job.kind == "craft"]
    assert ("declared" in told) == (defense == "honest")


def test_replicas_are_distilled_each_by_itself(tiny, known):
    plan = plan_of(tiny(defense=("blunt",), threat_model=("limited-knowledge",)), known)
    (craft,) = plan.cells[0].crafts
    needs = kinds(plan, of=plan.jobs[craft].needs)
    assert needs == ["train", *["train", "fit", "clean", "distil"] * 3]
    fits = {plan.jobs[n].needs[1] for n in plan.jobs[craft].needs if plan.jobs[n].kind == "distil"}
    assert len(fits) == 3


@pytest.mark.parametrize(
    ("defense", "follow", "reason"),
    [
        ("blunt", "none", "blunt has no gradient, and adaptive-whitebox follows no surrogate: "),
        ("honest", "none", "honest has no gradient, and adaptive-whitebox follows no surrogate: "),
        ("blunt", "declared", "blunt has no gradient and declares no surrogate: "),
        ("blunt", "distilled", ""),
        ("honest", "distilled", ""),
        ("honest", "declared", ""),
        ("max-softmax", "none", ""),
    ],
)
def test_what_cannot_be_followed_is_skipped_in_one_line(tiny, known, defense, follow, reason):
    settings = {"adaptive-whitebox": {"surrogate": follow}}
    options = tiny(settings, defense=(defense,), attacks=("pgd", "spsa"), threat_model=ADAPTIVE)
    by_gradient, by_queries = plan_of(options, known).cells
    advice = "take a query attack, or set adaptive-whitebox.surrogate to distilled"
    assert by_gradient.reason == (reason + advice if reason else "")
    assert not by_queries.reason


@pytest.fixture(scope="module")
def followed(tmp_path_factory, tiny, known):
    """Runs of PGD on a score of steps that follow what stands in for it, by what that is."""
    from nfbench.cli.console import plain_console
    from nfbench.cli.progress import Display
    from nfbench.session import Place, execute

    where, found = tmp_path_factory.mktemp("followed"), {}
    threats = ("adaptive-whitebox", "limited-knowledge")
    for defense in ("blunt", "honest"):
        options = tiny(SMALL, defense=(defense,), attacks=("pgd",), threat_model=threats, eps=("0.15",))
        place = Place(where / defense, where / "cache", "cpu")
        found[defense] = execute(options, place, known, Display(plain_console(stderr=True), quiet=True))
    return found


def test_the_record_says_whose_gradients_were_followed(followed):
    for cell in followed["honest"].run.cells:
        assert cell.notes == ["gradients are those of a declared surrogate"]
    for cell in followed["blunt"].run.cells:
        (note,) = cell.notes
        assert note.startswith("gradients are those of a surrogate distilled from its scores (rank corr")
        assert 0.8 < float(note[-5:-1]) <= 1


def test_a_surrogate_is_not_held_to_finite_differences(followed):
    for finished in followed.values():
        cell = next(c for c in finished.run.cells if c.threat_model.name == ADAPTIVE[0])
        assert cell.health["zero_gradient"] == 0
        assert "finite_difference_off" not in cell.health
        assert cell.health["margin_finite_difference_off"] == 0
        assert not any("finite differences" in flag for flag in cell.flags)
    lack = followed["blunt"].run.cells[0].health["surrogate_misled"]
    assert lack == pytest.approx(1 - float(followed["blunt"].run.cells[0].notes[0][-5:-1]), abs=0.006)


def test_scores_in_the_files_are_the_detectors_own(followed):
    for finished in followed.values():
        for vectors in finished.run.samples.values():
            score = vectors["adversarial_score"]
            assert np.array_equal(2 * score, np.round(2 * score))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = DigitsMLP().build((1, 8, 8), 10)
    data = Digits().splits(None).train
    adam = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        adam.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        adam.step()
    return net


def smooth(network):
    """How far an image is from grey, less than which no clean image is."""
    return lambda x: (x - 0.5).abs().flatten(1).mean(1) * -100


def evaluated(network, score_fn, *, count=200, threat="adaptive-whitebox", **given):
    data, attack = Digits().splits(None), {"name": "pgd", "steps": 40}
    held, test = data.calibration, data.test
    return nfbench.evaluate(
        network,
        score_fn,
        test.x[:40],
        test.y[:40],
        eps=0.15,
        attacks=[attack],
        threat_models=[threat],
        calibration=(held.x[:count], held.y[:count]),
        **given,
    )


PAIR = ("pgd", "adaptive-whitebox")


def test_evaluate_follows_a_given_surrogate_and_takes_values_from_the_score(network):
    exact = evaluated(network, smooth(network)).metrics[PAIR]["auroc_worst"].value
    detached = lambda x: torch.from_numpy(smooth(network)(x).numpy())  # noqa: E731  # refuses a gradient
    given = evaluated(network, detached, surrogate=smooth(network))
    assert given.notes == {PAIR: ["gradients are those of a declared surrogate"]}
    assert given.metrics[PAIR]["auroc_worst"].value == pytest.approx(exact, abs=1e-6)


def test_evaluate_distils_one_where_there_is_none(network):
    detached = lambda x: smooth(network)(x).detach()  # noqa: E731
    found, exact = evaluated(network, detached), evaluated(network, smooth(network))
    assert not exact.notes
    assert "distilled from its scores" in found.notes[PAIR][0]
    lost = found.metrics[PAIR]["auroc_worst"].value - exact.metrics[PAIR]["auroc_worst"].value
    assert abs(lost) < 0.1


def test_evaluate_refuses_what_it_cannot_distil_or_must_not_follow(network):
    detached = lambda x: smooth(network)(x).detach()  # noqa: E731
    with pytest.raises(UsageError, match="distilling one needs 64 images, got 40"):
        evaluated(network, detached, count=40)
    with pytest.raises(UsageError, match="score_fn has no gradient and declares no surrogate"):
        evaluated(network, detached, threat={"name": "adaptive-whitebox", "surrogate": "declared"})
    assert not evaluated(network, detached, count=40, threat="partial-whitebox").notes
