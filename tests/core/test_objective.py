"""What objectives promise an attack: when it has won, what it may see, and that images don't mix."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.errors import UnknownToAttacker
from nfbench.core.gradients import orthogonal_step
from nfbench.core.matching import Matching
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Budget, Split
from nfbench.core.victim import Alarm, Victim

CLASSES = 4
ALARM = Alarm(threshold=0.6, median=0.4, unit=0.25)
THRESHOLD = float(torch.tensor(ALARM.threshold))  # as it is compared with
NUMBERS = st.floats(-50, 50, width=32)


class Distances(Detector):
    """Penalties are distances of the logits to fixed points."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.centres = nn.Buffer(torch.randn(CLASSES, CLASSES))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.observe(x).score

    def observe(self, x: torch.Tensor) -> Observation:
        logits = self.classifier(x)
        penalties = torch.cdist(logits.tanh(), self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        return Observation(logits, penalties.amin(1), penalties)


def scene(name: str, *, detector: bool = True, count: int = 12, access: Access = Access.GRADIENT):
    """An objective and the images it is about."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, CLASSES))
    classifier = Classifier(network, CLASSES).eval()
    alarm = ALARM if detector else None
    victim = Victim(classifier, Distances(classifier) if detector else None, alarm)
    x, labels = torch.rand(count, 1, 4, 4), torch.randint(CLASSES, (count,))
    guides = Split(torch.rand(20, 1, 4, 4), torch.arange(20) % CLASSES, torch.arange(20))
    recorder = Recorder(victim, x, labels, Budget("linf", 0.5), access, guides=guides)
    return OBJECTIVES[name](recorder, labels, alarm), x


def told(label: int, target: int | None = None, weight: float = 1.0, *, detector: bool = True):
    """An objective for one image, to be shown observations by hand."""
    objective, _ = scene("margin", detector=detector, count=1)
    aimed = type(objective)(
        objective._recorder, torch.tensor([label]), ALARM if detector else None, weight=weight
    )
    return aimed if target is None else aimed.towards(torch.tensor([target]))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    logits=st.lists(NUMBERS, min_size=CLASSES, max_size=CLASSES),
    score=st.floats(-3, 3, width=32),
    label=st.integers(0, CLASSES - 1),
    weight=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_the_margin_is_positive_exactly_where_the_image_is_misclassified_and_accepted(
    logits, score, label, weight
):
    seen = Observation(torch.tensor([logits]), torch.tensor([score]))
    wrong = max(z for k, z in enumerate(logits) if k != label) > logits[label]
    assert (told(label, weight=weight).evasion(seen).item() > 0) == (wrong and score <= THRESHOLD)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    logits=st.lists(NUMBERS, min_size=CLASSES, max_size=CLASSES),
    penalties=st.lists(st.floats(0, 2, width=32), min_size=CLASSES, max_size=CLASSES),
    target=st.integers(1, CLASSES - 1),
)
def test_aiming_at_a_class_the_margin_asks_for_that_class_and_its_penalty(logits, penalties, target):
    seen = Observation(torch.tensor([logits]), torch.tensor([min(penalties)]), torch.tensor([penalties]))
    others = max(z for k, z in enumerate(logits) if k != target)
    hit = logits[target] > others and penalties[target] <= THRESHOLD
    assert (told(0, target=target).evasion(seen).item() > 0) == hit


@pytest.mark.parametrize("weight", [1e-30, 1.0])
def test_a_score_at_the_threshold_is_accepted_and_the_next_one_is_not(weight):
    at = torch.tensor(ALARM.threshold)
    logits = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    for score, accepted in ((at, True), (at.nextafter(torch.tensor(9.0)), False)):
        seen = Observation(logits, score[None])
        assert (told(0, weight=weight).evasion(seen).item() > 0) == accepted
        assert told(1, weight=weight).evasion(seen).item() < 0  # not misclassified


@settings(derandomize=True, deadline=None)
@given(logits=st.lists(NUMBERS, min_size=CLASSES, max_size=CLASSES), label=st.integers(0, CLASSES - 1))
def test_without_a_detector_the_margin_is_the_class_margin(logits, label):
    seen = Observation(torch.tensor([logits]))
    wanted = max(z for k, z in enumerate(logits) if k != label) - logits[label]
    found = told(label, detector=False).evasion(seen).item()
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-4)
    assert (found > 0) == (wanted > 0)


@pytest.mark.parametrize(("lead", "wanted"), [(-0.5, -0.5), (0.005, 0.005), (0.02, 0.8), (3.0, 0.8)])
def test_selective_turns_to_the_detector_once_the_class_margin_exceeds_a_hundredth(lead, wanted):
    objective, _ = scene("selective", count=1)
    logits = torch.zeros(1, CLASSES)
    logits[0, (objective.labels + 1) % CLASSES] = lead
    logits[0, (objective.labels + 2) % CLASSES] = logits[0, (objective.labels + 3) % CLASSES] = -9.0
    seen = Observation(logits, torch.tensor([0.4]))  # .2 below the threshold, in units of .25
    assert objective.value(seen).item() == pytest.approx(wanted)


def test_the_orthogonal_step_has_its_known_values():
    f, g = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    not_yet, done = torch.tensor([False]), torch.tensor([True])
    assert torch.allclose(orthogonal_step(f, g, not_yet), torch.tensor([[0.5, 2.0, -0.5]]))
    assert torch.allclose(orthogonal_step(f, g, done), torch.tensor([[0.8, -0.4, 1.0]]))


@settings(derandomize=True, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-5, 1.0, 1e5]))
def test_an_orthogonal_step_is_orthogonal_to_the_other_goal_and_still_a_step(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    f, g = (torch.randn(6, 1, 3, 3, generator=generator).double() for _ in range(2))
    g *= scale
    done = torch.tensor([True, False] * 3)
    step = orthogonal_step(f, g, done)
    for s, one, other, is_done in zip(step, f, g, done, strict=True):
        own, kept = (other, one) if is_done else (one, other)
        if abs(float((one * other).sum() / (one.norm() * other.norm()))) <= 0.9:
            assert abs(float((s * kept).sum() / (s.norm() * kept.norm()))) < 1e-9
            assert float((s * own).sum()) > 0
        else:
            assert torch.equal(s, own)


@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_parallel_goals_leave_the_gradient_whole(sign):
    f = torch.tensor([[1.0, 0.0]] * 2)
    below, above = math.acos(0.899), math.acos(0.901)
    g = sign * torch.tensor([[math.cos(a), math.sin(a)] for a in (below, above)])
    step = orthogonal_step(f, g, torch.zeros(2, dtype=torch.bool))
    assert abs(float(step[0] @ g[0])) < 1e-6
    assert torch.equal(step[1], f[1])


def test_a_goal_without_a_gradient_constrains_nothing():
    f, nothing = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
    assert torch.equal(orthogonal_step(f, nothing, torch.tensor([False])), f)
    assert torch.equal(orthogonal_step(nothing, f, torch.tensor([True])), f)
    assert torch.equal(orthogonal_step(f, nothing, torch.tensor([True])), nothing)


@settings(max_examples=50, deadline=None)
@given(logits=st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_cross_entropy_is_minus_the_log_of_the_probability(logits):
    objective, _ = scene("cross-entropy", detector=False, count=len(logits))
    found = objective.value(Observation(torch.tensor(logits)))
    apart = torch.tensor(logits).double() - torch.tensor(logits).double().gather(
        1, objective.labels[:, None]
    )
    wanted = apart.scatter(1, objective.labels[:, None], -torch.inf).exp().sum(1).log1p()
    assert torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-30)


def test_a_very_sure_classifier_still_shows_where_to_go():
    objective, _ = scene("cross-entropy", detector=False, count=1)
    logits = torch.zeros(1, CLASSES)
    logits[0, objective.labels] = 60.0  # 1 - p is below the spacing of float32 at 1
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(objective.value(Observation(logits)).sum(), logits)
    assert float(gradient[0, objective.labels]) < 0
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-32)


@pytest.mark.parametrize("gamma", [0, 0.0, torch.zeros(12)], ids=["int", "float", "tensor"])
def test_a_lagrangian_of_weight_zero_is_cross_entropy_bit_for_bit(gamma):
    lagrangian, x = scene("lagrangian")
    plain, _ = scene("cross-entropy")
    weightless = lagrangian.with_gamma(gamma)
    assert torch.equal(weightless.loss(x), plain.loss(x))
    assert torch.equal(weightless.gradient(x), plain.gradient(x))
    assert not torch.equal(lagrangian.with_gamma(0.1).gradient(x), plain.gradient(x))


def test_each_image_has_its_own_gamma():
    lagrangian, x = scene("lagrangian")
    gammas = torch.logspace(-3, 3, len(x))
    together = lagrangian.with_gamma(gammas).gradient(x)
    for i, gamma in enumerate(gammas):
        assert torch.allclose(together[i], lagrangian.with_gamma(float(gamma)).gradient(x)[i], rtol=1e-5)


def test_a_lagrangian_tries_gamma_zero_and_powers_of_ten_up_to_ten_thousand():
    lagrangian, _ = scene("lagrangian")
    gammas = [variant.gamma for variant in lagrangian.variants()]
    assert gammas[0] == 0
    assert gammas[1:] == pytest.approx([1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4])
    alone, _ = scene("margin")
    assert list(alone.variants()) == [alone]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_changing_one_image_leaves_the_gradients_of_the_others_bit_for_bit(name, aimed):
    objective, x = scene(name)
    if aimed:
        objective = objective.towards((objective.labels + 1) % CLASSES)
    before = objective.begin().gradient(x)
    changed = x.clone()
    changed[4] = 1 - changed[4]
    after = objective.begin().gradient(changed)
    others = torch.arange(len(x)) != 4
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[4], after[4])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_gives_gradient_and_margin_from_one_pass(name):
    objective, x = scene(name)
    if isinstance(objective, Matching):
        objective.aim()  # looks at the guides, once a run
    passes = objective._recorder.forward.clone()
    step = objective.step(x)
    assert (objective._recorder.forward - passes).tolist() == [1] * len(x)
    assert torch.equal(step.margin, objective.margin(x))
    assert torch.equal(step.gradient, objective.begin().gradient(x))


def test_an_attack_may_stop_at_success_unless_the_detector_is_known():
    static, x = scene("cross-entropy", detector=False)
    step = static.step(x)
    assert torch.equal(static.settled(step), step.margin > 0)
    adaptive, _ = scene("margin")
    rows = torch.tensor([3, 0])
    adaptive._recorder.finished[3] = True
    assert adaptive.settled(adaptive.step(x[rows], rows), rows).tolist() == [True, False]


@pytest.mark.parametrize("name", ["selective", "orthogonal", "lagrangian"])
def test_an_objective_that_needs_the_detector_says_so_where_it_is_not_revealed(name):
    objective, x = scene(name, detector=False)
    assert not objective.knows_detector
    with pytest.raises(UnknownToAttacker, match=f"{name} needs the detector"):
        objective.gradient(x)


def test_a_gradient_is_refused_where_only_queries_are_granted():
    objective, x = scene("margin", access=Access.SCORES)
    assert objective.access is Access.SCORES
    assert objective.loss(x).shape == (len(x),)
    with pytest.raises(UnknownToAttacker):
        objective.gradient(x)


def test_aiming_makes_a_new_objective_that_shares_the_recorder():
    objective, x = scene("margin")
    aimed = objective.towards((objective.labels + 1) % CLASSES)
    aimed.query(x)
    assert objective.targets is None
    assert objective._recorder.forward.tolist() == [1] * len(x)


def test_the_runner_up_is_the_likeliest_wrong_class_and_is_not_recorded():
    objective, x = scene("margin")
    logits = objective.query(x, record=False).logits.tolist()
    wanted = [
        max((k for k in range(CLASSES) if k != y), key=row.__getitem__)
        for row, y in zip(logits, objective.labels.tolist(), strict=True)
    ]
    assert objective.runner_up(x).tolist() == wanted
    assert not objective.finished.any()
    assert not objective._recorder.evasion_score.isfinite().any()
