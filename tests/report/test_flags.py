"""Flags: each sign of a weak attack is noticed, says its numbers, and nothing else is flagged."""

import numpy as np
import pytest

from nfbench.records import CellRecord, PluginRecord
from nfbench.report.flags import flagged
from nfbench.report.run import Run

BATCH = 100
CALIBRATION = np.arange(1, 40) / 40  # the threshold at 5 % is .95
INF = np.inf


def plugin(name: str) -> PluginRecord:
    return PluginRecord(name=name, params={}, plugin=name, version="1")


def broken(count: int, *, first: int = 0) -> np.ndarray:
    """S* of a hundred images of which `count` are broken, from the `first` on."""
    scores = np.full(BATCH, INF)
    scores[first : first + count] = 0.5
    return scores


class Bench:
    """Cells and vectors, and what becomes of them."""

    def __init__(self) -> None:
        self.cells: list[CellRecord] = []
        self.samples: dict[str, dict[str, np.ndarray]] = {}

    def add(self, attack, evasion, threat="adaptive-whitebox", *, own=None, **other) -> None:
        fields = {"norm": "linf", "eps": 0.25, "seed": 0, "status": "done"} | other
        asks = threat in ("adaptive-whitebox", "score-queries")
        fields = {"asks_victim": asks, "follows_gradient": threat == "adaptive-whitebox"} | fields
        name = f"{attack}-{threat}-{fields['eps']}-{fields['seed']}-{fields.get('defender', '')}"
        roles = {"defense": plugin("d"), "attack": plugin(attack), "threat_model": plugin(threat)}
        rest = {"objectives": ["dual"], "dataset": {}, "model": {}, "adaptive": asks, "stages": [[""]]}
        self.cells.append(CellRecord(cell=name, **roles, **(rest | fields)))
        common = {"index": np.arange(BATCH), "clean_score": np.full(BATCH, 0.2)}
        common |= {"calibration_score": CALIBRATION, "winner": np.zeros(BATCH, int)}
        common |= {"stage": np.zeros(BATCH, int)}
        self.samples[name] = {
            **common,
            "evasion_score": evasion,
            "evasion_score_own": evasion if own is None else own,
        }

    @property
    def flags(self) -> dict[str, list[str]]:
        """By attack and threat model; no entry without a flag."""
        after = flagged(Run({}, self.cells, self.samples)).cells
        assert all((c.status == "flagged") == bool(c.flags) for c in after)
        assert all(c.reason == "; ".join(c.flags) for c in after)
        return {f"{c.attack.name} {c.eps}": c.flags for c in after if c.flags}


@pytest.fixture
def bench() -> Bench:
    return Bench()


HEALTHY = {"zero_gradient": 0.06, "non_finite_gradient": 0.04, "finite_difference_off": 0.1}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"zero_gradient": 0.07}, "score is zero on 7% and not finite on 4% of the images probed"),
        ({"non_finite_gradient": 0.5}, "score is zero on 6% and not finite on 50% of"),
        ({"finite_difference_off": 0.2}, "more than 10 % off finite differences on 20% of"),
        ({"margin_finite_difference_off": 0.2}, "class margin is more than 10 % off finite differences"),
    ],
)
def test_a_gradient_at_fault_on_more_than_a_tenth_of_the_images_is_flagged(bench, fault, words):
    bench.add("pgd", broken(50), health=HEALTHY | fault)
    (told,) = bench.flags["pgd 0.25"]
    assert words in told


def test_a_gradient_at_fault_on_a_tenth_is_not_nor_one_that_was_not_followed(bench):
    bench.add("pgd", broken(50), health=HEALTHY)
    bench.add("spsa", broken(50), health={"zero_gradient": 1.0}, follows_gradient=False)
    assert not bench.flags


def test_no_gradient_is_held_against_an_attack_that_broke_nearly_everything(bench):
    bench.add("pgd", broken(98), health={"finite_difference_off": 1.0})
    assert not bench.flags


def test_a_larger_radius_that_made_it_worse_is_flagged_there_although_the_ladder_hides_it(bench):
    bench.add("pgd", broken(60), eps=0.25, own=broken(47))
    bench.add("pgd", broken(50), eps=0.1)
    (told,) = bench.flags.pop("pgd 0.25")
    assert told == (
        "a larger radius made it worse: SR@5 0.470 at linf ≤ 0.25 by its own points, 0.500 at linf ≤ 0.1"
    )
    assert not bench.flags.keys() - {"pgd 0.25"}


def test_two_points_less_at_a_larger_radius_are_no_sign_and_other_attacks_are_no_rungs(bench):
    bench.add("pgd", broken(50), eps=0.25, own=broken(48))
    bench.add("pgd", broken(50), eps=0.1)
    bench.add("fgsm", broken(10), eps=0.25)
    bench.add("pgd", broken(90), eps=0.1, seed=1)
    assert not bench.flags


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", None)])
def test_an_unbounded_attack_must_break_nearly_every_image(bench, norm, eps):
    bench.add("pgd", broken(98), norm=norm, eps=eps)
    assert bench.flags == {f"pgd {eps}": ["without a bound SR@5 must reach 0.99, and is 0.980"]}


def test_a_bounded_attack_and_one_that_breaks_nearly_all_need_no_more(bench):
    bench.add("pgd", broken(99), eps=1.0)
    bench.add("pgd-l2", broken(50), norm="l2", eps=30.0)
    bench.add("cw", broken(50), "partial-whitebox", norm="l2", eps=None)
    assert not bench.flags


def test_images_that_ready_made_points_broke_say_nothing_of_an_unbounded_attack(bench):
    bench.add("breaker", broken(100), eps=1.0, stages=[["", "probes", "dual"]])
    vectors = bench.samples[bench.cells[0].cell]
    vectors["stage"] = np.array([1] * 60 + [2] * 40)
    assert not bench.flags
    vectors["evasion_score"] = broken(90)  # ten of the forty others hold
    assert bench.flags == {"breaker 1.0": ["without a bound SR@5 must reach 0.99, and is 0.750"]}


@pytest.mark.parametrize("threat", ["blackbox", "limited-knowledge", "score-queries"])
def test_who_knows_less_and_does_better_flags_the_gradient_attacks(bench, threat):
    bench.add("pgd", broken(30))
    bench.add("fgsm", broken(10, first=25))  # together 35 images
    bench.add("square", broken(38), threat)
    told = (
        f"square under {threat} reached SR@5 0.380, the gradient attacks under adaptive-whitebox "
        "together only 0.350"
    )
    assert bench.flags == {"pgd 0.25": [told], "fgsm 0.25": [told]}


def test_who_knows_less_is_compared_at_the_same_radius_and_seed_and_by_two_points(bench):
    bench.add("pgd", broken(30))
    bench.add("square", broken(32), "score-queries")
    bench.add("square", broken(90), "score-queries", eps=0.3)
    bench.add("square", broken(90), "score-queries", seed=1)
    assert not bench.flags


def test_transfers_are_compared_by_their_strongest_attack_not_image_by_image(bench):
    bench.add("pgd", broken(30))
    bench.add("mim", broken(20), "blackbox")
    bench.add("bim", broken(20, first=50), "blackbox")
    assert not bench.flags
    bench.cells = [c.model_copy(update={"asks_victim": True}) for c in bench.cells]
    assert "mim, bim under blackbox reached SR@5 0.400" in bench.flags["pgd 0.25"][0]


def test_an_attack_without_gradients_by_the_same_attacker_is_a_rival_too(bench):
    bench.add("pgd", broken(30))
    bench.add("spsa", broken(31, first=50), follows_gradient=False)
    assert not bench.flags  # alone it breaks no more; together they are no rivals
    bench.add("square", broken(60), follows_gradient=False)
    assert "spsa, square under adaptive-whitebox reached SR@5 0.810" in bench.flags["pgd 0.25"][0]


def test_a_detector_that_learnt_from_each_attack_is_another_victim_each_time(bench):
    bench.add("pgd", broken(30), defender="whitebox-defense")
    bench.add("square", broken(60), "score-queries", defender="whitebox-defense")
    assert not bench.flags
    bench.add("pgd", broken(60), "blackbox", defender="whitebox-defense")
    assert list(bench.flags) == ["pgd 0.25"]


def test_one_image_that_only_random_points_broke_flags_the_gradient_attacks(bench):
    bench.add("pgd", broken(40))
    bench.add("fgsm", broken(10, first=35))
    bench.add("random-search", broken(1, first=45), follows_gradient=False)
    told = (
        "random-search broke 1 of 100 images that the gradient attacks under adaptive-whitebox did not"
    )
    assert bench.flags == {"pgd 0.25": [told], "fgsm 0.25": [told]}


def test_random_points_that_break_no_more_than_the_others_flag_nothing(bench):
    bench.add("pgd", broken(40))
    bench.add("random-search", broken(39), follows_gradient=False)
    assert not bench.flags


def test_without_a_threshold_there_is_nothing_to_compare(bench):
    bench.add("pgd", broken(10), eps=1.0)
    bench.add("square", broken(90), "score-queries", eps=1.0)
    bench.add("random-search", broken(90), "score-queries", eps=1.0)
    for vectors in bench.samples.values():
        vectors["calibration_score"] = CALIBRATION[:5]
    assert not bench.flags


def test_cells_without_numbers_are_left_as_they_are(bench):
    bench.add("pgd", broken(10), eps=1.0, status="failed", reason="out of memory")
    bench.samples.clear()
    (cell,) = flagged(Run({}, bench.cells, {})).cells
    assert (cell.status, cell.reason, cell.flags) == ("failed", "out of memory", [])
