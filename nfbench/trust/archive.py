"""Archives: a plain zip of safetensors and JSON, every member with its size and digest."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError, VerificationMismatch
from nfbench.reading import reason, strict_json
from nfbench.schema import CELL_NAME

FORMAT = 1
"""Raised when archives are laid out differently."""
SUFFIX = ".nfbench.zip"
MANIFEST = "manifest.json"
MAX_TOTAL = 16 * 2**30
"""Bytes of all members together, unpacked."""
MAX_MEMBER = 2 * 2**30
"""Bytes of one member, unpacked."""
MAX_MANIFEST = 64 * 2**20
MAX_RATIO, SMALL = 200, 64 * 2**20
"""How many bytes one packed byte may become, beyond a size that does no harm."""
_MEMBER = re.compile(
    rf"run\.json|results\.jsonl|gallery\.safetensors|samples/{CELL_NAME.pattern}\.safetensors"
    r"|breaks\.jsonl|breaks/[0-9a-f]{32}\.safetensors"
    r"|artifacts/[0-9a-f]{32}/(?:tensors\.safetensors|manifest\.json)"
)
"""All names there may be. None leads out of the directory that an archive is unpacked into."""
_CHUNK = 2**20


def pack(out: Path, members: Iterable[tuple[str, bytes]], facts: Mapping[str, Any]) -> str:
    """Write an archive, with zeros for dates: the same bytes for the same members in the same order.

    Args:
        out: the file, replaced if it is there.
        members: names and contents, one at a time.
        facts: what the manifest says besides: which versions and plugins it takes to check it.

    Returns:
        SHA-256 of the manifest, which stands for all that is in the archive.

    Raises:
        UsageError: for what no archive may hold, or if `out` can't be written.
    """
    scratch = out.with_name(f".{out.name}.part")
    listed: dict[str, dict[str, Any]] = {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(scratch, "w") as packed:
            for name, data in members:
                _require_packable(name, len(data))
                listed[name] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
                packed.writestr(_entry(name), data)
            manifest = {"format": FORMAT, **facts, "members": listed}
            text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
            packed.writestr(_entry(MANIFEST), text)
        scratch.replace(out)
    except OSError as error:
        raise UsageError(f"can't write {out}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # where nothing can be written there is nothing to remove
            scratch.unlink(missing_ok=True)
    return sha256(text).hexdigest()


def _require_packable(name: str, size: int) -> None:
    if not _MEMBER.fullmatch(name):
        raise UsageError(f"{name} can't go into an archive: rename what it is named after")
    if size > MAX_MEMBER:
        raise UsageError(f"{name} has {size} bytes, more than the {MAX_MEMBER} that an archive may hold")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def unpack(archive: Path, into: Path, *, most: int = MAX_TOTAL) -> dict[str, Any]:
    """Unpack an archive into an empty directory; its manifest.

    Nothing is written but members that the manifest lists, by names that lead nowhere else, and no
    more bytes of each than the manifest says.

    Raises:
        UsageError: if there is no such file, or its format is newer.
        CorruptArtifact: if it is no archive, or has a member that none may have.
        VerificationMismatch: naming the member that is not what the manifest says.
    """
    if not archive.is_file():
        raise UsageError(f"there is no file {archive}")
    try:
        with zipfile.ZipFile(archive) as packed:
            manifest = _manifest(archive, packed, most)
            for name, facts in manifest["members"].items():
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                _write(archive, packed, name, facts, into / name)
    except NFBenchError:
        raise
    except Exception as error:  # a damaged zip raises whatever it leads to
        raise CorruptArtifact(f"{archive} is no archive that can be read: {reason(error)}") from None
    return manifest


def _manifest(archive: Path, packed: zipfile.ZipFile, most: int) -> dict[str, Any]:
    """The manifest, once it and the directory of the zip agree on what there is."""
    entries = packed.infolist()
    names = Counter(entry.filename for entry in entries)
    if MANIFEST not in names:
        raise CorruptArtifact(f"{archive} has no {MANIFEST}: make it with `nfbench submit`")
    for entry in entries:
        _require_plain(archive, entry, names)
    data = b"".join(_parts(packed, MANIFEST, MAX_MANIFEST))
    manifest = strict_json(data, f"{archive}, {MANIFEST}")
    members = manifest.get("members") if isinstance(manifest, dict) else None
    if not isinstance(members, dict) or not all(map(_described, members.values())):
        raise CorruptArtifact(f"{archive}: {MANIFEST} does not list members with sha256 and size")
    if manifest.get("format") != FORMAT:
        raise UsageError(
            f"{archive} is of format {manifest.get('format')!r:.40}, this nfbench reads {FORMAT}"
        )
    for name in sorted({*members, MANIFEST} ^ set(names)):
        lacks = "is not in the archive" if name in members else "is not in manifest.json"
        raise VerificationMismatch(f"{archive}: {_shown(name)} {lacks}")
    if sum(member["size"] for member in members.values()) > most:
        raise CorruptArtifact(f"{archive} would take more than {most} bytes unpacked")
    return dict(manifest)


def _require_plain(archive: Path, entry: zipfile.ZipInfo, names: Counter[str]) -> None:
    """Refuse names that lead elsewhere, repeat, or belong to what is no file."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    if name != MANIFEST and not _MEMBER.fullmatch(name):
        raise CorruptArtifact(f"{archive}: no archive may hold {_shown(name)}")
    if names[entry.filename] > 1:
        raise CorruptArtifact(f"{archive}: {_shown(name)} is there twice")
    if kind not in (0, stat.S_IFREG):
        raise CorruptArtifact(f"{archive}: {_shown(name)} is a link or a special file")
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CorruptArtifact(f"{archive}: {_shown(name)} is encrypted, or packed in another way")


def _described(member: object) -> bool:
    if not isinstance(member, dict) or member.keys() != {"sha256", "size"}:
        return False
    size = member["size"]
    return isinstance(member["sha256"], str) and type(size) is int and size >= 0


def _write(
    archive: Path, packed: zipfile.ZipFile, name: str, facts: Mapping[str, Any], to: Path
) -> None:
    """Write a member piece by piece, for it may be large, and refuse what the manifest does not say."""
    hashed, size = sha256(), 0
    try:
        with to.open("wb") as file:
            for part in _parts(packed, name, min(facts["size"], MAX_MEMBER)):
                hashed.update(part)
                size += file.write(part)
    except Exception as error:  # of its checksum, of its stream, of its header
        raise CorruptArtifact(f"{archive}: {name} can't be read: {reason(error)}") from None
    if size != facts["size"] or hashed.hexdigest() != facts["sha256"]:
        raise VerificationMismatch(
            f"{archive}: {name} was changed: SHA-256 {hashed.hexdigest()} is not the one in {MANIFEST}"
        )


def _parts(packed: zipfile.ZipFile, name: str, most: int) -> Iterator[bytes]:
    """A member of at most `most` bytes, counted while it is read."""
    entry, size = packed.getinfo(name), 0
    with packed.open(name) as file:
        while part := file.read(_CHUNK):
            size += len(part)
            if size > most:
                raise ValueError(f"it is larger than {most} bytes")
            if size > max(SMALL, MAX_RATIO * entry.compress_size):
                raise ValueError(f"it was packed to less than 1/{MAX_RATIO} of its size")
            yield part


def _shown(name: str) -> str:
    return repr(name[:120])
