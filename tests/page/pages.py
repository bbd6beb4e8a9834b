"""Runs made up for pages, and pages taken apart again."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from nfbench.records import CellRecord, PluginRecord, Value
from nfbench.report.run import Run

RATES = (
    "auroc_worst",
    "auroc_returned",
    "auroc_successes",
    "sr_at_5_fpr",
    "undefended_error",
    "gain",
    "success_rate",
    "robust_accuracy_at_5",
    "rauc",
    "clean_accuracy",
    "fpr_realised_at_5",
    "fpr_on_noise_at_5",
    "fpr_on_shift_at_5",
    "fpr_on_attack_sized_noise_at_5",
    "alarm_precision_1_in_100",
)


def plugin(name: str) -> PluginRecord:
    return PluginRecord(name=name, params={}, plugin="nfbench", version="1")


def made(
    defenses=("kd", "lid"), attacks=("fgsm", "pgd"), threats=("blackbox", "adaptive-whitebox"),
    eps=(0.1, 0.25), seeds=(0,), images=40, size=8,
) -> Run:  # fmt: skip
    """A run of every combination, with numbers drawn at random and scores that overlap."""
    rng = np.random.default_rng(0)
    cells, samples, pictures = [], {}, {}
    for defense in defenses:
        for seed in seeds:
            victim = {
                "index": np.arange(images),
                "label": np.zeros(images, dtype=np.int64),
                "clean_score": rng.normal(size=images).astype(np.float32),
                "calibration_score": rng.normal(size=200).astype(np.float32),
            }
            for threat, attack, radius in ((t, a, e) for t in threats for a in attacks for e in eps):
                cell = _cell(rng, (defense, attack, threat), radius, seed)
                cells.append(cell)
                samples[cell.cell] = victim | _attacked(rng, victim["clean_score"], images)
                clean = rng.random((6, 1, size, size), dtype=np.float32)
                moved = np.clip(clean + radius * rng.choice([-1, 1], clean.shape), 0, 1)
                own = {"index": np.arange(6), "clean": clean, "adversarial": moved.astype(np.float32)}
                pictures[cell.cell] = own
    info = {
        "title": "made up",
        "summary": ["Model `mlp`;", "some images."],
        "command": "nfbench run --defense 'kd,lid'",
        "spec": {"dataset": "digits", "note": "</script><script>alert(1)</script>"},
        "environment": {
            "git_commit": "abc123",
            "git_dirty": True,
            "python": "3.11",
            "packages": {"numpy": "2"},
        },
    }
    return Run(info, cells, samples, pictures)


def _cell(rng: np.random.Generator, names: tuple[str, str, str], eps: float, seed: int) -> CellRecord:
    defense, attack, threat = names
    middle, spread = rng.uniform(0.1, 0.9, len(RATES)), rng.uniform(0.01, 0.1, len(RATES))
    values = {
        name: Value(value=float(m), low=float(m - s), high=float(m + s))
        for name, m, s in zip(RATES, middle, spread, strict=True)
    }
    knows = threat not in ("blackbox", "partial-whitebox")
    return CellRecord(
        cell=f"{'-'.join(map(_plain, names))}-{eps}-{seed}",
        defense=plugin(defense), attack=plugin(attack), threat_model=plugin(threat),
        adaptive=knows, asks_victim=knows and threat != "limited-knowledge",
        follows_gradient=threat == "adaptive-whitebox",
        objectives=["margin"], norm="linf", eps=eps, seed=seed, status="done",
        dataset={"name": "digits", "sha256": "d" * 64}, model={"name": "mlp"}, metrics=values,
        counts={"adversarial": 40}, cost={"forward": 12.5, "backward": 3.25}, timing={"seconds": 1.5},
        winners={"margin": 7}, origins=["abc123 on cpu", f"def456 on gpu-{seed}"],
    )  # fmt: skip


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def _attacked(rng: np.random.Generator, clean: np.ndarray, images: int) -> dict[str, np.ndarray]:
    score = (clean + rng.normal(0.6, 0.7, images)).astype(np.float32)
    wrong = rng.random(images) < 0.8
    return {
        "evasion_score": np.where(wrong, score, np.inf).astype(np.float32),
        "adversarial_score": score,
        "adversarial_prediction": wrong.astype(np.int64),
        "noisy_score": (clean + rng.normal(0.1, 0.1, images)).astype(np.float32),
    }


VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """A page taken apart; a tag that is not closed where it should be fails at once."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: list[tuple[str, ...]] = []
        """Of each element the names around it, outermost first."""
        self.texts: dict[int, str] = {}
        """All the text in an element, by its number."""
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_endtag(self, tag):
        assert [name for name, _ in self._open[-1:]] == [tag], f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        for _, number in self._open:
            self.texts[number] = self.texts.get(number, "") + data

    def _note(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {attrs}"
        self.inside.append(tuple(name for name, _ in self._open))
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements of some kinds, in order."""
        return [
            (attributes, self.texts.get(number, ""))
            for number, (tag, attributes) in enumerate(self.elements)
            if tag in tags
        ]

    def rows(self, **wanted: str) -> list[list[tuple[dict[str, str], str]]]:
        """The cells of the table rows that have certain `data-` attributes."""
        found: list[list[tuple[dict[str, str], str]]] = []
        taking = False
        for number, (tag, attributes) in enumerate(self.elements):
            if tag == "tr":
                taking = all(attributes.get(f"data-{k}") == v for k, v in wanted.items())
                found += [[]] if taking else []
            elif taking and tag in ("td", "th") and "tr" in self.inside[number]:
                found[-1].append((attributes, self.texts.get(number, "")))
        return found
