"""The gradient of every objective against autograd of its formula, written out for one image."""

import pytest
import torch
from objective_bench import ALARM, COUNT, WEIGHT, Case, Distances, Parts, cross_entropy, error

from nfbench.core.defense import Observation
from nfbench.core.losses import Lagrangian
from nfbench.core.objective import KAPPA
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget
from nfbench.core.victim import Victim


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def margin(p: Parts) -> torch.Tensor:
    if not hasattr(p, "suspicion"):
        return p.fooled
    if p.fooled > 0:
        return min(p.fooled, -WEIGHT * p.suspicion)
    return p.fooled - WEIGHT * max(p.suspicion, torch.zeros(()))


def selective(p: Parts) -> torch.Tensor:
    return -p.suspicion if p.fooled > KAPPA else p.fooled


def orthogonal_gradient(p: Parts) -> torch.Tensor:
    f, g = p.grad(p.fooled), -p.grad(p.suspicion)
    step, other = (g, f) if p.fooled > KAPPA else (f, g)
    if abs(float(f @ g)) > 0.9 * float(f.norm() * g.norm()):
        return step
    return step - (step @ other) / (other @ other) * other


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
@pytest.mark.parametrize(
    ("name", "formula", "detector"),
    [
        ("cross-entropy", cross_entropy, False),
        ("cross-entropy", cross_entropy, True),
        ("lagrangian", lambda p: cross_entropy(p) - min(p.penalty), True),
        ("margin", margin, False),
        ("margin", margin, True),
        ("selective", selective, True),
    ],
)
def test_an_objective_has_the_gradient_of_its_formula(name, formula, detector, aimed):
    case = Case(detector=detector)
    wanted = case.reference(lambda p: p.grad(formula(p)), aimed=aimed)
    assert error(case.objective(name, aimed=aimed).gradient(case.x), wanted) <= 1e-6


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_the_orthogonal_gradient_is_the_selective_one_less_its_part_along_the_other(aimed):
    case = Case(detector=True)
    wanted = case.reference(orthogonal_gradient, aimed=aimed)
    assert error(case.objective("orthogonal", aimed=aimed).gradient(case.x), wanted) <= 1e-6


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
@pytest.mark.parametrize("term", ["true", "target", "predicted", "min"])
def test_the_lagrangian_weighs_the_term_it_is_told(term, aimed):
    def formula(p: Parts) -> torch.Tensor:
        classes = {"true": p.y, "target": p.y if p.t is None else p.t, "predicted": int(p.z.argmax())}
        penalty = min(p.penalty) if term == "min" else p.penalty[classes[term]]
        return p.grad(cross_entropy(p) - 0.3 * penalty)

    case = Case(detector=True)
    objective = case.objective("lagrangian", aimed=aimed)
    assert isinstance(objective, Lagrangian)
    found = objective.with_gamma(0.3, term).gradient(case.x)
    assert error(found, case.reference(formula, aimed=aimed)) <= 1e-6


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
@pytest.mark.parametrize("name", ["paper", "released-code"])
def test_the_paper_s_objectives_weigh_what_the_defense_trained_on_of_the_true_class(name, aimed):
    gammas = torch.logspace(-3, 3, COUNT)

    def formula(p: Parts) -> torch.Tensor:
        gamma = gammas[p.row] if name == "paper" else gammas.sum() / COUNT  # of the batch, as released
        return p.grad(cross_entropy(p) - gamma * p.penalty[p.y] ** 3)

    case = Case(detector=True)
    objective = case.objective(name, aimed=aimed)
    assert isinstance(objective, Lagrangian)
    found = objective.with_gamma(gammas).gradient(case.x)
    assert error(found, case.reference(formula, aimed=aimed)) <= 1e-6
    assert [list(objective.variants()), objective.bounds] == [[objective], (1e-3, 1e4)]


@pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])
def test_climbed_by_values_the_paper_s_term_counts_and_the_released_code_s_does_not(aimed):
    case = Case(detector=True)
    classes = case.targets if aimed else case.labels
    logits, term = case.net(case.x), case.detector.observe(case.x).losses
    rivals = logits.scatter(1, classes[:, None], -torch.inf).amax(1)
    fooled = (rivals - logits[range(COUNT), classes]) * (-1 if aimed else 1)
    true_term = term[range(COUNT), case.labels]
    rows, gammas = torch.tensor([5, 0, 41]), torch.linspace(0, 2, COUNT)
    paper, released = (case.objective(n, aimed=aimed) for n in ("paper", "released-code"))
    weighed = paper.with_gamma(gammas)
    assert torch.allclose(weighed.loss(case.x), fooled - gammas * true_term)
    assert torch.allclose(weighed.loss(case.x[rows], rows), (fooled - gammas * true_term)[rows])
    assert torch.allclose(paper.with_gamma(0.5).loss(case.x), fooled - 0.5 * true_term)
    assert torch.allclose(released.with_gamma(gammas).loss(case.x), fooled)


class Cliff(Distances):
    """A score whose slope is no number where the image is darker than grey on the whole."""

    def observe(self, x: torch.Tensor) -> Observation:
        seen = super().observe(x)
        above = x.flatten(1).mean(1) - 0.5
        return Observation(seen.logits, seen.score + torch.where(above > 0, above.sqrt(), 0.0))


@pytest.mark.parametrize("name", ["margin", "selective", "orthogonal", "dual"])
def test_a_slope_that_is_no_number_does_not_stop_images_that_are_still_to_be_misclassified(name):
    case = Case(detector=True)
    cliff = Victim(case.victim.classifier, Cliff(case.victim.classifier), ALARM)
    recorder = Recorder(cliff, case.x, case.labels, Budget("linf", 0.1))
    objective = OBJECTIVES[name](recorder, case.labels, ALARM)
    fooled = objective._class_margin(case.net(case.x), None)
    waiting = (fooled <= 0) & (case.x.flatten(1).mean(1) < 0.5)
    assert int(waiting.sum()) > 5
    found = objective.gradient(case.x)[waiting]
    wanted = case.reference(lambda p: p.grad(p.fooled), aimed=False)[waiting]
    if name == "dual":
        found = found / found.flatten(1).abs().mean(1).view(-1, 1, 1, 1)
        wanted = wanted / wanted.flatten(1).abs().mean(1).view(-1, 1, 1, 1)
    assert error(found, wanted) <= 1e-6


def test_rows_pick_the_labels_targets_and_weights_of_their_images():
    case = Case(detector=True)
    rows = torch.tensor([7, 3, 50])
    for aimed in (False, True):
        for name in OBJECTIVES:
            part, whole = case.objective(name, aimed=aimed), case.objective(name, aimed=aimed)
            if isinstance(part, Lagrangian) and isinstance(whole, Lagrangian):
                gammas = torch.linspace(0, 5, COUNT)
                part, whole = part.with_gamma(gammas, "target"), whole.with_gamma(gammas, "target")
            found, wanted = part.gradient(case.x[rows], rows), whole.gradient(case.x)[rows]
            assert error(found, wanted) <= 1e-12, name


def test_the_random_images_take_every_branch_of_the_formulas():
    case = Case(detector=True)
    for aimed in (False, True):
        objective = case.objective("margin", aimed=aimed)
        seen = objective.query(case.x)
        fooled, suspicion = objective._class_margin(seen.logits, None), objective._suspicion(seen, None)
        for branch in (fooled > 0, suspicion > 0, fooled < -WEIGHT * suspicion):
            assert 5 < int(branch.sum()) < COUNT - 5
        assert bool(((fooled > 0) & (suspicion < 0)).any())
