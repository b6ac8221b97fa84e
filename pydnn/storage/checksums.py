"""Seals: checksums in front of an HDF5 file that reveal any changed byte.

HDF5 lets a file begin with a user block, which it never reads. The seal lies there. It holds the
SHA-256 of every byte after that digest, the CRC-32 of the seal's own text, and that text: JSON
with the file's length, and the place and CRC-32 of each array. So pydnn knows whether a file is
intact before HDF5 reads any of it, and if not, which array is damaged.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, NamedTuple

from pydnn.checks import BadInput
from pydnn.storage.files import RESTORE

__all__ = [
    "NotSealed",
    "expect_sealed",
    "may_be_sealed",
    "room_for_seal",
    "seal",
    "sealed_bytes",
]

_DIGITS = 64
_TEXT = _DIGITS + 10  # where the text begins: after a space, 8 digits of its CRC-32, and a space
_CHUNK = 1 << 20
_MOST_ROOM = 1 << 24
_AN_ENTRY = 60  # characters of JSON around a name: two numbers of 20 digits and one of 10

_HDF5 = b"\x89HDF\r\n\x1a\n"  # the first bytes of a file without a user block

Places = Mapping[str, tuple[int, int]]  # by array: where it begins in the file, and its bytes


class NotSealed(BadInput):
    """An HDF5 file that was written without a seal, or by a stranger."""


def room_for_seal(names: Iterable[str]) -> int:
    """The bytes of the user block for arrays with these names: a power of two, at least 512."""
    needed = 3 * _DIGITS + sum(len(json.dumps(name)) + _AN_ENTRY for name in names)
    return max(512, 1 << (needed - 1).bit_length())


def seal(image: bytes | memoryview, places: Places, *, room: int) -> bytes:
    """The seal of a file: `room` bytes that go in front of its `image`.

    Args:
        image: The bytes of the file after the user block.
        places: By array, where it begins in the whole file, and its number of bytes.
        room: The bytes of the user block, from `room_for_seal`.
    """
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
    """Whether a file that begins with `head` has a seal, or had one before it was damaged."""
    text = b'{"bytes": '
    return bool(head) and (
        set(head[:_DIGITS]) <= set(b"0123456789abcdef")
        or head[_TEXT:].startswith(text)
        or any(head[1 << n :].startswith(_HDF5) for n in range(9, _MOST_ROOM.bit_length()))
    )


def expect_sealed(file: BinaryIO, path: str) -> None:
    """Refuse a file if any of its bytes has changed since it was sealed.

    Args:
        file: The file, open for reading.
        path: Its name, for the message.

    Raises:
        NotSealed: If it is an HDF5 file without a seal. A sealed file cannot look like one unless
            all of its first eight bytes change.
        BadInput: If a byte has changed. The message names the file and, if possible, the array.
        OSError: If the file cannot be read.
    """
    if file.read(len(_HDF5)) == _HDF5:
        raise NotSealed(f"{path} has no seal, expected one: {RESTORE}.")
    size = file.seek(0, 2)
    record = _record(file, size)
    # Compare the length first: a file may claim gigabytes of zeros, which take minutes to hash.
    intact = record is not None and record.size == size
    if not intact or file.seek(0) or file.read(_DIGITS) != _digest(file):
        raise BadInput(f"{_changed(file, record, size)} in {path} is damaged: {RESTORE}.")


def sealed_bytes(file: BinaryIO) -> Callable[[str], bytes | None]:
    """A function that reads the bytes of one array where the seal says that they are.

    It takes microseconds, where HDF5 needs a millisecond. It returns None if the seal lists no such
    array, or the bytes do not have the CRC-32 in the seal; then HDF5 can say what is wrong. What a
    stranger's seal lists need not be what HDF5 would read.

    Args:
        file: The file, open for reading.
    """
    size = file.seek(0, 2)
    record = _record(file, size)
    arrays = {} if record is None else {name: place for name, *place in record.arrays}

    def read(name: str) -> bytes | None:
        start, count, crc = arrays.get(name, (0, -1, 0))
        if not (0 <= start <= size and 0 <= count <= size - start):
            return None
        file.seek(start)
        content = file.read(count)
        return content if zlib.crc32(content) == crc else None

    return read


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


class _Record(NamedTuple):
    """The content of a seal: the file's length, and of each array its name, place and CRC-32."""

    size: int
    arrays: list[tuple[str, int, int, int]]


def _record(file: BinaryIO, size: int) -> _Record | None:
    """The content of the seal; None if its own text is damaged."""
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
        return _Record(int(plain["bytes"]), arrays)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _changed(file: BinaryIO, record: _Record | None, size: int) -> str:
    """The part of the file that differs from the seal: an array, the length, the seal itself."""
    # A stranger's seal may hold any names, and may list the same bytes so often that computing
    # all their CRCs would never end. An honest seal lists each byte of the file at most once.
    if (
        record is None
        or not all(name.isprintable() for name, *_ in record.arrays)
        or sum(abs(count) for _, _, count, _ in record.arrays) > size
    ):
        return "the seal"
    if size != record.size:
        return f"the length, {size} bytes instead of {record.size},"
    for name, start, count, crc in record.arrays:
        if not (0 <= start <= size and 0 <= count <= size) or _crc(file, start, count) != crc:
            return name
    return "the structure"
