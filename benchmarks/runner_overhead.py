"""What the runner adds to an attack: craft jobs of a run beside the same attack called directly."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import arguments, correct, images, show, trained
from safetensors.torch import save_file

from nfbench import Alarm, Budget, Classifier, Draws, Recorder, Split, Splits, Victim
from nfbench.core.registry import Registry
from nfbench.runner.measuring import scores
from nfbench.runner.options import Options
from nfbench.runner.plan import Cell, Plan
from nfbench.runner.workshop import Workshop
from nfbench.session import Place, execute, plan_of
from nfbench.store import Job

LIMIT = 64
"""Test images."""


class Stopwatch:
    """Progress that notes the CPU seconds of each craft job, the writing of its artifact included."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, dict[str, float]()

    def started(self, job: Job) -> None:
        self.began = time.process_time()

    def finished(self, job: Job, seconds: float) -> None:
        if job.kind == "craft":
            self.seconds[job.key] = time.process_time() - self.began

    def failed(self, job: Job, reason: str) -> None:
        raise SystemExit(reason)

    def total(self, weight: float, jobs: int) -> None: ...
    def advanced(self, job: Job, share: float) -> None: ...
    def warned(self, message: str) -> None: ...
    def noted(self, message: str) -> None: ...


def options_for(given: argparse.Namespace, folder: Path) -> Options:
    """A run of PGD and CW against max-softmax on a net that is trained already."""
    splits = images(given.data_dir)
    dataset, data_dir = "mnist", given.data_dir and Path(given.data_dir)
    if data_dir is None:
        dataset, data_dir = "npz", folder / "blobs.npz"
        parts = {"train": splits.train, "test": splits.test}
        arrays = {f"x_{k}": (255 * v.x).byte().numpy() for k, v in parts.items()}
        np.savez(data_dir, **arrays, **{f"y_{k}": v.y.numpy() for k, v in parts.items()})
    weights = folder / "net.safetensors"
    save_file(trained(splits).network.state_dict(), weights)
    return Options(
        defense=("max-softmax",),
        attacks=("bim-b", "pgd", "cw"),
        dataset=dataset,
        model="harness:table8",
        weights=weights,
        eps=("0.3",),
        limit=LIMIT,
        settings={"cw": {"binary_search_steps": 2, "steps": 50}},
        data_dir=data_dir,
    )


def direct(plan: Plan, classifier: Classifier, splits: Splits) -> dict[str, Callable[[], object]]:
    """For each craft job of the plan, its attack alone: on the same victim, with the same objective."""
    split = correct(classifier, splits.test.take(splits.test.index < LIMIT), LIMIT)
    runs: dict[str, Callable[[], object]] = {}
    for cell in plan.cells:
        detector = cell.defense.recipe.detector(classifier, {}).eval()
        held_out = correct(classifier, splits.calibration, len(splits.calibration))
        alarm = Alarm.calibrated(scores(detector, held_out.x))
        adaptive = cell.threat_model.recipe.adaptive
        victim = Victim(classifier, detector, alarm) if adaptive else Victim(classifier)
        for name, key in zip(cell.objectives, cell.crafts, strict=True):
            runs[key] = _attack(cell, name, victim, split)
    return runs


def _attack(cell: Cell, name: str, victim: Victim, split: Split) -> Callable[[], object]:
    attack, threat = cell.attack.recipe, cell.threat_model.recipe
    budget = Budget(attack.norm, cell.eps)

    def run() -> object:
        recorder = Recorder(victim, split.x, split.y, budget)
        objective = threat.objective(name, recorder, split.y, victim.alarm)
        return attack.perturb(objective, split.x, budget, Draws(cell.seed, split.index.tolist()))

    return run


def main() -> None:
    given = arguments(__doc__ or "")
    registry = Registry.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = options_for(given, folder)
        plan = plan_of(options, registry)
        shop = Workshop(registry, "cpu", options.data_dir, options.weights)
        recipe = next(job.recipe for job in plan.jobs.values() if job.kind == "train")
        network, _ = shop.network(recipe["model"], plan.spec.facts)
        classifier = Classifier(network, 10).eval().requires_grad_(False)
        runs = direct(plan, classifier, shop.splits(recipe))
        alone: dict[str, list[float]] = {key: [] for key in runs}
        within: dict[str, list[float]] = {key: [] for key in runs}
        for repeat in range(given.repeats + 1):  # the first warms up
            watch = Stopwatch()
            place = Place(folder / f"run{repeat}", folder / f"cache{repeat}", "cpu")
            execute(options, place, registry, watch)
            for key, run in runs.items():
                start = time.process_time()
                run()
                if repeat:
                    alone[key].append(time.process_time() - start)
                    within[key].append(watch.seconds[key])
    rows = [[plan.jobs[key].label, *_compare(within[key], alone[key])] for key in runs]
    total = _compare(*([sum(turn) for turn in zip(*s.values(), strict=True)] for s in (within, alone)))
    headers = ["craft job", "in a run, s", "attack alone, s", "overhead", "goal"]
    data = "MNIST" if given.data_dir else "blobs"
    table = [[*row, ""] for row in rows] + [["all of them", *total, "<= 3 %"]]
    show(f"{LIMIT} images of {data} on mnist-table8, CPU time", headers, table)


def _compare(within: list[float], alone: list[float]) -> tuple[float, float, str]:
    """Medians, and the median overhead of the turns."""
    share = statistics.median(a / b - 1 for a, b in zip(within, alone, strict=True))
    return statistics.median(within), statistics.median(alone), f"{100 * share:+.1f} %"


if __name__ == "__main__":
    main()
