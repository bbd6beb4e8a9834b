"""Runs built up cell by cell, and the tables of a page."""

import numpy as np

from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report.cells import BENIGN
from nfbench.report.run import Run

CLEAN = np.array([0.1, 0.2, 0.3, 0.4])
CALIBRATION = np.arange(1, 40) / 40  # the threshold at 5 % is .95


def plugin(name: str) -> PluginRecord:
    return PluginRecord(name=name, params={}, plugin=name, version="1")


class Board:
    """A run built up cell by cell."""

    def __init__(self) -> None:
        self.cells: list[CellRecord] = []
        self.samples: dict[str, dict[str, np.ndarray]] = {}

    def add(self, defense: str, attack: str, auroc=None, sr5=None, **other) -> None:
        evasion = np.array(other.pop("evasion", [np.inf] * 4))
        fields = {"threat_model": "adaptive-whitebox", "norm": "linf", "eps": 0.25, "seed": 0} | other
        threat_model, status = fields.pop("threat_model"), fields.pop("status", "done")
        cell = f"{defense}-{attack}-{threat_model}-{fields['seed']}"
        if fields["norm"] == "linf" and fields["eps"] != 0.25:
            cell += f"-{fields['eps']}"
        if "flags" in fields:
            status = "flagged"
        values = {"auroc_worst": auroc, "auroc_returned": 0.111, "auroc_successes": 0.222}
        values |= {"sr_at_5_fpr": sr5, "undefended_error": 0.5}
        values |= {"clean_accuracy": 0.9, "fpr_realised_at_5": 0.05, "auroc_noisy": 0.3}
        values |= {"auroc_noisy_oracle_sign": 0.7, "auroc_returned_oracle_sign": 0.889}
        values |= {"fpr_on_attack_sized_noise_at_5": fields.pop("noise_alarms", 0.5)}
        values |= {f"fpr_on_{name}_at_5": 0.06 for name in BENIGN}
        if status in ("done", "flagged"):
            fields["metrics"] = {k: Value(value=v) for k, v in values.items()}
            common = {"index": np.arange(4), "clean_score": CLEAN, "calibration_score": CALIBRATION}
            self.samples[cell] = {**common, "evasion_score": evasion}
        roles = {"defense": defense, "attack": attack, "threat_model": threat_model}
        plugins = {role: plugin(name) for role, name in roles.items()}
        rest = {"objectives": ["margin"], "dataset": {}, "model": {}, "status": status}
        rest["adaptive"] = threat_model not in ("partial-whitebox", "blackbox")
        rest["asks_victim"] = rest["adaptive"] and threat_model != "limited-knowledge"
        rest["follows_gradient"] = threat_model == "adaptive-whitebox"
        self.cells.append(CellRecord(cell=cell, **plugins, **rest, **fields))

    @property
    def run(self) -> Run:
        info = {"title": "digits, seed 0", "summary": ["300 images."]}
        return Run(info, self.cells, self.samples)


def rows(page: str, section: str = "", *, whole: bool = False) -> dict[str, list[str]]:
    """The cells of every table row of the first tables, or in one section, by the first one.

    Without ranks and intervals, unless the `whole` of it is asked for.
    """
    page = page.split(f"## {section}")[1] if section else page.partition("## False alarms")[0]
    page = page.split("\n## ")[0] if section else page.partition("## Value of secrecy")[0]
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    found = {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}
    if whole:
        return found
    ranked = found.get("defense", [""])[0] == "rank"
    return {name: [c.partition("<br>")[0] for c in own[ranked:]] for name, own in found.items()}
