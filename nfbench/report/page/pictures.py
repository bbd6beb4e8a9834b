"""Pictures as data URIs: PNG, uncompressed, so that every library and processor makes the same bytes."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from nfbench.report.metrics import Vector

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOURS = 0, 2
_BLOCK = 65_535
"""Bytes of a block that is stored as it is (RFC 1951, section 3.2.4)."""


def png(pixels: Vector) -> str:
    """A (C, H, W) image in [0, 1] as a data URI; one channel is grey, three are colours."""
    whole = np.clip(np.nan_to_num(pixels) * 255 + 0.5, 0, 255).astype(np.uint8)
    kept = whole.transpose(1, 2, 0) if len(whole) == 3 else whole[0][..., None]
    height, width, channels = kept.shape
    unfiltered = np.zeros((height, 1), dtype=np.uint8)
    lines = np.concatenate([unfiltered, kept.reshape(height, width * channels)], axis=1)
    kind = _COLOURS if channels == 3 else _GREY
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(lines.tobytes())), (b"IEND", b""))
    whole_file = _SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)
    return "data:image/png;base64," + base64.b64encode(whole_file).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _stored(data: bytes) -> bytes:
    """A zlib stream (RFC 1950) of blocks that are not compressed."""
    blocks = []
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(data))
