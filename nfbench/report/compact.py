"""Results small enough to be committed: the vectors that boards are made of, each victim's only once.

A victim's cells attack the same images and are judged by the same clean scores, so these are stored
once, beside one row of S* for each cell. The rows' cells are known by their line in the results.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nfbench.core.errors import CorruptArtifact
from nfbench.records import CellRecord
from nfbench.report.metrics import Vector
from nfbench.store import write_atomic

if TYPE_CHECKING:
    from nfbench.report.run import Run

VECTORS, GALLERY = "vectors.safetensors", "gallery.safetensors"
SHARED = (
    "index",
    "label",
    "clean_score",
    "calibration_score",
    "test_label",
    "test_prediction",
    "test_score",
)
"""What the cells of a victim have in common."""
OWN = ("evasion_score", "expected_score")
"""What each cell has for itself; the latter of detectors that draw at random."""
MOST_IMAGES = 2 * 2**20
"""Bytes of pictures that a board keeps."""


def write(run: Run, folder: Path) -> None:
    """Write a run as a board's results folder: `run.json`, results, vectors and pictures.

    The same bytes for the same run.
    """
    from safetensors.numpy import save

    from nfbench.report.run import info_bytes, lines_bytes

    write_atomic(folder / VECTORS, save(packed(run)))
    write_atomic(folder / "results.jsonl.gz", gzip.compress(lines_bytes(run.cells), 9, mtime=0))
    write_atomic(folder / GALLERY, gallery_bytes(thinned(run.images)))
    write_atomic(folder / "run.json", info_bytes(run.info))


def packed(run: Run) -> dict[str, Vector]:
    """The vectors of a run, by victim."""
    victims: dict[str, list[int]] = {}
    for line, cell in enumerate(run.cells):
        if cell.finished:
            victims.setdefault(_victim(run.samples[cell.cell]), []).append(line)
    found: dict[str, Vector] = {}
    for number, lines in enumerate(victims.values()):
        cells = [run.samples[run.cells[line].cell] for line in lines]
        shared = {name: cells[0][name] for name in SHARED if name in cells[0]}
        own = {name: np.stack([c[name] for c in cells]) for name in OWN if name in cells[0]}
        own["line"] = np.array(lines, dtype=np.int64)
        found |= {f"{number}.{name}": vector for name, vector in (shared | own).items()}
    return found


def _victim(vectors: Mapping[str, Vector]) -> str:
    """Equal for cells that share all but their S*."""
    names = [name for name in SHARED if name in vectors]
    parts = [name.encode() + np.ascontiguousarray(vectors[name]).tobytes() for name in names]
    return sha256(b"".join(parts)).hexdigest()


def unpacked(found: Mapping[str, Vector], cells: Sequence[CellRecord]) -> dict[str, dict[str, Vector]]:
    """The vectors of each cell that has numbers.

    Raises:
        CorruptArtifact: if those of a cell are missing, or do not fit together.
    """
    victims: dict[str, dict[str, Vector]] = {}
    for name, vector in found.items():
        number, _, kind = name.partition(".")
        victims.setdefault(number, {})[kind] = vector
    samples: dict[str, dict[str, Vector]] = {}
    for victim in victims.values():
        _require_fitting(victim)
        shared = {name: victim[name] for name in SHARED if name in victim}
        for row, line in enumerate(victim["line"].tolist()):
            if not 0 <= line < len(cells):
                raise CorruptArtifact(f"{VECTORS} has vectors of line {line}, which the results lack")
            own = {name: victim[name][row] for name in OWN if name in victim}
            require_sound(shared | own, f"{VECTORS}, line {line}")
            samples[cells[line].cell] = shared | own
    for cell in cells:
        if cell.finished and cell.cell not in samples:
            raise CorruptArtifact(f"{VECTORS} has no vectors of {cell.cell}")
    return samples


def require_sound(vectors: Mapping[str, Vector], where: str) -> None:
    """Refuse vectors of a cell that do not belong together, or are no scores.

    Raises:
        CorruptArtifact: naming the vector.
    """
    index = vectors["index"]
    if index.ndim != 1 or index.dtype.kind not in "iu" or len(np.unique(index)) < len(index):
        raise CorruptArtifact(f"{where}: index does not list images, each once")
    for name in ("clean_score", "calibration_score", *OWN):
        scores = vectors.get(name)
        if scores is None:
            continue
        fits = scores.ndim == 1 and (name == "calibration_score" or len(scores) == len(index))
        if not fits or scores.dtype.kind != "f" or np.isnan(scores).any():
            raise CorruptArtifact(f"{where}: {name} is no vector of scores of these images")


def _require_fitting(victim: Mapping[str, Vector]) -> None:
    for name in ("line", "index", "clean_score", "calibration_score", "evasion_score"):
        if name not in victim:
            raise CorruptArtifact(f"{VECTORS} lacks {name} of a victim")
    rows, images = victim["line"], victim["index"]
    shapes = {"clean_score": images.shape, "evasion_score": (*rows.shape, *images.shape)}
    for name, shape in shapes.items():
        if victim[name].shape != shape or rows.ndim != 1 or images.ndim != 1:
            raise CorruptArtifact(f"{VECTORS}: {name} has shape {victim[name].shape}, expected {shape}")


def gallery_bytes(images: Mapping[str, Mapping[str, Vector]]) -> bytes:
    """`gallery.safetensors`: the pictures of each cell, numbered, and its name as bytes."""
    from safetensors.numpy import save

    names = sorted(images)
    arrays = {
        f"{number}.{kind}": np.ascontiguousarray(array)
        for number, name in enumerate(names)
        for kind, array in sorted(images[name].items())
    }
    numbered = {f"names.{n}": np.frombuffer(name.encode(), np.uint8) for n, name in enumerate(names)}
    return save(arrays | numbered, {"content": '"pictures to look at"'})


def images_of(found: Mapping[str, Vector]) -> dict[str, dict[str, Vector]]:
    """The pictures of each cell.

    Raises:
        CorruptArtifact: if they are not what they should be.
    """
    images: dict[str, dict[str, Vector]] = {}
    for key in (key for key in found if key.startswith("names.")):
        number = key.removeprefix("names.")
        kinds = ("index", "clean", "adversarial")
        own: dict[str, Any] = {kind: found.get(f"{number}.{kind}") for kind in kinds}
        if any(array is None for array in own.values()) or found[key].dtype != np.uint8:
            raise CorruptArtifact(f"{GALLERY} lacks a part of picture set {number[:20]}")
        clean, adversarial = own["clean"], own["adversarial"]
        if clean.ndim != 4 or clean.shape != adversarial.shape or len(own["index"]) != len(clean):
            raise CorruptArtifact(f"{GALLERY}: the pictures of set {number[:20]} do not fit together")
        images[found[key].tobytes().decode(errors="replace")] = own
    return images


def thinned(images: Mapping[str, Mapping[str, Vector]]) -> dict[str, dict[str, Vector]]:
    """As many pictures of each cell as fit into a board, the first ones; at least one, or no cell."""
    if not images:
        return {}
    size = max(a.nbytes / max(len(a), 1) for own in images.values() for a in own.values())
    each = int(MOST_IMAGES / (2 * size * len(images)))
    if each < 1:
        kept = sorted(images)[: int(MOST_IMAGES / (2 * size))]
        return {name: {kind: array[:1] for kind, array in images[name].items()} for name in kept}
    return {name: {kind: a[:each] for kind, a in own.items()} for name, own in images.items()}
