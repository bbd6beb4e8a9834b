"""Synthetic runs that the papers' figures are drawn from."""

from functools import cache

import numpy as np

from nfbench.core.errors import UsageError
from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report.figures import styled
from nfbench.report.run import Run
from nfbench.reproduce.figures.base import FIGURES
from nfbench.reproduce.study import Made

STATIC = ("fgsm", "jsma", "bim-a", "bim-b", "cw")
OURS = [name for name, figure in FIGURES.items() if figure.home.startswith(("scores:", "sweeps:"))]
IMAGES = 60


class Runs:
    """Runs built up cell by cell; a source of figures."""

    def __init__(self):
        self.points = {}
        self.made = None

    def add(self, experiment, attack, auroc=0.9, point=None, threat="partial-whitebox", **other):
        """A cell; what its three AUROC are tells them apart."""
        seed, eps = other.pop("seed", 0), other.pop("eps", 0.05)
        rng = np.random.default_rng([len(attack), seed, int(1000 * auroc)])
        key = tuple(sorted((point or {}).items()))
        cells, samples = self.points.setdefault(experiment, {}).setdefault(key, ([], {}))
        name = f"{attack}-{threat}-{eps}-{seed}-{len(cells)}"
        values = {"auroc_returned": auroc, "auroc_successes": auroc - 0.1, "auroc_worst": auroc - 0.2}
        values |= {"clean_accuracy": 0.97, "accuracy_under_attack": 0.05}
        metrics = {k: Value(value=v, low=v - 0.02, high=v + 0.01) for k, v in values.items()}
        metrics |= other.pop("metrics", {})
        samples[name] = {
            "index": np.arange(IMAGES),
            "label": np.zeros(IMAGES, dtype=int),
            "adversarial_prediction": (rng.random(IMAGES) < 0.9).astype(int),
            "clean_score": rng.normal(0.3, 0.1, IMAGES),
            "adversarial_score": rng.normal(0.5, 0.1, IMAGES),
            "evasion_score": rng.normal(0.6, 0.1, IMAGES),
        } | other.pop("vectors", {})
        fields = {"norm": "linf", "dataset": {"name": "cifar10"}, "status": "done"} | other
        roles = {"attack": attack, "threat_model": threat}
        plugins = {k: PluginRecord(name=v, params={}, plugin="x", version="1") for k, v in roles.items()}
        params = fields.pop("params", {})
        victim = PluginRecord(
            name=fields.pop("defense", "neuralfp"), params=params, plugin="x", version="1"
        )
        cells.append(
            CellRecord(
                cell=name, defense=victim, **plugins, adaptive=False, objectives=[], eps=eps, model={},
                seed=seed, metrics=metrics, **fields,
            )
        )  # fmt: skip
        return samples[name]

    def runs(self, experiment):
        found = self.points.get(experiment, {})
        return [(dict(key), Run({}, cells, samples)) for key, (cells, samples) in found.items()]

    def study(self, name):
        if self.made is None:
            raise UsageError(f"{name} was not run")
        return self.made


@cache
def everything():
    """Something for every figure, with two seeds of most."""
    runs = Runs()
    for seed in (0, 1):
        for data in ("cifar10", "mnist"):
            _hyperparameters(runs, data, {"seed": seed, "dataset": {"name": data}})
        for attack in ("fgsm", "bim-b"):
            _epfl(runs, attack, {"seed": seed, "dataset": {"name": "mnist"}})
            _distortion(runs, attack, seed)
    for i in range(4):
        for attack in STATIC:
            point = {"neuralfp.secret": i, "neuralfp.fingerprints": 7 + i}
            runs.add("cifar10-draws", attack, 0.97 + 0.004 * i, point)
    for data in ("mnist", "cifar10"):
        runs.add(f"{data}-random", "random-search", threat="adaptive-whitebox", dataset={"name": data})
    number = np.array([1.0, 5.0, 20.0])
    runs.made = Made({}, {"number": number, "train_seconds": 3 + number, "score_seconds": 0.01 * number})
    return runs


def _hyperparameters(runs, data, on):
    for attack in STATIC:
        runs.add(f"{data}-static", attack, **on)
        for i in range(4):
            runs.add(f"{data}-size", attack, 0.9 - 0.01 * i, {"neuralfp.eps": 0.003 * 2**i}, **on)
            number = {"neuralfp.fingerprints": 5 * (i + 1)}
            runs.add(f"{data}-number", attack, 0.9 + 0.01 * i, number, **on)


def _distortion(runs, attack, seed):
    for eps in (0.05, 0.1):
        for threat in ("partial-whitebox", "paper-adaptive"):
            runs.add("cifar10-distortion", attack, 0.99 - eps, threat=threat, eps=eps, seed=seed)


def _epfl(runs, attack, on):
    runs.add("epfl-mnist", attack, **on)
    for n in (1, 5, 20):
        runs.add("epfl-number", attack, 0.95, {"neuralfp.fingerprints": n}, **on)


def drawn(figure_id, sources):
    with styled():
        return FIGURES[figure_id].load()(sources)


def texts(figure):
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def not_run(figure):
    """By panel, whether it says so."""
    return ["not run" in texts(axes) for axes in figure.axes]
