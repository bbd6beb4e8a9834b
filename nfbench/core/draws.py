"""Random draws that belong to an image, not to the batch it happens to be in."""

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A 63-bit seed from whatever identifies a stream; equal on every machine."""
    digest = sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Draws:
    """One random stream for each (role, image), seeded by (seed, role, image index).

    Drawn on the CPU, so a GPU run sees the same numbers; a stream goes on where its last draw
    ended, so an image's numbers do not depend on the batch size or on its neighbours.
    """

    def __init__(self, seed: int, index: Sequence[int]) -> None:
        self._seed, self._index = seed, [int(i) for i in index]
        self._streams: dict[tuple[str, int], torch.Generator] = {}

    def __len__(self) -> int:
        return len(self._index)

    def select(self, rows: Sequence[int] | Tensor) -> "Draws":
        """The streams of some of the images; drawing from either advances both."""
        chosen = Draws(self._seed, [self._index[int(row)] for row in rows])
        chosen._streams = self._streams
        return chosen

    def uniform(self, role: str, like: Tensor) -> Tensor:
        """Numbers in [0, 1), shaped and placed as `like`. (B, ...)"""
        shape = like.shape[1:]
        rows = [torch.rand(shape, generator=g, dtype=torch.float32) for g in self._of(role)]
        return torch.stack(rows).to(like)

    def normal(self, role: str, like: Tensor) -> Tensor:
        """Standard normal numbers, shaped and placed as `like`. (B, ...)"""
        shape = like.shape[1:]
        return torch.stack([torch.randn(shape, generator=g) for g in self._of(role)]).to(like)

    def signs(self, role: str, count: int, like: Tensor) -> Tensor:
        """`count` arrays of fair coin flips in {-1, +1} for each image. (B, count, ...)"""
        shape = (count, *like.shape[1:])
        bits = [torch.randint(2, shape, generator=g, dtype=torch.int8) for g in self._of(role)]
        return torch.stack(bits).to(like).mul_(2).sub_(1)

    def integers(self, role: str, high: int) -> Tensor:
        """One integer in [0, high) for each image. (B,) int64, on the CPU."""
        return torch.cat([torch.randint(high, (1,), generator=g) for g in self._of(role)])

    def _of(self, role: str) -> list[torch.Generator]:
        return [self._stream(role, index) for index in self._index]

    def _stream(self, role: str, index: int) -> torch.Generator:
        key = role, index
        if key not in self._streams:
            self._streams[key] = torch.Generator().manual_seed(seed_of(self._seed, *key))
        return self._streams[key]
