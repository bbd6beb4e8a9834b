"""Which objective an adaptive attack should climb: all of them at equal passes on every detector.

Writes what it finds to the screen and to results/objectives.md. What is measured is kept in the
cache, so that a run that was cut off goes on where it was.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student
from tabulate import tabulate
from victims import DETECTORS, Target, target

from nfbench import OBJECTIVES, Budget, Images, Objective, Recorder
from nfbench_attacks.climbing import climb, likeliest
from nfbench_attacks.gamma import over_gamma
from nfbench_attacks.probing import guide

RADII = (0.10, 0.15)
TARGETS = 3
PASSES = 180
"""Forward and backward passes of an image towards each target."""
TUNING_SEED, TUNING_IMAGES, IMAGES = 100, 100, 150
GAMMAS = [10.0**k for k in range(-2, 5)]
TRIALS = 6
"""Weights that the bisection tries."""
END = 2
"""Passes at the end of a climb: the last point, and the same in 8 bits."""


@dataclass(frozen=True)
class Schedule:
    """How large the first step is, in radii."""

    first: float

    def __str__(self) -> str:
        return f"{self.first:g} eps, momentum"


SCHEDULES = [Schedule(first) for first in (0.5, 0.25, 0.1)]


@dataclass
class Try:
    """One way to attack the images towards one target, in `PASSES` passes."""

    objective: Objective  # aimed at the target
    x: Images
    budget: Budget
    schedule: Schedule

    def steps(self, kind: str, share: float = 1.0, extra: int = 0) -> int:
        """Steps that a share of the passes buys: one forward, and a backward for each gradient."""
        each = 3 if kind in {"dual", "orthogonal"} else 2
        return max(1, int((PASSES * share - END - extra) // each))

    def climb(self, kind: str, start: Images, share: float = 1.0) -> Images:
        objective, extra = self.objective.recast(OBJECTIVES[kind]), int(kind == "matching")
        return self._climb(objective, start, self.steps(kind, share, extra))

    def _climb(self, objective: Objective, start: Images, steps: int) -> Images:
        return climb(objective, self.x, start, self.budget, steps, first=self.schedule.first)

    def alone(self, kind: str) -> None:
        self.climb(kind, self.x)

    def from_guide(self, kind: str, then: str = "") -> None:
        """From the nearest guide of the target, as near as the ball lets one come to it."""
        start = guide(self.objective, self.x, 0, self.objective.targets)
        assert start is not None
        reached = self.climb(kind, start, 0.5 if then else 1.0)
        if then:
            self.climb(then, reached, 0.5)

    def grid(self) -> None:
        weighed = self.objective.recast(OBJECTIVES["lagrangian"])
        for gamma in GAMMAS:
            steps = self.steps("lagrangian", 1 / len(GAMMAS))
            self._climb(weighed.with_gamma(gamma, "target"), self.x, steps)

    def bisection(self) -> None:
        weighed = self.objective.recast(OBJECTIVES["lagrangian"]).with_gamma(1.0, "target")
        steps = self.steps("lagrangian", 1 / TRIALS, extra=1)
        over_gamma(weighed, lambda one: self._climb(one, self.x, steps), TRIALS)


WAYS: dict[str, Callable[[Try], None]] = {
    "dual": partial(Try.alone, kind="dual"),
    "margin": partial(Try.alone, kind="margin"),
    "selective": partial(Try.alone, kind="selective"),
    "orthogonal": partial(Try.alone, kind="orthogonal"),
    "lagrangian, bisection": Try.bisection,
    "lagrangian, grid": Try.grid,
    "dual, from a guide": partial(Try.from_guide, kind="dual"),
    "matching": partial(Try.from_guide, kind="matching"),
    "matching, then dual": partial(Try.from_guide, kind="matching", then="dual"),
}
BASE = "dual"


def attack(way: str, on: Target, budget: Budget, schedule: Schedule) -> dict[str, float]:
    recorder: Recorder = on.recorder(budget)
    objective = on.objective(OBJECTIVES["dual"], recorder)
    for aimed_at in likeliest(objective, on.split.x, TARGETS):
        WAYS[way](Try(objective.towards(aimed_at), on.split.x, budget, schedule))
    return on.judged(recorder)


class Results:
    """What has been measured, one line a measurement in a file."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.path = cache, cache / "objectives.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {line["key"]: line["found"] for line in map(json.loads, lines)}
        self._target: tuple[tuple[str, int, int | None], Target] | None = None

    def measure(
        self, way: str, detector: str, eps: float, seed: int, schedule: Schedule
    ) -> dict[str, Any]:
        limit = TUNING_IMAGES if seed == TUNING_SEED else IMAGES
        key = f"{PASSES}|{limit}|{way}|{detector}|{eps}|{seed}|{schedule}"
        if key not in self.known:
            if self._target is None or self._target[0] != (detector, seed, limit):
                self._target = (detector, seed, limit), target(detector, seed, self.cache, limit)
            self.known[key] = attack(way, self._target[1], Budget("linf", eps), schedule)
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "found": self.known[key]}) + "\n")
            print(key, self.known[key], file=sys.stderr, flush=True)
        return self.known[key]


def tuned(results: Results, detectors: list[str]) -> dict[str, Schedule]:
    """For each way the schedule of highest mean SR@5 on the tuning seed; of equals, of lower AUROC."""
    found: dict[str, dict[Schedule, tuple[float, float]]] = {way: {} for way in WAYS}
    cells = [(d, e) for d in detectors for e in RADII]
    for detector, eps in cells:  # a victim at a time
        for way in WAYS:
            for schedule in SCHEDULES:
                results.measure(way, detector, eps, TUNING_SEED, schedule)
    for way in WAYS:
        for schedule in SCHEDULES:
            seen = [results.measure(way, d, e, TUNING_SEED, schedule) for d, e in cells]
            rate = statistics.fmean(one["sr"] for one in seen)
            found[way][schedule] = rate, -statistics.fmean(one["auroc"] for one in seen)
    return {way: max(rates, key=rates.__getitem__) for way, rates in found.items()}


NOTES = f"""
Digits, linf. Every objective is climbed towards the {TARGETS} likeliest wrong classes, for {PASSES}
forward and backward passes an image and class; images leave below the clean median, so `passes` has
fewer. SR@5 is the share of images with a point that is misclassified and accepted at a false alarm rate
of 5 %; AUROC is of each image's best point, an image without one being caught.

Seeds {{seeds}}: training, the detector's secret and the attack's draws move together. Mean over them,
and half of its 95 % interval (Student's t), {IMAGES} images each. The first step (a half, a quarter or a
tenth of eps, then as a cosine; momentum .75) was chosen by mean SR@5 on {TUNING_IMAGES} images of seed
{TUNING_SEED} alone.

The Lagrangians weigh the target's penalty: by {TRIALS} trials of a bisection of each image's own weight,
or by {len(GAMMAS)} weights from {GAMMAS[0]:g} to {GAMMAS[-1]:g}, both in the same number of passes.
`matching` starts at the guide, an accepted training image of the wrong class; `dual, from a guide`
tells how much of what it gains is the start's merit.
"""

Values = dict[tuple[str, str, float], torch.Tensor]  # way, detector, eps: one value a seed


def text(values: torch.Tensor, sign: str = "") -> str:
    """Mean and half the width of its 95 % interval by Student's t."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n) if n > 1 else math.nan
    return f"{float(values.mean()):{sign}.3f} ± {half:.3f}"


def table(values: Values, cells: list[tuple[str, float]], *, difference: bool) -> str:
    ways = [way for way in WAYS if not difference or way != BASE]
    rows = []
    for d, e in cells:
        base = values[BASE, d, e] if difference else torch.zeros(())
        rows.append([d, f"{e:.2f}", *(text(values[w, d, e] - base, "+" * difference) for w in ways)])
    return tabulate(rows, ["detector", "eps", *ways], "github", disable_numparse=True)


def summary(rates: Values, areas: Values, passes: Values, cells: list[tuple[str, float]]) -> str:
    """Means over detectors and radii, and each way's worst detector in two senses."""

    def overall(values: Values, way: str, detector: str = "") -> torch.Tensor:
        chosen = [values[way, d, e] for d, e in cells if detector in {"", d}]
        return torch.stack(chosen).mean(0)

    detectors = list(dict.fromkeys(d for d, _ in cells))
    best = {d: max(float(overall(rates, w, d).mean()) for w in WAYS) for d in detectors}
    rows, mean, lowest, behind = [], {}, {}, {}
    for way in WAYS:
        by = {d: float(overall(rates, way, d).mean()) for d in detectors}
        worst, lag = min(by, key=by.__getitem__), max(by, key=lambda d: best[d] - by[d])
        mean[way], lowest[way] = float(overall(rates, way).mean()), by[worst]
        behind[way] = best[lag] - by[lag]
        rows.append(
            [
                way,
                text(overall(rates, way)),
                text(overall(rates, way) - overall(rates, BASE), "+"),
                f"{by[worst]:.3f} ({worst})",
                f"{behind[way]:.3f} ({lag})",
                text(overall(areas, way)),
                f"{float(overall(passes, way).mean()):.0f}",
            ]
        )
    headers = [
        "objective",
        "SR@5",
        f"less {BASE}'s",
        "SR@5, lowest of a detector",
        "furthest behind the best",
        "AUROC, worst case",
        "passes",
    ]
    order = sorted(range(len(rows)), key=lambda k: -mean[rows[k][0]])
    found = tabulate([rows[k] for k in order], headers, "github", disable_numparse=True)
    return (
        f"{found}\n\n"
        f"Highest mean over detectors and radii: **{max(mean, key=mean.__getitem__)}**. "
        f"Highest on its worst detector: **{max(lowest, key=lowest.__getitem__)}**. "
        f"Least behind the best of any detector: **{min(behind, key=behind.__getitem__)}**."
    )


def report(results: Results, given: argparse.Namespace, schedules: dict[str, Schedule]) -> Iterator[str]:
    cells = [(d, e) for d in given.detectors for e in RADII]
    rates, areas, passes = Values(), Values(), Values()
    for seed in given.seeds:
        for d, e in cells:  # a victim at a time
            for way in WAYS:
                results.measure(way, d, e, seed, schedules[way])
    for d, e in cells:
        for way in WAYS:
            found = [results.measure(way, d, e, s, schedules[way]) for s in given.seeds]
            for values, name in ((rates, "sr"), (areas, "auroc"), (passes, "passes")):
                values[way, d, e] = torch.tensor([one[name] for one in found], dtype=torch.float64)
    yield "# What to climb\n"
    yield f"`python benchmarks/objectives.py --cache-dir DIR`, torch {torch.__version__}, on a CPU.\n"
    yield NOTES.format(seeds=", ".join(map(str, given.seeds)))
    yield "## All detectors and radii\n\n" + summary(rates, areas, passes, cells) + "\n"
    chosen = [[way, str(schedule)] for way, schedule in schedules.items()]
    yield "## Chosen schedules\n\n" + tabulate(chosen, ["objective", "first step"], "github") + "\n"
    for title, values, difference in (
        ("SR@5", rates, False),
        (f"SR@5 less {BASE}'s, seed by seed", rates, True),
        ("AUROC, worst case", areas, False),
        (f"AUROC less {BASE}'s, seed by seed", areas, True),
    ):
        yield f"## {title}\n\n" + table(values, cells, difference=difference) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    out = Path(__file__).parent / "results" / "objectives.md"
    parser.add_argument("--out", type=Path, default=out)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.cache_dir.mkdir(parents=True, exist_ok=True)
    results = Results(given.cache_dir)
    page = "\n".join(report(results, given, tuned(results, given.detectors)))
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
