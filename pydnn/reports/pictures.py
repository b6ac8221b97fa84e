"""Pictures inside a page, as PNG without compression: the same bytes from every version of zlib."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.reports.markup import Markup, element

__all__ = ["picture", "png"]

_MOST_SIDE = 96  # pixels, so that a dozen pictures stay small
_BLOCK = 65_535  # bytes in a stored block of deflate at most


def png(pixels: ArrayLike) -> bytes:
    r"""The bytes of a PNG file.

    Args:
        pixels: Colors uint8 (height, width, 3), or grays uint8 (height, width).

    References:
        W3C, Portable Network Graphics, third edition, 2025; Deutsch, RFC 1951, 1996, 3.2.4.

    Example:
        >>> png(np.zeros((2, 3, 3), np.uint8))[:8]
        b'\x89PNG\r\n\x1a\n'
    """
    array: NDArray[np.uint8] = np.ascontiguousarray(pixels, np.uint8)
    height, width = array.shape[:2]
    lines = array.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()
    blocks = [raw[start : start + _BLOCK] for start in range(0, len(raw), _BLOCK)]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block
        for block in blocks
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if array.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def picture(values: ArrayLike, description: str) -> Markup:
    """An image element with the picture in it.

    Args:
        values: Numbers from 0 to 1, (height, width, 3) or (height, width); others are cut off.
            Larger pictures than 96 pixels lose rows and columns.
        description: What the picture shows, for people who do not see it.
    """
    array = np.asarray(values, np.float64)
    step = -(-max(array.shape[:2]) // _MOST_SIDE)
    small = np.clip(array[::step, ::step], 0, 1)
    text = base64.b64encode(png(np.rint(small * 255))).decode()
    height, width = small.shape[:2]
    return element(
        "img",
        src=Markup(f"data:image/png;base64,{text}"),
        alt=description,
        width=width,
        height=height,
    )
