"""The store: artifacts on disk, each under the key of the job that made it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nfbench.core.errors import CorruptArtifact, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Key: TypeAlias = str
JobKind = Literal["train", "fit", "clean", "distil", "craft", "score", "time", "study"]

FILES = ("manifest.json", "tensors.safetensors")
KEY = re.compile(r"[0-9a-f]{32}")
FORMAT = 1
"""Raised when stored artifacts are laid out differently; older ones are then left alone."""
VERSIONS: Mapping[JobKind, int] = {
    "train": 2,
    "fit": 2,
    "clean": 2,
    "distil": 1,
    "craft": 5,
    "score": 5,
    "time": 1,
    "study": 1,
}
"""Raised when a kind of job makes something else from the same recipe."""


@dataclass(frozen=True)
class Job:
    """One artifact to make: how, and from which others. Plain data, the same on every machine."""

    kind: JobKind
    recipe: Mapping[str, Any]
    needs: tuple[Key, ...] = ()
    label: str = field(default="", compare=False)
    """What a person is told it is."""
    weight: float = field(default=1.0, compare=False)
    """Rough cost in classifier rows, for the time left."""

    @property
    def key(self) -> Key:
        """Content address, 128 bits: any change of recipe, data or inputs changes it."""
        plain = [FORMAT, self.kind, VERSIONS[self.kind], self.recipe, list(self.needs)]
        return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a job made: tensors, and plain data that says something about them."""

    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """A directory of finished jobs; one is done exactly when its directory is there.

    Every artifact is written to a scratch directory, synced, and renamed into place, so a crash or a
    second process never leaves half of one. Nothing is pickled.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._home = root / f"v{FORMAT}"
        reason: object = "permission denied"
        try:
            self._home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
        self.writable = os.access(self._home, os.W_OK)
        """A cache of somebody else may be read only: what is there is used."""
        if not self._home.is_dir():
            raise UsageError(f"can't write to the cache {root} ({reason}); set --cache-dir")

    @property
    def leases(self) -> Path:
        """Where processes say what they are making."""
        return self._home / "leases"

    @property
    def unfinished(self) -> Path:
        """Where checkpoints of jobs are that were begun."""
        return self._home / "unfinished"

    def __contains__(self, key: Key) -> bool:
        return (self._path(key) / "manifest.json").is_file()

    def older_formats(self) -> list[Path]:
        """Directories that an earlier nfbench wrote and this one does not read."""
        return sorted(p for p in self.root.glob("v*") if p.is_dir() and p != self._home)

    def put(self, job: Job, artifact: Artifact, provenance: Mapping[str, Any]) -> str:
        """Save atomically; the digest of what was saved. An artifact that is there already stays."""
        data = _saved(artifact.tensors)
        manifest = {
            "job": {"kind": job.kind, "recipe": job.recipe, "needs": list(job.needs)},
            "sha256": digest_of(data, artifact.info),
            "info": artifact.info,
            "provenance": provenance,
        }
        path = self._path(job.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _beside(path)
        try:
            scratch.mkdir()
            write_synced(scratch / "tensors.safetensors", data)
            write_synced(scratch / "manifest.json", _json(manifest))
            self._place(scratch, job.key)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return str(manifest["sha256"])

    def _place(self, scratch: Path, key: Key) -> None:
        """Give a finished scratch directory its name, unless another process was quicker."""
        path = self._path(key)
        if path.exists() and key not in self:  # what is left of a directory somebody cleaned by hand
            self.discard(key)
        try:
            scratch.rename(path)
        except OSError:
            if key not in self:
                raise

    def get(self, key: Key) -> Artifact:
        """The artifact of a finished job, on the CPU.

        Raises:
            CorruptArtifact: if it is not what was written.
        """
        from safetensors.torch import load

        manifest = self.manifest(key)
        try:
            data = (self._path(key) / "tensors.safetensors").read_bytes()
        except OSError as error:
            raise damaged(key, str(error.strerror or error)) from None
        if digest_of(data, manifest["info"]) != manifest["sha256"]:
            raise damaged(key, "its content does not have the digest it was stored with")
        return Artifact(load(data), manifest["info"])

    def manifest(self, key: Key) -> dict[str, Any]:
        """What is known of a finished job besides its tensors.

        Raises:
            CorruptArtifact: if that can't be read or lacks a part.
        """
        try:
            manifest: Any = json.loads((self._path(key) / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(key, f"its manifest can't be read ({error})") from None
        if not isinstance(manifest, dict) or not {"info", "sha256", "provenance"} <= manifest.keys():
            raise damaged(key, "its manifest lacks a part")
        return dict(manifest)

    def discard(self, key: Key) -> None:
        """Forget a damaged artifact; it moves aside and is not read again."""
        path = self._path(key)
        aside = _beside(path)
        with suppress(OSError):  # another process was quicker, or it can only be read
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def __iter__(self) -> Iterator[Key]:
        """Of everything that is finished, in order."""
        for folder in sorted(self._home.glob("[0-9a-f][0-9a-f]/*")):
            if KEY.fullmatch(folder.name) and folder.name in self:
                yield folder.name

    def files(self, key: Key) -> dict[str, bytes]:
        """An artifact as it lies there, name by name.

        Raises:
            CorruptArtifact: if one can't be read.
        """
        try:
            return {name: (self._path(key) / name).read_bytes() for name in FILES}
        except OSError as error:
            raise damaged(key, str(error.strerror or error)) from None

    def bytes_of(self, key: Key) -> int:
        """How much room an artifact takes."""
        return sum(file.stat().st_size for file in self._path(key).glob("*"))

    def age_of(self, key: Key) -> float:
        """Seconds since an artifact was put there."""
        return time.time() - (self._path(key) / "manifest.json").stat().st_mtime

    def adopt(self, key: Key, files: Mapping[str, bytes]) -> bool:
        """Take in an artifact of another store, which was checked; whether it was not there yet."""
        if key in self:
            return False
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _beside(path)
        try:
            scratch.mkdir()
            for name, data in files.items():
                write_synced(scratch / name, data)
            self._place(scratch, key)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return True

    def rubbish(self) -> Iterator[Path]:
        """What processes left that were killed: scratch files and directories."""
        for pattern in ("[0-9a-f][0-9a-f]/.*-*-*", "unfinished/.*-*-*", "leases/.*"):
            yield from sorted(self._home.glob(pattern))
        yield from sorted(self.root.glob(".import-*"))

    def _path(self, key: Key) -> Path:
        return self._home / key[:2] / key


def _saved(tensors: Mapping[str, Tensor]) -> bytes:
    """Safetensors; without any tensor it takes no torch to say so."""
    if not tensors:
        from safetensors import serialize

        empty: bytes = serialize({})
        return empty
    from safetensors.torch import save

    untied = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return save(untied)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file so that readers see the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(path)
    try:
        write_synced(scratch, data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _beside(path: Path) -> Path:
    """A hidden name in the same directory that no other process uses."""
    return path.parent / f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}"


def damaged(key: Key, why: str) -> CorruptArtifact:
    return CorruptArtifact(f"artifact {key} is damaged: {why}")


def digest_of(data: bytes, info: Mapping[str, Any]) -> str:
    return sha256(data + _json(info)).hexdigest()
