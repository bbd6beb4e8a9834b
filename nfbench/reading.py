"""Reading what strangers wrote: strict JSON, results and tensors, of bounded size."""

from __future__ import annotations

import gzip
import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nfbench.core.errors import CorruptArtifact, UsageError

MAX_LINE = 4 * 2**20
"""Bytes of a line of JSON; a cell takes about 10 kB."""
MAX_RESULTS = 2**30
"""Bytes of all lines together."""


def strict_json(data: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        CorruptArtifact: naming `where`, for anything that is not JSON by the book: NaN, infinities, also
            as numbers too large for a float, keys that repeat, lines and nesting without end.
    """
    if any(len(line) > MAX_LINE for line in data.split(b"\n")):
        raise CorruptArtifact(f"{where}: a line is longer than {MAX_LINE >> 20} MiB")
    try:
        return json.loads(
            data.decode(),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_once,
        )
    except (ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{where} is no valid JSON: {_first_line(error)}") from None


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not allowed")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} appears twice")
        found[name] = value
    return found


def results_bytes(folder: Path) -> bytes:
    """The lines of `results.jsonl` of a run directory or, where they are compressed, of a board's.

    Raises:
        UsageError: if there are none.
        CorruptArtifact: if they can't be read, or are no cells.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file: give its directory, {folder.parent}")
    plain, packed = folder / "results.jsonl", folder / "results.jsonl.gz"
    if not plain.is_file() and not packed.is_file():
        raise UsageError(f"{folder} is no run directory: it has no results.jsonl")
    try:
        with plain.open("rb") if plain.is_file() else gzip.open(packed) as file:
            data = file.read(MAX_RESULTS + 1)
    except (OSError, EOFError, ValueError) as error:  # gzip raises all of these
        raise CorruptArtifact(f"the results in {folder} can't be read: {error}") from None
    except Exception as error:  # zlib.error is no subclass of these
        raise CorruptArtifact(f"the results in {folder} are damaged: {error}") from None
    if len(data) > MAX_RESULTS:
        raise CorruptArtifact(f"the results in {folder} are larger than {MAX_RESULTS >> 30} GiB")
    if not data.strip():
        raise CorruptArtifact(f"the results in {folder} are empty: it has no cells")
    return data


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return sha256(data).hexdigest()


def tensors_of(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file.

    Raises:
        CorruptArtifact: naming `where`, if it is none.
    """
    from safetensors.numpy import load

    try:
        return load(data)
    except Exception as error:  # headers that lie raise whatever they lead to
        raise CorruptArtifact(f"{where} is no safetensors file: {_first_line(error)}") from None


def read_bytes(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes.

    Raises:
        UsageError: if it can't be read or is larger.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= most else b""
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from None
    if size > most:
        raise UsageError(f"{path} has {size} bytes, more than the {most} allowed")
    return data


def reason(error: Exception, most: int = 200) -> str:
    """What an exception says, in one line of at most `most` characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
