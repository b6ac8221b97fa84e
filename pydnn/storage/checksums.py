"""Seals: a checksum in front of an HDF5 file, so that no changed byte of it is ever believed.

HDF5 leaves room before its own first byte, the user block. The seal lies there: the SHA-256 of
every byte after it; the CRC-32 of the seal's own text; and that text, which is JSON: the file's
length, and the place and CRC-32 of each array. So whether a file is whole is known before HDF5
reads any of it, and which of its arrays is not, too.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import BinaryIO, NamedTuple

from pydnn.checks import BadInput

__all__ = ["NotSealed", "expect_sealed", "may_be_sealed", "room_for_seal", "seal"]

_DIGITS = 64
_TEXT = _DIGITS + 10  # where it begins: after a blank, 8 digits of its CRC-32, and a blank
_CHUNK = 1 << 20
_MOST_ROOM = 1 << 24
_AN_ENTRY = 60  # letters of JSON around a name: two numbers of 20 digits and one of 10

_HDF5 = b"\x89HDF\r\n\x1a\n"  # how a file begins that has no room in front of it

Places = Mapping[str, tuple[int, int]]  # of each array: where it begins in the file, and its bytes


class NotSealed(BadInput):
    """An HDF5 file that was written without a seal, or by a stranger."""


def room_for_seal(names: Iterable[str]) -> int:
    """Bytes of the user block for a file of arrays with these names: a power of two, from 512."""
    needed = 3 * _DIGITS + sum(len(json.dumps(name)) + _AN_ENTRY for name in names)
    return max(512, 1 << (needed - 1).bit_length())


def seal(image: bytes | memoryview, places: Places, *, room: int) -> bytes:
    """The seal of a file, `room` bytes that go in front of its `image`."""
    whole = memoryview(image)
    arrays = {
        name: (start, size, zlib.crc32(whole[start - room : start - room + size]))
        for name, (start, size) in places.items()
    }
    text = json.dumps({"bytes": room + len(image), "room": room, "arrays": arrays}).encode()
    text = text.ljust(room - _TEXT - 1)
    sealed = b" %08x " % zlib.crc32(text) + text + b"\n"
    digest = hashlib.sha256(sealed)
    digest.update(image)
    return digest.hexdigest().encode() + sealed


def may_be_sealed(head: bytes) -> bool:
    """Whether a file that begins with `head` has, or had before it was damaged, a seal."""
    text = b'{"bytes": '
    return (
        set(head[:_DIGITS]) <= set(b"0123456789abcdef")
        or head[_TEXT:].startswith(text)
        or any(head[1 << n :].startswith(_HDF5) for n in range(9, _MOST_ROOM.bit_length()))
    )


def expect_sealed(file: BinaryIO, path: str) -> None:
    """Refuse a file of which any byte is not as it was when it was sealed.

    Args:
        file: The file, open for reading.
        path: Its name, for the message.

    Raises:
        NotSealed: If it is an HDF5 file that has no seal. A sealed one cannot look like that unless
            all of its first eight bytes change.
        BadInput: Naming the file and, as far as it can be known, what in it has changed.
        OSError: If it cannot be read.
    """
    if file.read(len(_HDF5)) == _HDF5:
        raise NotSealed(f"{path} has no seal, expected one: get the file again.")
    size = file.seek(0, 2)
    told = _told(file, size)
    # The length first: a file that claims gigabytes of zeros would be hashed for minutes.
    if told is None or told.size != size or file.seek(0) or file.read(_DIGITS) != _digest(file):
        raise BadInput(f"{_changed(file, told, size)} in {path} is damaged: get the file again.")


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    file.seek(_DIGITS)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()


def _crc(file: BinaryIO, start: int, size: int) -> int:
    crc = 0
    file.seek(start)
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        crc = zlib.crc32(chunk, crc)
        size -= len(chunk)
    return crc


class _Told(NamedTuple):
    """What a seal says: the file's length, and where each array lies, with its CRC-32."""

    size: int
    arrays: list[tuple[str, int, int, int]]


def _told(file: BinaryIO, size: int) -> _Told | None:
    """What the seal says, or None if its own text is damaged."""
    file.seek(_DIGITS)
    digits, text = file.read(_TEXT - _DIGITS), file.read(min(size, _MOST_ROOM)).partition(b"\n")[0]
    try:
        if digits != b" %08x " % zlib.crc32(text):
            return None
        plain = json.loads(text)
        arrays = [
            (str(name), int(start), int(count), int(crc))
            for name, (start, count, crc) in plain["arrays"].items()
        ]
        return _Told(int(plain["bytes"]), arrays)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _changed(file: BinaryIO, told: _Told | None, size: int) -> str:
    """What is no longer as the seal says; its own text may be what is damaged."""
    # What a stranger writes there may name anything, and any stretch over and over again.
    if (
        told is None
        or not all(name.isprintable() for name, *_ in told.arrays)
        or sum(abs(count) for _, _, count, _ in told.arrays) > size
    ):
        return "the seal"
    if size != told.size:
        return f"the length, {size} bytes instead of {told.size},"
    for name, start, count, crc in told.arrays:
        if not (0 <= start <= size and 0 <= count <= size) or _crc(file, start, count) != crc:
            return name
    return "the structure"
