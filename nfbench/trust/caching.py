"""Care of a cache: what is in it, what nobody refers to, and moving it between machines."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nfbench.core.errors import CorruptArtifact, UsageError
from nfbench.leases import alive
from nfbench.reading import results_bytes
from nfbench.store import KEY, Job, Key, Store, damaged, digest_of
from nfbench.trust.archive import pack, unpack

MOST = 2**40
"""Bytes that an archive of a cache may unpack to."""


@dataclass(frozen=True)
class Held:
    """What one kind of job has in a cache."""

    kind: str
    count: int
    bytes: int


def holdings(store: Store) -> list[Held]:
    """How many artifacts of each kind there are, and the room they take; the most room first."""
    counts, sizes = Counter[str](), Counter[str]()
    for key in store:
        try:
            kind = str(store.manifest(key).get("job", {}).get("kind", "?"))
        except CorruptArtifact:
            kind = "damaged"
        counts[kind] += 1
        sizes[kind] += store.bytes_of(key)
    return [Held(kind, counts[kind], size) for kind, size in sizes.most_common()]


def require_whole(key: Key, files: Mapping[str, bytes]) -> None:
    """Refuse what is not an artifact of this key.

    Raises:
        CorruptArtifact: saying what is wrong.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        manifest = json.loads(files["manifest.json"])
        made, tensors = _job_of(manifest).key, files["tensors.safetensors"]
        digest = digest_of(tensors, manifest["info"])
        load(tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(key, f"its manifest can't be read ({type(error).__name__}: {error})") from None
    except SafetensorError as error:
        raise damaged(key, f"its tensors can't be read ({error})") from None
    if digest != manifest.get("sha256"):
        raise damaged(key, "its content does not have the digest it was stored with")
    if made != key:
        raise damaged(key, "its recipe has another key: another version made it")


def _job_of(manifest: Mapping[str, Any]) -> Job:
    """What an artifact says it was made by. Raises TypeError or KeyError for what can't be."""
    told = manifest["job"]
    plain = [manifest["info"], manifest["provenance"], told["recipe"], told["needs"]]
    if list(map(type, plain)) != [dict, dict, dict, list]:
        raise TypeError("a part of it is of the wrong kind")
    if not all(isinstance(need, str) and KEY.fullmatch(need) for need in told["needs"]):
        raise TypeError("it needs what is no key")
    return Job(told["kind"], told["recipe"], tuple(told["needs"]))


def spoilt(store: Store) -> Iterator[tuple[Key, str]]:
    """Artifacts that are not what they were stored as, and why."""
    for key in store:
        try:
            require_whole(key, store.files(key))
        except CorruptArtifact as error:
            yield key, str(error)


def runs_below(folder: Path) -> list[Path]:
    """Run directories and results of boards in a folder, itself among them."""
    return sorted({path.parent for path in folder.rglob("results.jsonl*")})


def referred_to(store: Store, runs: Iterable[Path]) -> set[Key]:
    """Artifacts that results were computed from, and all that those were made from.

    Studies stay too: their results don't name them.
    """
    digests: set[str] = set()
    for path in runs:
        for line in results_bytes(path).splitlines():
            digests |= set(json.loads(line).get("inputs", ()))
    manifests = {}
    for key in store:
        with suppress(CorruptArtifact):
            manifests[key] = store.manifest(key)
    kept: set[Key] = set()
    stack = [key for key, manifest in manifests.items() if manifest["sha256"] in digests]
    while stack:
        key = stack.pop()
        if key not in kept:
            kept.add(key)
            stack += [need for need in manifests[key]["job"]["needs"] if need in manifests]
    for key, manifest in manifests.items():  # results don't name what timed their detectors
        if manifest["job"]["kind"] == "time" and kept.issuperset(manifest["job"]["needs"]):
            kept.add(key)
    return kept | {key for key, manifest in manifests.items() if manifest["job"]["kind"] == "study"}


@dataclass(frozen=True)
class Clearing:
    """What can go."""

    rubbish: list[Path]
    """Left by processes that were killed."""
    unused: list[Key]
    """Artifacts that nothing refers to."""
    bytes: int


def clearing(
    store: Store, kept: Collection[Key] | None, older: float, now: float | None = None
) -> Clearing:
    """What can go without anybody missing it.

    Args:
        store: the cache.
        kept: artifacts that stay, as well as what they were made from; None leaves all alone.
        older: seconds; what is younger stays.
        now: the time, in seconds since 1970.
    """
    now = time.time() if now is None else now
    rubbish = [path for path in store.rubbish() if _older(path, older, now)]
    rubbish += [
        path
        for path in sorted(store.unfinished.glob("*.safetensors"))
        if _stale(store, path, older, now)
    ]
    rubbish += [path for path in sorted(store.leases.glob("*.json")) if _void(path)]
    unused: list[Key] = []
    if kept is not None:
        unused = [k for k in store if k not in kept and store.age_of(k) > older]
    size = sum(_size(path) for path in rubbish) + sum(store.bytes_of(key) for key in unused)
    return Clearing(rubbish, unused, size)


def clear(store: Store, what: Clearing) -> None:
    """Remove it."""
    for path in what.rubbish:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for key in what.unused:
        store.discard(key)


def _older(path: Path, seconds: float, now: float) -> bool:
    with suppress(OSError):
        return now - path.stat().st_mtime > seconds
    return False


def _stale(store: Store, checkpoint: Path, seconds: float, now: float) -> bool:
    """A checkpoint of a job that is done, or that nobody went on with."""
    return checkpoint.stem in store or _older(checkpoint, seconds, now)


def _void(lease: Path) -> bool:
    """Whether the process of a lease is known to be dead."""
    with suppress(OSError, ValueError):
        return alive(json.loads(lease.read_text("utf-8"))) is False
    return False


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def export(store: Store, keys: Collection[Key], out: Path) -> int:
    """Pack artifacts into an archive; how many.

    Raises:
        UsageError: if it can't be written, or there is nothing to pack.
        CorruptArtifact: if one is damaged.
    """
    if not keys:
        raise UsageError(f"{store.root} has nothing to export")

    def members() -> Iterator[tuple[str, bytes]]:
        for key in sorted(keys):
            files = store.files(key)
            require_whole(key, files)
            for name, data in files.items():
                yield f"artifacts/{key}/{name}", data

    pack(out, members(), {"kind": "cache"})
    return len(keys)


def take_in(store: Store, archive: Path) -> tuple[int, int]:
    """Take in the artifacts of an archive; how many are new, of how many.

    A key says what an artifact is to be made from, not that it was: import from people you trust.

    Raises:
        NFBenchError: if it is no archive, or holds what it should not; nothing is taken in then.
    """
    if not store.writable:
        raise UsageError(f"can't write to the cache {store.root}; set --cache-dir")
    with TemporaryDirectory(prefix=".import-", dir=store.root) as name:
        folder = Path(name)
        unpack(archive, folder, most=MOST)
        found = {}
        for home in sorted((folder / "artifacts").glob("*")):
            found[home.name] = home
            require_whole(home.name, {file.name: file.read_bytes() for file in home.iterdir()})
        if not found:
            raise UsageError(f"{archive} holds no artifacts: make it with nfbench cache export")
        new = 0
        for key, home in found.items():
            new += store.adopt(key, {file.name: file.read_bytes() for file in home.iterdir()})
    return new, len(found)
