"""Checkpoints: what an unfinished job has so far, so that an interruption costs minutes, not hours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.store import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

EVERY = 30.0
"""Seconds between two checkpoints of a job; shorter jobs have none."""


@dataclass(frozen=True, eq=False)
class Progressed:
    """How far a job is: tensors, and plain data that says what they are."""

    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any]


@dataclass(eq=False)
class Checkpoint:
    """The checkpoint of one job. Damaged, foreign or unwritable ones are as good as none."""

    path: Path
    made_by: str
    """Versions; what other ones left is not gone on with."""
    every: float = field(default_factory=lambda: EVERY)
    _last: float = field(default_factory=time.monotonic)

    def load(self) -> Progressed | None:
        """What there is, if it is whole and of the same versions."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                said = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        info = said.get("info", "")
        if said.get("made_by") != self.made_by or said.get("digest") != _digest(tensors, info):
            return None
        return Progressed(tensors, json.loads(info))

    def save(self, make: Callable[[], Progressed]) -> None:
        """Keep what `make` gives, unless the last time is too short ago; a full disk costs nothing."""
        from safetensors.torch import save

        if time.monotonic() - self._last < self.every:
            return
        made = make()
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in made.tensors.items()}
        info = json.dumps(made.info)
        said = {"made_by": self.made_by, "digest": _digest(tensors, info), "info": info}
        with suppress(OSError):
            write_atomic(self.path, save(tensors, said))
        self._last = time.monotonic()

    def clear(self) -> None:
        """The job is done."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor], info: str) -> str:
    import torch

    digest = sha256(info.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
