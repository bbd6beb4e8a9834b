"""What a figure of the papers is: drawn from runs and studies, saved with the data it shows."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from nfbench.core.errors import UsageError
from nfbench.report.figures import METADATA, styled, written_to
from nfbench.report.run import Run
from nfbench.reproduce.study import Made
from nfbench.store import write_atomic

_HOME = "nfbench.reproduce.figures"


class Drawing(NamedTuple):
    """A figure, and what it shows as columns of numbers by name."""

    figure: Any
    data: dict[str, Any]


class Sources(Protocol):
    """What figures are drawn from."""

    def runs(self, experiment: str) -> Sequence[tuple[Mapping[str, Any], Run]]:
        """Each point of a sweep, and its run; one point without values if nothing varies.

        Empty where the experiment was not run.
        """

    def study(self, name: str) -> Made:
        """What a study found.

        Raises:
            UsageError: if it was not run.
        """


Draw: TypeAlias = Callable[[Sources], Drawing]


class Figure(NamedTuple):
    """A figure of a paper."""

    title: str
    home: str
    """`module:function` of its drawing, in this package."""
    experiments: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()

    def load(self) -> Draw:
        module, _, function = self.home.partition(":")
        return cast("Draw", getattr(importlib.import_module(f"{_HOME}.{module}"), function))


FIGURES: Mapping[str, Figure] = {
    "figure2": Figure(
        "Geometry of fingerprints of a linear SVM", "linear:geometry", studies=("linear-svm",)
    ),
    "figure8": Figure("The four fingerprints of the proof", "linear:proof", studies=("linear-svm",)),
    "figure3": Figure("Two Gaussian balls", "balls:three_panels", studies=("gaussian-balls",)),
    "figure4": Figure(
        "Fingerprint losses of test and adversarial images", "scores:scatter", ("cifar10-static",)
    ),
    "figure5": Figure("AUROC against distortion", "sweeps:distortion", ("cifar10-distortion",)),
    "figure6": Figure("Draws of the fingerprints", "sweeps:draws", ("cifar10-draws",)),
    "figure7": Figure(
        "N, size and ROC on CIFAR-10",
        "sweeps:cifar10",
        ("cifar10-size", "cifar10-number", "cifar10-static"),
    ),
    "figure9": Figure(
        "N, size and ROC on MNIST", "sweeps:mnist", ("mnist-size", "mnist-number", "mnist-static")
    ),
    "figure10": Figure("Random search", "scores:random_search", ("mnist-random", "cifar10-random")),
    "beyond": Figure(
        "One network under attackers who know more",
        "beyond:evaded",
        ("mnist-static", "mnist-adaptive", "mnist-breaker"),
    ),
    "epfl-figure1": Figure(
        "Losses while training with either sign", "training:losses", studies=("sign-stability",)
    ),
    "epfl-figure2": Figure(
        "Decision regions of two Gaussian balls", "balls:regions", studies=("gaussian-balls",)
    ),
    "epfl-figure3": Figure(
        "Fingerprint loss of two Gaussian balls", "balls:loss", studies=("gaussian-balls",)
    ),
    "epfl-figure4": Figure("Fingerprint losses under FGSM", "scores:epfl_fgsm", ("epfl-mnist",)),
    "epfl-figure5": Figure("Fingerprint losses under BIM", "scores:epfl_bim", ("epfl-mnist",)),
    "epfl-figure6": Figure("ROC under FGSM and BIM", "scores:epfl_roc", ("epfl-mnist",)),
    "epfl-number": Figure(
        "N, accuracy, time and robustness", "sweeps:epfl_number", ("epfl-number",), ("time-in-n",)
    ),
}
"""By the id that commands take."""


def figure_named(figure_id: str) -> Figure:
    """A figure by its id.

    Raises:
        UsageError: if there is none of that name.
    """
    if figure_id not in FIGURES:
        raise UsageError(f"no figure {figure_id!r}: {', '.join(FIGURES)}")
    return FIGURES[figure_id]


def draw(figure_id: str, sources: Sources, out: Path, made_by: Mapping[str, Any]) -> list[Path]:
    """Draw a figure, and save it beside the numbers it shows.

    Args:
        figure_id: one of `FIGURES`.
        sources: the runs and studies.
        out: the folder; it is made.
        made_by: what produced these, as plain data.

    Returns:
        `<id>.svg` without dates and with text as paths, the same bytes for the same numbers;
        `<id>.png` at 200 dots an inch; and `<id>.json`: `figure`, `title`, `made_by` and `data`, of six
        digits, null where a number is undefined or infinite.

    Raises:
        UsageError: if there is no such figure, nothing to draw it from or no matplotlib, or `out` can't
            be written.
    """
    figure = figure_named(figure_id)
    with styled():
        drawing = figure.load()(sources)
        content = {kind: _rendered(drawing.figure, kind) for kind in ("svg", "png")}
    record = {"figure": figure_id, "title": figure.title, "made_by": made_by, "data": drawing.data}
    content["json"] = (_lines(_plain(record)) + "\n").encode()
    with written_to(out):
        for kind, data in content.items():
            write_atomic(out / f"{figure_id}.{kind}", data)
    return [out / f"{figure_id}.{kind}" for kind in content]


def _rendered(figure: Any, kind: str) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, bbox_inches="tight", metadata=METADATA[kind])
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """What JSON has a form for: arrays as lists, numbers of six digits, null if not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _lines(value: Any, indent: str = "") -> str:
    """JSON with a line for each column."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    deeper = indent + " "
    inner = (f"{deeper}{json.dumps(name)}: {_lines(one, deeper)}" for name, one in value.items())
    return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
