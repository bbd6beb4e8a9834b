"""Results whose metrics follow from their vectors, made up from seeded scores."""

from dataclasses import replace

import numpy as np

from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report.cells import BENIGN
from nfbench.report.metrics import auroc
from nfbench.report.run import Run

DATA = "d" * 64
IMAGES = 40
CALIBRATION = np.linspace(0, 1, 200, dtype=np.float32)
TAU = float(np.sort(CALIBRATION)[int(np.ceil(201 * 0.95)) - 1])


def plugin(name, **params):
    return PluginRecord(name=name, params=params, plugin="nfbench", version="1")


class Results:
    """A run built up cell by cell."""

    def __init__(self):
        self.cells, self.samples = [], {}

    def add(self, defense="kd", attack="pgd", *, threat="adaptive-whitebox", eps=0.1, seed=0, **other):
        """A cell of which about `evaded` of the images evade; more fields replace the usual ones."""
        images, evaded = other.pop("images", IMAGES), other.pop("evaded", 0.5)
        limit = other.pop("attempted", IMAGES)
        name = other.pop("cell", f"{defense}--{attack}--{threat}--linf-{eps}--seed{seed}")
        vectors = scores(abs(hash_of(name)), images, evaded)
        fields = {
            "defense": plugin(defense),
            "attack": plugin(attack),
            "threat_model": plugin(threat),
            "adaptive": True,
            "asks_victim": True,
            "follows_gradient": True,
            "objectives": ["margin"],
            "norm": "linf",
            "eps": eps,
            "dataset": {"name": "digits", "sha256": DATA},
            "model": {"name": "digits-mlp"},
            "seed": seed,
            "status": "done",
            "counts": {"attempted": limit, "clean": images, "adversarial": images},
            "cost": {"forward": 100.0, "backward": 50.0},
        } | other
        if fields["status"] in ("done", "flagged"):
            fields["metrics"] = metrics_of(vectors) | fields.get("metrics", {})
            self.samples[name] = vectors
        else:
            fields["counts"], fields["cost"] = {}, {}
        self.cells.append(CellRecord(cell=name, **fields))
        return name

    def change(self, name, **update):
        """Replace fields of a cell."""
        self.cells = [c.model_copy(update=update) if c.cell == name else c for c in self.cells]

    @property
    def run(self):
        spec = {
            "attacks": [{"name": n} for n in dict.fromkeys(c.attack.name for c in self.cells)],
            "data_sha256": DATA,
            "eps": {"linf": sorted({c.eps for c in self.cells if c.eps})},
            "limit": IMAGES,
            "seeds": sorted({c.seed for c in self.cells}),
        }
        info = {
            "title": "nfbench on digits",
            "summary": ["Model `digits-mlp`."],
            "command": "nfbench run",
            "plan": "abc",
            "spec": spec,
            "environment": {
                "nfbench": "0.1.0",
                "python": "3.11",
                "device": "cpu",
                "git_commit": "abc",
                "git_dirty": True,
            },
        }
        return Run(info, self.cells, self.samples)

    def full(self, defenses=("kd", "lid"), attacks=("fgsm", "pgd"), eps=(0.1, 0.2), seeds=(0, 1)):
        """A cell for every combination; the first defense is the strongest."""
        for place, defense in enumerate(defenses):
            for attack in attacks:
                for radius in eps:
                    for seed in seeds:
                        self.add(defense, attack, eps=radius, seed=seed, evaded=0.2 + 0.5 * place)
        return self


def hash_of(name):
    return int.from_bytes(name.encode()[-24:], "big") % 2**32


def scores(seed, images, evaded):
    draws = np.random.default_rng(seed)
    clean = draws.uniform(0, 1, images).astype(np.float32)
    low, high = draws.uniform(0, TAU, images), np.full(images, np.inf)
    evasion = np.where(draws.uniform(size=images) < evaded, low, high).astype(np.float32)
    return {
        "index": np.arange(images, dtype=np.int64),
        "clean_score": clean,
        "evasion_score": evasion,
        "calibration_score": CALIBRATION,
    }


def metrics_of(vectors):
    evasion = vectors["evasion_score"]
    worst, sr5 = auroc(vectors["clean_score"], evasion), float((evasion <= TAU).mean())
    bounded = {"auroc_worst": worst, "sr_at_5_fpr": sr5}
    found = {
        name: Value(value=v, low=max(0.0, v - 0.1), high=min(1.0, v + 0.1))
        for name, v in bounded.items()
    }
    plain = {"undefended_error": 0.5, "clean_accuracy": 0.9, "fpr_realised_at_5": 0.05}
    plain |= {f"fpr_on_{name}_at_5": 0.06 for name in BENIGN}
    plain |= {"fpr_on_attack_sized_noise_at_5": 0.5, "auroc_returned": 0.75}
    return found | {name: Value(value=v) for name, v in plain.items()}


def with_vectors(run, name, **vectors):
    """A run with some vectors of a cell replaced."""
    return replace(run, samples={**run.samples, name: {**run.samples[name], **vectors}})
