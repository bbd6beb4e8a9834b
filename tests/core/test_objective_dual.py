"""The dual objective: its multiplier by hand, its direction by formula, what it does not depend on."""

import pytest
import torch
from objective_bench import ALARM, COUNT, Case, Parts, error

from nfbench.core.defense import Observation
from nfbench.core.gradients import Dual
from nfbench.core.losses import Margin
from nfbench.core.objective import Objective
from nfbench.core.recorder import Recorder
from nfbench.core.values import Budget, Norm
from nfbench.core.victim import Alarm, Victim

AIMED = pytest.mark.parametrize("aimed", [False, True], ids=["untargeted", "towards"])


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def unit(gradient: torch.Tensor, norm: Norm) -> torch.Tensor:
    return gradient / (gradient.abs().mean() if norm == "linf" else gradient.norm())


def walk(objective: Objective, x: torch.Tensor, steps: int = 8) -> list[torch.Tensor]:
    """The gradients of a few signed steps, long enough to cross the border of the class and return."""
    found = []
    for _ in range(steps):
        found.append(objective.gradient(x))
        x = (x + 0.1 * found[-1].sign()).clamp(0, 1)
    return found


class Told(Dual):
    """Combines gradients that it is told, for images whose multiplier can be read off the result."""

    def __init__(self, count: int) -> None:
        case = Case(detector=True)
        recorder = Recorder(case.victim, case.x[:count], case.labels[:count], Budget("l2", 0.1))
        super().__init__(recorder, case.labels[:count], ALARM)

    def multipliers(self, *margins: float, rows: list[int] | None = None) -> list[float]:
        fool, hide = (torch.eye(2)[k].expand(len(margins), 2) for k in (0, 1))
        where = None if rows is None else torch.tensor(rows)
        step = self.combine(5 * fool, 0.1 * hide, torch.tensor(margins), where)
        assert torch.allclose(step.sum(1), torch.ones(len(margins)))
        return step[:, 0].tolist()


def test_the_multiplier_starts_at_one_falls_by_a_fifth_where_fooled_and_rises_where_not():
    dual = Told(1)
    margins = [-1.0, 2.0, 0.1, 3.0, -0.5, -0.5, 0.0, -9.0, 1.0]
    wanted = [1, 0.8, 0.64, 0.512, 0.6244, 0.75928, 0.921136, 1, 0.8]  # x .8, or x 1.2 + .01, at most 1
    assert [dual.multipliers(m)[0] for m in margins] == pytest.approx(wanted)


def test_a_multiplier_that_has_all_but_vanished_rises_again():
    dual = Told(1)
    for _ in range(200):
        (low,) = dual.multipliers(1.0)
    assert low < 1e-15
    risen = [dual.multipliers(-1.0)[0] for _ in range(18)]
    assert risen[:3] == pytest.approx([0.01, 0.022, 0.0364])
    assert risen[-1] == 1


def test_each_image_has_its_own_multiplier_and_rows_say_whose_it_is():
    dual = Told(3)
    assert dual.multipliers(1, -1, 1) == pytest.approx([0.8, 1, 0.8])
    assert dual.multipliers(1, 1, rows=[2, 0]) == pytest.approx([0.64, 0.64])
    assert dual.multipliers(1, 1, -1) == pytest.approx([0.512, 0.8, 0.778])


def test_a_new_run_and_a_new_target_start_from_one():
    dual = Told(2)
    dual.multipliers(1, 1)
    for fresh in (dual.begin(), dual.towards(torch.tensor([1, 2]))):
        assert fresh.multipliers(-1, 1) == pytest.approx([1, 0.8])
    assert dual.multipliers(1, 1) == pytest.approx([0.64, 0.64])


@AIMED
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_dual_weighs_the_two_gradients_in_units_of_their_own_size(norm, aimed):
    case = Case(detector=True)
    multipliers = [1.0] * COUNT
    x = case.x
    objective = case.objective("dual", aimed=aimed, norm=norm)
    crossed = set()
    torch.manual_seed(0)
    for _ in range(5):
        found, wanted = objective.gradient(x), []
        case.x = x
        for i in range(COUNT):
            pixels = x[i].flatten().clone().requires_grad_()
            p = Parts(case, pixels, int(case.labels[i]), int(case.targets[i]) if aimed else None)
            old = multipliers[i]
            multipliers[i] = 0.8 * old if p.fooled > 0 else min(1.0, 1.2 * old + 0.01)
            crossed.add((multipliers[i] == 1, bool(p.fooled > 0)))
            fool, hide = unit(p.grad(p.fooled), norm), unit(-p.grad(p.suspicion), norm)
            wanted.append((multipliers[i] * fool + (1 - multipliers[i]) * hide).view(3, 2, 2))
        assert error(found, torch.stack(wanted)) <= 1e-6
        x = torch.rand(x.shape)
    assert crossed == {(True, False), (False, True), (False, False)}


class Transformed(Objective):
    """Sees the logits multiplied, and each score through an increasing function."""

    scale, bend = 1.0, staticmethod(lambda s: s)

    def query(self, x, rows=None, *, record=True, features=False):
        seen = super().query(x, rows, record=record, features=features)
        return Observation(seen.logits * self.scale, self.bend(seen.score), self.bend(seen.penalties))


class TransformedDual(Transformed, Dual):
    pass


class TransformedMargin(Transformed, Margin):
    pass


MAPS = {
    "same": lambda s: s,
    "affine": lambda s: 1000 * s - 7,
    "tiny": lambda s: 1e-6 * s,
    "exponential": lambda s: (3 * s).exp(),
    "logistic": lambda s: (4 * s - 4).sigmoid(),
    "cubic": lambda s: s**3,
}


def transformed(
    kind: type[Transformed], case: Case, *, aimed: bool = False, scale: float = 1.0, bend: str = "same"
) -> Transformed:
    plain = case.objective("dual", aimed=aimed)
    objective = kind(plain._recorder, plain.labels, ALARM, targets=plain.targets)
    objective.scale, objective.bend = scale, MAPS[bend]
    return objective


@AIMED
@pytest.mark.parametrize("scale", [0.1, 1, 100])
def test_dual_does_not_depend_on_the_scale_of_the_logits(scale, aimed):
    case = Case(detector=True)
    wanted = walk(case.objective("dual", aimed=aimed), case.x)
    found = walk(transformed(TransformedDual, case, aimed=aimed, scale=scale), case.x)
    assert max(error(f, w) for f, w in zip(found, wanted, strict=True)) <= 1e-9


@AIMED
@pytest.mark.parametrize("name", MAPS)
def test_dual_does_not_depend_on_the_scale_of_the_score(name, aimed):
    case = Case(detector=True)
    wanted = walk(case.objective("dual", aimed=aimed), case.x)
    found = walk(transformed(TransformedDual, case, aimed=aimed, bend=name), case.x)
    assert max(error(f, w) for f, w in zip(found, wanted, strict=True)) <= 1e-9


@pytest.mark.parametrize("change", [{"scale": 100}, {"bend": "exponential"}], ids=["logits", "score"])
def test_the_margin_depends_on_both(change):
    case = Case(detector=True)
    wanted = transformed(TransformedMargin, case).gradient(case.x)
    found = transformed(TransformedMargin, case, **change).gradient(case.x)
    assert int((found.sign() != wanted.sign()).any(1).any(1).any(1).sum()) > 5


@pytest.mark.parametrize("share", [1e3, -1e3], ids=["high", "low"])
def test_one_wild_calibration_score_hardly_moves_the_unit_of_suspicion(share):
    clean = torch.randn(400, generator=torch.Generator().manual_seed(1))
    wild = torch.cat([clean, clean.new_tensor([share])])
    before, after = Alarm.calibrated(clean), Alarm.calibrated(wild)
    assert after.unit == pytest.approx(before.unit, rel=0.02)
    assert after.median == pytest.approx(before.median, abs=0.02)
    assert after.threshold == pytest.approx(before.threshold, abs=0.1)
    assert wild.std() > 20 * clean.std()  # in whose units it would have moved far


def test_dual_does_not_depend_on_the_calibration_at_all():
    case = Case(detector=True)
    wanted = walk(case.objective("dual", aimed=False), case.x)
    alarm = Alarm(threshold=ALARM.threshold + 5, median=ALARM.median, unit=40 * ALARM.unit)
    victim = Victim(case.victim.classifier, case.detector, alarm)
    recorder = Recorder(victim, case.x, case.labels, Budget("linf", 0.1))
    found = walk(Dual(recorder, case.labels, alarm), case.x)
    assert max(error(f, w) for f, w in zip(found, wanted, strict=True)) <= 1e-9


def test_a_gradient_that_is_zero_or_no_number_has_no_say():
    dual = Told(4)
    nothing, wild = torch.zeros(2), torch.tensor([torch.nan, 4.0])
    fool = torch.stack([torch.tensor([3.0, 0.0]), nothing, torch.tensor([3.0, 0.0]), wild])
    hide = torch.stack([nothing, torch.tensor([0.0, 2.0]), wild, nothing])
    step = dual.combine(fool, hide, torch.ones(4), None)
    assert torch.allclose(step, torch.tensor([[0.8, 0], [0, 0.2], [0.8, 0.2], [0, 0.8]]))


def test_gradients_of_any_size_are_weighed_alike():
    dual = Told(3)
    fool, hide = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 1.0]] * 3)
    sizes = torch.tensor([[1e-25], [1.0], [1e25]])
    step = dual.combine((fool * sizes).float(), (hide / sizes).float(), torch.ones(3), None)
    assert torch.allclose(step, torch.tensor([[0.8, 0.2]] * 3).float())
