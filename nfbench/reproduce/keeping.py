"""What was run for the papers' claims: found again in a folder, and kept small beside the boards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.reading import strict_json
from nfbench.records import Value
from nfbench.report import compact
from nfbench.report.run import read
from nfbench.reproduce.evidence import Ran
from nfbench.reproduce.paper import SCALES
from nfbench.reproduce.study import Made
from nfbench.store import write_atomic

TOLD = "reproduces"
"""Key of `run.json` that says which experiment it is, at which scale."""
_STUDY = "study.json"


@dataclass(frozen=True)
class Studied:
    """A study's findings, and how they came about."""

    made: Made
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Runs by experiment and findings by study, of the largest scale there is; nothing that stood in."""

    runs: Mapping[str, Sequence[Ran]]
    studies: Mapping[str, Studied]


def slug(point: Mapping[str, Any]) -> str:
    """A folder's name for a point of a sweep."""
    parts = [f"{name.rpartition('.')[2]}-{value}" for name, value in point.items()]
    return "_".join(parts) or "run"


def folder_of(told: Mapping[str, Any]) -> Path:
    """Where a run or a study lies below the folder of all."""
    stand_in = f"-{told['stand_in']}" if told.get("stand_in") else ""
    place = Path(str(told["paper"])) / f"{told['experiment']}@{told['scale']}{stand_in}"
    return place / slug(told["point"]) if "point" in told else place


def write_study(out: Path, made: Made, told: Mapping[str, Any]) -> None:
    """Write what a study found, arrays rounded to six digits.

    Raises:
        UsageError: if the folder can't be written.
    """
    content = {
        TOLD: dict(told),
        "values": {name: value.model_dump() for name, value in made.values.items()},
        "arrays": {name: _plain(array) for name, array in made.arrays.items()},
    }
    try:
        (out / folder_of(told)).mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        write_atomic(out / folder_of(told) / _STUDY, (text + "\n").encode())
    except OSError as error:
        raise UsageError(f"can't write to {out}: {error.strerror or error}") from None


def _plain(array: Any) -> Any:
    values = np.asarray(array)
    if values.dtype.kind == "f":
        return [None if not np.isfinite(v) else float(f"{v:.6g}") for v in values.ravel()], values.shape
    return values.ravel().tolist(), values.shape


def read_study(path: Path) -> Studied:
    """What a study found.

    Raises:
        CorruptArtifact: if the file is damaged.
    """
    try:
        content = strict_json(path.read_bytes(), str(path))
        values = {name: Value.model_validate(value) for name, value in content["values"].items()}
        arrays = {name: _array(*plain) for name, plain in content["arrays"].items()}
        return Studied(Made(values, arrays), content[TOLD])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is damaged ({error}): run its command again") from None


def _array(flat: Sequence[Any], shape: Sequence[int]) -> Any:
    return np.array([np.nan if v is None else v for v in flat]).reshape(shape)


def find(folder: Path) -> Found:
    """Everything below a folder that was run for the papers.

    Raises:
        CorruptArtifact: if something in it is damaged.
    """
    runs: dict[str, list[Ran]] = {}
    for ran in _runs(folder):
        if not ran.told.get("stand_in"):
            runs.setdefault(str(ran.told["experiment"]), []).append(ran)
    studies: dict[str, Studied] = {}
    for path in sorted(folder.glob(f"*/*/{_STUDY}")):
        one = read_study(path)
        name = str(one.told["experiment"])
        if name not in studies or _size(one.told) > _size(studies[name].told):
            studies[name] = one
    return Found({name: _largest(several) for name, several in runs.items()}, studies)


def _runs(folder: Path) -> Iterator[Ran]:
    for path in sorted(folder.glob("*/*/*/run.json")):
        run = read(path.parent)
        if TOLD in run.info:
            yield Ran(run, run.info[TOLD]["point"])


def _largest(ran: Sequence[Ran]) -> list[Ran]:
    size = max(_size(one.told) for one in ran)
    return [one for one in ran if _size(one.told) == size]


def _size(told: Mapping[str, Any]) -> int:
    return SCALES.index(told["scale"])


def keep(source: Path, target: Path) -> list[Path]:
    """Take what was run, smoke and stand-ins aside, with its figures, into a folder to be committed.

    Returns:
        The folders that were written to.

    Raises:
        UsageError: if there is nothing to take, or the folder can't be written.
    """
    try:
        written = [*_kept_runs(source, target), *_kept_files(source, target)]
    except OSError as error:
        raise UsageError(f"can't write to {target}: {error.strerror or error}") from None
    if not written:
        raise UsageError(f"{source} has nothing to keep: run nfbench reproduce --scale laptop first")
    return written


def _kept_runs(source: Path, target: Path) -> Iterator[Path]:
    for ran in _runs(source):
        if _counts(ran.told):
            place = target / folder_of(ran.told)
            place.mkdir(parents=True, exist_ok=True)
            compact.write(replace(ran.run, images={}), place)
            yield place


def _kept_files(source: Path, target: Path) -> Iterator[Path]:
    for path in sorted(source.glob(f"*/*/{_STUDY}")):
        told = read_study(path).told
        if _counts(told):
            yield _copied([path], target / folder_of(told))
    for path in sorted((source / "figures").glob("*.json")):
        if _counts(strict_json(path.read_bytes(), str(path))["made_by"]):
            yield _copied(sorted(path.parent.glob(f"{path.stem}.*")), target / "figures")


def _counts(told: Mapping[str, Any]) -> bool:
    """Whether it says something of the papers: neither smoke nor on data that stand in."""
    return told["scale"] != "smoke" and not told.get("stand_in")


def _copied(files: Sequence[Path], place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for file in files:
        write_atomic(place / file.name, file.read_bytes())
    return place
