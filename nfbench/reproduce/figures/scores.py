"""Figures of fingerprint losses image by image: Figures 4 and 10; EPFL's 4, 5 and 6."""

from __future__ import annotations

from typing import Any

import numpy as np

from nfbench.report.figures import DASHES
from nfbench.report.metrics import Vector, auroc
from nfbench.reproduce.figures import panels, roc
from nfbench.reproduce.figures.base import Drawing, Sources
from nfbench.reproduce.figures.panels import BLUE, GREEN, GREY, RED, STATIC, Attacked

_LOSS = "fingerprint loss, mean over N"
_IMAGES = 100
_BINS = 30
_RETURNED = ("label", "clean_score", "adversarial_score", "adversarial_prediction")
_EPFL = {"fgsm": "FGSM", "bim-b": "BIM"}
"""BIM of EPFL's library returns the last iterate."""


def scatter(sources: Sources) -> Drawing:
    """Figure 4: the losses of 100 test images and of 100 that the five static attacks returned.

    The loss is the detector's score, the mean over N fingerprints. Images are drawn with a fixed seed,
    from the cells of the lowest seed; those of an attack are beside each other.
    """
    runs = sources.runs("cifar10-static")
    found = panels.attacked(runs, STATIC, _RETURNED)
    if not found:
        raise panels.nothing("figure4")
    test, attacks, losses, fooled = _sampled(found)
    figure, (axes,) = panels.stacked([2.8])
    _scattered(axes, test, losses, fooled)
    _name_blocks(axes, attacks)
    value = auroc(test, losses)
    line = f"AUROC of these images (all returned) {value:.3f}"
    panels.head(axes, panels.data_of(runs, "cifar10"), line)
    panels.below(figure, [axes], 1)
    adversarial = {"attack": attacks, "loss": losses, "misclassified": fooled}
    return Drawing(figure, {"auroc_returned": value, "test": {"loss": test}, "adversarial": adversarial})


def _sampled(found: Attacked) -> tuple[Vector, list[str], Vector, Vector]:
    """Losses of test images; attack, loss and success of returned ones, as equal shares as can be."""
    seed = min(cells[0][0].seed for cells in found.values())
    own = {name: cells[0][1] for name, cells in found.items() if cells[0][0].seed == seed}
    rng = np.random.default_rng(0)
    clean = next(iter(own.values()))["clean_score"]
    test = clean[_drawn(rng, len(clean), _IMAGES)]
    attacks: list[str] = []
    losses, fooled = [], []
    shares = np.array_split(np.arange(_IMAGES), len(own))
    for (name, vectors), share in zip(own.items(), shares, strict=True):
        some = _drawn(rng, len(vectors["label"]), len(share))
        attacks += [name] * len(some)
        losses.append(vectors["adversarial_score"][some])
        fooled.append((vectors["adversarial_prediction"] != vectors["label"])[some])
    return test, attacks, np.concatenate(losses), np.concatenate(fooled)


def _drawn(rng: np.random.Generator, there: int, wanted: int) -> Vector:
    """Which images: `wanted` of `there`, all if there are fewer."""
    return rng.choice(there, min(wanted, there), replace=False)


def _scattered(axes: Any, test: Vector, losses: Vector, fooled: Vector) -> None:
    at, still = np.arange(len(losses)), ~fooled
    dots = {"s": 14, "linewidths": 0.8}
    axes.scatter(
        np.arange(len(test)), test, marker="+", color=BLUE, label=f"{len(test)} test images", **dots
    )
    name = f"{len(losses)} adversarial images"
    axes.scatter(at[fooled], losses[fooled], color=RED, label=name, **dots)
    if still.any():
        name = f"of which {still.sum()} are still classified correctly"
        axes.scatter(at[still], losses[still], facecolor="white", edgecolor=RED, label=name, **dots)
    axes.set(ylabel=_LOSS, ylim=(0, 1.05 * max(test.max(), losses.max())))


def _name_blocks(axes: Any, attacks: list[str]) -> None:
    """Under their images; a line between the images of two attacks."""
    sizes = {name: attacks.count(name) for name in dict.fromkeys(attacks)}
    ends = np.cumsum([0, *sizes.values()])
    for end in ends[1:-1]:
        axes.axvline(end - 0.5, color=GREY, linewidth=0.4)
    axes.set_xticks((ends[:-1] + ends[1:] - 1) / 2, [panels.called(name) for name in sizes])
    axes.tick_params(axis="x", length=0)


def random_search(sources: Sources) -> Drawing:
    """Figure 10: the lowest loss among the misclassified random points around each image.

    Beside it that of the clean images themselves, all classified correctly; images of all seeds.
    """
    experiments = {"mnist": "mnist-random", "cifar10": "cifar10-random"}
    runs = {data: sources.runs(name) for data, name in experiments.items()}
    needed, threats = ("clean_score", "evasion_score"), ("adaptive-whitebox",)
    found = {d: panels.attacked(own, ["random-search"], needed, threats) for d, own in runs.items()}
    if not any(found.values()):
        raise panels.nothing("figure10")
    figure, axes = panels.stacked([2.1 if found[data] else 0.7 for data in found])
    shown: dict[str, Any] = {}
    for panel, letter, data in zip(axes, "ab", found, strict=True):
        title = f"({letter}) {panels.data_of(runs[data], data)}"
        if found[data]:
            shown[data] = _reached(panel, title, found[data])
        else:
            panels.head(panel, title)
            panels.not_run(panel)
    panels.below(figure, axes, 1)
    return Drawing(figure, shown)


def _reached(axes: Any, title: str, found: Attacked) -> dict[str, Any]:
    clean, lowest = (_together(found, name) for name in ("clean_score", "evasion_score"))
    random = lowest[np.isfinite(lowest)]
    ratio = float(np.median(random) / np.median(clean)) if len(random) else None
    line = f"points around {len(random)} of {len(lowest)} images"
    panels.head(axes, title, line + (f", median {ratio:.1f} × clean" if ratio is not None else ""))
    kinds = {"clean images, classified correctly": (clean, BLUE)}
    kinds |= {"misclassified random points, lowest of each image": (random, RED)}
    bins = _histograms(axes, kinds)
    axes.set(xlabel=_LOSS, ylabel="images")
    found_of = {"images": len(lowest), "with_points": len(random), "ratio_of_medians": ratio}
    return {**found_of, "clean": clean, "random": random, "bins": bins}


def _together(found: Attacked, vector: str) -> Vector:
    """A vector of all seeds' images."""
    return np.concatenate([own[vector] for cells in found.values() for _, own in cells])


def _histograms(
    axes: Any, kinds: dict[str, tuple[Vector, str]], *, share: bool = False
) -> dict[str, Any]:
    """Of several kinds of losses over the same bins: numbers of images, or shares of each kind."""
    pooled = np.concatenate([losses for losses, _ in kinds.values()])
    edges = np.linspace(pooled.min(), pooled.max(), _BINS + 1)
    found: dict[str, Any] = {"edges": edges}
    for (name, (losses, colour)), dash in zip(kinds.items(), DASHES, strict=False):
        heights = np.histogram(losses, edges)[0] / (max(len(losses), 1) if share else 1)
        axes.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(heights, edges, color=colour, linestyle=dash, linewidth=1.2, label=name)
        found[name] = heights
    axes.set_ylim(0, None)
    return found


def epfl_fgsm(sources: Sources) -> Drawing:
    """EPFL's Figure 4: the losses of test images and of those that FGSM returned."""
    return _distributions(sources, "fgsm", "epfl-figure4")


def epfl_bim(sources: Sources) -> Drawing:
    """EPFL's Figure 5: the same under BIM."""
    return _distributions(sources, "bim-b", "epfl-figure5")


def _distributions(sources: Sources, attack: str, figure_id: str) -> Drawing:
    runs = sources.runs("epfl-mnist")
    found = panels.attacked(runs, [attack], _RETURNED)
    if not found:
        raise panels.nothing(figure_id)
    clean, losses = (_together(found, name) for name in ("clean_score", "adversarial_score"))
    left = panels.pooled([cell for cell, _ in found[attack]], "accuracy_under_attack")
    figure, (axes,) = panels.stacked([2.4])
    name = _EPFL[attack]
    kinds = {"test images": (clean, BLUE), f"adversarial images, {name}": (losses, GREEN)}
    bins = _histograms(axes, kinds, share=True)
    accuracy = f"accuracy under {name} {panels.told(left, 2)}"
    panels.head(axes, panels.data_of(runs, "mnist"), accuracy)
    axes.set(xlabel=_LOSS, ylabel="share of images")
    panels.below(figure, [axes], 2)
    shown = {"accuracy_under_attack": panels.column(left), "test": clean, "adversarial": losses}
    return Drawing(figure, shown | {"bins": bins})


def epfl_roc(sources: Sources) -> Drawing:
    """EPFL's Figure 6: ROC under FGSM and BIM, with the areas under them."""
    runs = sources.runs("epfl-mnist")
    found = panels.attacked(runs, _EPFL, roc.NEEDED)
    if not found:
        raise panels.nothing("epfl-figure6")
    figure, (axes,) = panels.stacked([2.6])
    names = {
        attack: f"{_EPFL[attack]}, AUC {panels.told(area)}" for attack, area in roc.areas(found).items()
    }
    shown = roc.draw(axes, found, names)
    panels.head(axes, panels.data_of(runs, "mnist"))
    panels.below(figure, [axes], 1)
    return Drawing(figure, shown)
