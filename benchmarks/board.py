"""How long a board of many cells takes to render, and how much memory.

The results are made up: 300 images a cell and as many metrics as a real one has, with intervals. Build
and check run as commands of their own, as a person would type them.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tabulate import tabulate

from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report import compact
from nfbench.report.metrics import Vector, auroc, success_rate_at, threshold
from nfbench.report.run import Run

IMAGES, CALIBRATION, OTHERS = 300, 400, 60
RADII, SEEDS = (0.06, 0.1, 0.15, 0.25), (0, 1, 2, 3, 4)
THREATS = ("blackbox", "partial-whitebox", "limited-knowledge", "adaptive-whitebox")
ATTACKS = tuple(f"attack-{i}" for i in range(10))
CLEAN_METRICS = ("clean_accuracy", "fpr_realised_at_5", "undefended_error", "auroc_returned")
BENIGN = ("noise", "brightness", "jpeg", "shift", "8bit", "attack_sized_noise")
TOML = 'defense = "all"\nattacks = "all"\nlimit = {images}\nseed = [{seeds}]\n'


def plugin(name: str) -> PluginRecord:
    return PluginRecord(name=name, params={"steps": 100, "step": 0.5}, plugin="nfbench", version="1")


def vectors(draws: np.random.Generator, shared: dict[str, Vector], hard: float) -> dict[str, Vector]:
    """S* of one cell beside what all cells of its victim share."""
    low = draws.normal(0.5, 1, IMAGES)
    evasion = np.where(draws.uniform(size=IMAGES) < hard, np.inf, low).astype(np.float32)
    return {**shared, "evasion_score": evasion}


def metrics(own: dict[str, Vector]) -> dict[str, Value]:
    """The two that follow from the vectors, and as many others as a cell has."""
    tau = threshold(own["calibration_score"], 0.05)
    sr5, worst = (
        success_rate_at(tau, own["evasion_score"]),
        auroc(own["clean_score"], own["evasion_score"]),
    )
    found = {"sr_at_5_fpr": sr5, "auroc_worst": worst}
    found |= dict.fromkeys((*CLEAN_METRICS, *(f"fpr_on_{name}_at_5" for name in BENIGN)), 0.123456789)
    found |= {f"auroc_other_{i}": (i + sr5) / (OTHERS + 1) for i in range(OTHERS)}
    return {
        name: Value(value=v, low=max(0.0, v - 0.05), high=min(1.0, v + 0.05))
        for name, v in found.items()
    }


def made_up(cells: int) -> Run:
    """As many cells as asked for, of as many defenses as that takes."""
    draws = np.random.default_rng(0)
    each = len(ATTACKS) * len(RADII) * len(SEEDS) * len(THREATS)
    records, samples = [], {}
    for number in range(-(-cells // each)):
        for seed in SEEDS:
            shared = {
                "index": np.arange(IMAGES),
                "clean_score": draws.normal(size=IMAGES).astype(np.float32),
                "calibration_score": draws.normal(size=CALIBRATION).astype(np.float32),
            }
            for threat in THREATS:
                for attack in ATTACKS:
                    for eps in RADII:
                        name = f"defense-{number}--{attack}--{threat}--linf-{eps}--seed{seed}"
                        samples[name] = vectors(draws, shared, 0.2 + 0.6 * draws.uniform())
                        place = (f"defense-{number}", attack, threat, eps, seed)
                        records.append(record(name, place, metrics(samples[name])))
    info = {
        "title": "A large board",
        "summary": ["Made up."],
        "command": "nfbench run",
        "environment": {},
    }
    return Run(info, records[:cells], {r.cell: samples[r.cell] for r in records[:cells]})


def record(name: str, place: tuple[str, str, str, float, int], found: dict[str, Value]) -> CellRecord:
    defense, attack, threat, eps, seed = place
    adaptive = threat == "adaptive-whitebox"
    return CellRecord(
        cell=name,
        defense=plugin(defense),
        attack=plugin(attack),
        threat_model=plugin(threat),
        adaptive=adaptive,
        asks_victim=adaptive,
        follows_gradient=adaptive,
        objectives=["dual"],
        norm="linf",
        eps=eps,
        dataset={"name": "digits", "sha256": "0" * 64},
        model={"name": "digits-mlp"},
        seed=seed,
        status="done",
        metrics=found,
        counts={"attempted": IMAGES, "clean": IMAGES, "adversarial": IMAGES, "calibration": CALIBRATION},
        cost={"forward": 100.0, "backward": 100.0},
        winners={"dual": IMAGES},
    )


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds a command took and the largest memory of any child so far, in MB."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nfbench", *arguments], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="Where to leave the board.")
    chosen = parser.parse_args()
    with TemporaryDirectory() as scratch:
        home = chosen.keep or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        text = TOML.format(images=IMAGES, seeds=", ".join(map(str, SEEDS)))
        (home / "large.toml").write_text(text, encoding="utf-8")
        compact.write(made_up(chosen.cells), home / "large")
        rows = []
        for verb in ("build", "check"):
            seconds, megabytes = measured("leaderboard", verb, "large", "--leaderboards", str(home))
            rows.append([verb, chosen.cells, f"{seconds:.1f}", f"{megabytes:.0f}"])
        sizes = [(p.name, p.stat().st_size) for p in sorted(home.glob("large.*"))]
        sizes += [(f"large/{p.name}", p.stat().st_size) for p in sorted((home / "large").iterdir())]
    print(tabulate(rows, ["command", "cells", "seconds", "peak, MB"], tablefmt="github"))
    print()
    print(tabulate([[n, f"{s / 2**20:.2f}"] for n, s in sizes if s], ["file", "MiB"], tablefmt="github"))


if __name__ == "__main__":
    main()
