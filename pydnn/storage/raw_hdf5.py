"""Readers for chunks and texts of an HDF5 file that verify its bytes instead of trusting HDF5.

HDF5 inflates a chunk to whatever size its stream has, and fills a chunk that is too short with
leftover memory of the process. For a text of varying size it allocates as much memory as the file
claims, and a changed byte in the heap of such texts makes it crash or loop forever. The functions
here know the right size of each piece before they read it, and refuse any other.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, TypeAlias

import h5py
import numpy as np

from pydnn.checks import BadInput
from pydnn.records import AnyArray

__all__ = [
    "Damage",
    "expect_numpy_numbers",
    "read_chunks",
    "varying_attribute",
    "varying_texts",
]


class Damage(ValueError):  # noqa: N818 - it names the file's state, not our failure
    """The bytes of a file contradict its header; the message leaves out the file's name."""


# Chunks

_Content: TypeAlias = "bytes | memoryview"
_DEFLATE, _SHUFFLE = 1, 2  # HDF5's numbers for its filters
_SHORT, _TALL = 16, 512  # numbers of a chunk's row, and rows of a chunk
_PIPELINES: list[list[int]] = [[], [_DEFLATE], [_SHUFFLE], [_SHUFFLE, _DEFLATE]]


def read_chunks(
    where: str,
    dataset: h5py.Dataset,
    array: AnyArray,
    *,
    raw: BinaryIO,
    first: int = 0,
    readers: int = 1,
) -> None:
    """Fill `array` with rows of a chunked data set, and check that each chunk has its exact size.

    Args:
        where: The name of the data set and of its file, for messages.
        dataset: The data set, of at least one entry.
        array: An array of the same dtype, and of the same shape unless it has fewer rows.
        raw: The open file.
        first: The number of the row that comes first in `array`.
        readers: The number of threads that read chunks at the same time.

    Raises:
        BadInput: If anything but one gzip (deflate), with or without shuffle, compresses it.
        Damage: If a chunk is missing, too large or too small.
    """
    filters = _filters(where, dataset)
    chunks = _Chunks(dataset, filters, raw)
    height = chunks.shape[0]
    bands = range(first - first % height, first + len(array), height)
    steps = zip(dataset.shape[1:], chunks.shape[1:], strict=True)
    corners = itertools.product(bands, *(range(0, n, step) for n, step in steps))

    def read(corner: tuple[int, ...], place: _Place) -> None:
        # Chunks at the edge of the array are stored in full size, and reach beyond it; those at
        # the edge of the rows in question hold other rows, too.
        start = corner[0] - first
        above = max(0, -start)
        at = (start + above, *corner[1:])
        shape = (height - above, *chunks.shape[1:])
        target = array[tuple(slice(a, a + n) for a, n in zip(at, shape, strict=True))]
        if target.shape == chunks.shape and target.flags.c_contiguous and chunks.plain(place):
            chunks.fill(target.reshape(-1).view(np.uint8).data, place.offset)
            return
        block = chunks.read(corner, place)[above:]
        _copy(block[tuple(map(slice, target.shape))], target)

    if readers == 1:
        for corner in corners:
            read(corner, chunks.place(corner))
        return
    from concurrent.futures import ThreadPoolExecutor  # here, since few files need it

    # HDF5 looks up the places on this thread; the others do without its lock, and without Python's
    # while they read, inflate and copy.
    found = iter([(corner, chunks.place(corner)) for corner in corners])

    def take_turns() -> None:
        for corner, place in found:
            read(corner, place)

    with ThreadPoolExecutor(readers - 1) as pool:
        others = [pool.submit(take_turns) for _ in range(readers - 1)]
        take_turns()
        for other in others:
            other.result()


def _copy(block: AnyArray, target: AnyArray) -> None:
    """Copy a part of a chunk to its place, several small numbers at once where their places allow.

    NumPy copies the numbers of a row one by one, and the rows of h5py's own chunks are short.
    """
    length = block.shape[-1] * block.itemsize
    for width in (8, 4, 2):
        if width > block.itemsize and not any(
            array.strides[-1] != array.itemsize
            or any(stride % width for stride in array.strides[:-1])
            or (array.__array_interface__["data"][0] | length) % width
            for array in (block, target)
        ):
            block, target = (array.view(f"u{width}") for array in (block, target))
            break
    if math.prod(block.shape[1:]) > _SHORT or len(block) < _TALL:
        target[...] = block
        return
    # NumPy's inner loop would run along the short rows, which takes twice as long.
    for place in np.ndindex(block.shape[1:]):
        target[(slice(None), *place)] = block[(slice(None), *place)]


class _Place(NamedTuple):
    """Where the bytes of a chunk are in the file, and which filters were skipped for it."""

    offset: int
    size: int
    skipped: int


class _Chunks:
    """The chunks of a data set, read without HDF5's lock where the file allows.

    Attributes:
        shape: The shape of each.
    """

    def __init__(self, dataset: h5py.Dataset, filters: list[int], raw: BinaryIO) -> None:
        self.shape: tuple[int, ...] = dataset.chunks
        self._id, self._filters, self._dtype = dataset.id, filters, dataset.dtype
        self._size = math.prod(self.shape) * self._dtype.itemsize
        self._limit = dataset.file.id.get_filesize()
        self._handle: int | None = None
        # Versions of HDF5 disagree on whether places count from a user block's end.
        if hasattr(os, "preadv") and not dataset.file.userblock_size:
            with contextlib.suppress(OSError):  # raised for bytes in memory
                self._handle = raw.fileno()

    def place(self, corner: tuple[int, ...]) -> _Place:
        stored = self._id.get_chunk_info_by_coord(corner)
        if stored.byte_offset is None or stored.size > self._limit:
            raise Damage(f"the chunk at {corner} is not in the file")
        return _Place(stored.byte_offset, stored.size, stored.filter_mask)

    def plain(self, place: _Place) -> bool:
        """Whether the numbers of a chunk are in the file as in memory, so that `fill` reads them.

        A stranger's truth value may have any of 8 bits.
        """
        unfiltered = place.skipped == (1 << len(self._filters)) - 1
        fits = place.size == self._size and self._dtype.kind != "b"
        return unfiltered and fits and self._handle is not None

    def fill(self, view: memoryview, offset: int) -> None:
        """Fill memory with the bytes at an offset."""
        assert self._handle is not None
        at = 0
        while at < len(view):
            count = os.preadv(self._handle, [view[at:]], offset + at)
            if not count:
                raise Damage("the file ends too early")
            at += count

    def read(self, corner: tuple[int, ...], place: _Place) -> AnyArray:
        """The chunk at a corner, in its full shape."""
        content: _Content
        if self._handle is None:
            skipped, content = self._id.read_direct_chunk(corner)
        else:
            skipped, content = place.skipped, np.empty(place.size, np.uint8).data
            self.fill(content, place.offset)
        for number, kind in reversed(list(enumerate(self._filters))):
            if not skipped >> number & 1:
                if kind == _DEFLATE:
                    content = _inflated(content, self._size)
                else:
                    content = _unshuffled(content, self._dtype.itemsize)
        if len(content) != self._size:
            raise Damage(
                f"the chunk at {corner} does not hold the {self._size} bytes that it claims"
            )
        block: AnyArray = np.frombuffer(content, self._dtype)
        if block.dtype.kind == "b":
            block = block.view(np.uint8) != 0  # a stranger's truth value may have any of 8 bits
        return block.reshape(self.shape)


def _filters(where: str, dataset: h5py.Dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number) for number in range(plist.get_nfilters())]
    kinds = [kind for kind, *_ in filters]
    sizes = [values[:1] for kind, _, values, *_ in filters if kind == _SHUFFLE]
    if kinds not in _PIPELINES or sizes not in ([], [(dataset.dtype.itemsize,)]):
        names = ", ".join(name.decode(errors="replace") or "?" for *_, name in filters)
        raise BadInput(
            f"{where} is compressed by {names}, expected gzip once or no compression: write it "
            "again that way."
        )
    expect_numpy_numbers(where, dataset)
    return kinds


def expect_numpy_numbers(where: str, dataset: h5py.Dataset) -> None:
    """Refuse numbers in a format that NumPy lacks, whose bytes would be misread as they are.

    h5py names the nearest dtype for such a format, because HDF5 would convert the numbers to it.

    Args:
        where: The name of the data set and of its file, for messages.
        dataset: The data set.

    Raises:
        BadInput: If NumPy does not have the format of its numbers.
    """
    kinds = dataset.id.get_type(), h5py.h5t.py_create(dataset.dtype)
    ours, numpys = (k.get_super() if isinstance(k, h5py.h5t.TypeEnumID) else k for k in kinds)
    if dataset.dtype.kind != "S" and ours != numpys:
        raise BadInput(
            f"{where} holds numbers in a format that NumPy does not have, expected "
            f"{dataset.dtype}: convert the numbers to that format."
        )


def _inflated(content: _Content, size: int) -> bytes:
    """The content of a deflated chunk; it never takes memory for more than `size` + 1 bytes."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(content, size + 1)
    except zlib.error as error:
        raise Damage(f"a chunk cannot be inflated ({error})") from error
    if not stream.eof or stream.unused_data:
        raise Damage(f"a chunk does not end after the {size} bytes that it claims")
    return inflated


def _unshuffled(content: _Content, item: int) -> _Content:
    whole = np.frombuffer(content, np.uint8)
    if whole.size % item:
        raise Damage("a chunk ends in the middle of a number")
    numbers = np.empty((whole.size // item, item), np.uint8)
    for place, some in enumerate(whole.reshape(item, -1)):  # faster than a transposed copy
        numbers[:, place] = some
    return numbers.reshape(-1).data


# Texts of varying size
#
# Such a text lies in a heap. Its place in the data set or attribute holds a reference: the length
# of the text, the address of the heap, and the text's number in it. All of this is in the HDF5 File
# Format Specification,
# https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, sections III.E (global
# heap), II.A (superblock) and IV.A (object headers).

_REFERENCE = 16
_MOST_HEAP = 1 << 24  # bytes of one heap; HDF5's have 4096 unless a text is longer
_MOST_KEPT = 1 << 22  # bytes of the heaps that are in memory at the same time


class _File(NamedTuple):
    """The bytes of an HDF5 file with addresses of 8 bytes, which count from `base`."""

    raw: BinaryIO
    base: int

    def read(self, address: int, count: int) -> bytes:
        self.raw.seek(self.base + address)
        piece = self.raw.read(count)
        if len(piece) != count:
            raise Damage("it claims bytes after the end of the file")
        return piece


def _number(raw: bytes, at: int, size: int) -> int:
    return int.from_bytes(raw[at : at + size], "little")


def varying_texts(
    raw: BinaryIO, dataset: h5py.Dataset, *, most: int, rows: int
) -> Iterator[list[bytes]]:
    """The texts of varying size in a one-dimensional data set, in blocks.

    Args:
        raw: The open file.
        dataset: The data set.
        most: The largest number of bytes that a text may have.
        rows: The number of texts of a block.

    Raises:
        Damage: If a text is longer, or its bytes contradict its header.
    """
    offset = dataset.id.get_offset()
    if offset is None or dataset.id.get_storage_size() != dataset.size * _REFERENCE:
        raise Damage("its texts are not in one block")
    file = _File(raw, _superblock(raw, dataset.file.userblock_size)[0])
    sizes = [min(rows, dataset.size - first) for first in range(0, dataset.size, rows)]
    references = (
        _File(raw, 0).read(offset + number * rows * _REFERENCE, size * _REFERENCE)
        for number, size in enumerate(sizes)
    )
    texts = _texts(file, references, most)
    for size in sizes:
        yield list(itertools.islice(texts, size))


def varying_attribute(
    raw: BinaryIO, name: str, *, most: int, count: int = 1, header: int | None = None
) -> list[bytes]:
    """The texts of varying size in the attribute `name` of a file or group.

    It reads what h5py writes by default, which is how pydnn 0.1.0 wrote models.

    Args:
        raw: The open file, without a user block.
        name: The name of the attribute.
        most: The largest number of bytes that a text may have.
        count: The number of texts.
        header: The address of the group that has the attribute; the root by default.

    Raises:
        Damage: If the attribute is missing, its text is longer, or its bytes contradict its header.
    """
    base, root = _superblock(raw, 0)
    file = _File(raw, base)
    for body in _messages(file, root if header is None else header, kind=0x0C):
        version, sizes = body[0], [_number(body, at, 2) for at in (2, 4, 6)]
        step = 8 if version == 1 else 1  # version 1 pads each part to a multiple of 8 bytes
        parts, at = [], 9 if version == 3 else 8
        for size in sizes:
            parts.append(body[at : at + size])
            at += -(-size // step) * step
        if parts[0].rstrip(b"\0") == name.encode():
            # The type must have class 9 (varying size) and kind 1 (text).
            references = body[at : at + count * _REFERENCE]
            varying = parts[1][:1] == b"\x19" and parts[1][1:2] in (b"\x01", b"\x11")
            if not varying or len(references) < count * _REFERENCE:
                raise Damage("it is not a text of varying size")
            return list(_texts(file, [references], most))
    raise Damage("it is not in the file as h5py writes it")


def _superblock(raw: BinaryIO, start: int) -> tuple[int, int]:
    """The base address of an HDF5 file and the address of its root, both of 8 bytes."""
    block = _File(raw, 0).read(start, 96)
    version = block[8]
    if version in (0, 1):
        sizes, base, root = block[13:15], 24 if version == 0 else 28, 64 if version == 0 else 68
    else:
        sizes, base, root = block[9:11], 12, 36
    if sizes != b"\x08\x08":
        raise Damage("its addresses do not have 8 bytes")
    return _number(block, base, 8), _number(block, root, 8)


def _messages(file: _File, address: int, *, kind: int) -> Iterator[bytes]:
    """The messages of one kind in all blocks of an object header of version 1."""
    prefix = file.read(address, 16)
    if prefix[0] != 1:
        raise Damage("its header is not as h5py writes it")
    blocks = [(address + 16, _number(prefix, 8, 4))]
    room = file.raw.seek(0, 2)
    for start, size in blocks:
        room -= size  # so that blocks which name one another in a circle end
        if size > _MOST_HEAP or room < 0:
            raise Damage("its header is larger than any")
        block, at = file.read(start, size), 0
        while at + 8 <= size:
            length = _number(block, at + 2, 2)
            body = block[at + 8 : at + 8 + length]
            if (number := _number(block, at, 2)) == 0x10:  # the header goes on elsewhere
                blocks.append((_number(body, 0, 8), _number(body, 8, 8)))
            elif number == kind and len(body) == length >= 9:
                yield body
            at += 8 + length


def _texts(file: _File, references: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The text of each reference, of which each block holds some."""
    heaps = _Heaps(file)
    for block in references:
        for start in range(0, len(block), _REFERENCE):
            length, address, index = (
                _number(block, start + at, size) for at, size in ((0, 4), (4, 8), (12, 4))
            )
            if length == 0:
                yield b""
                continue
            if length > most:
                raise Damage(f"a text claims {length} bytes, expected at most {most}")
            text = heaps.at(address).get(index)
            if text is None or len(text) != length:
                raise Damage(f"a text of {length} bytes is not in its heap")
            yield text


class _Heaps:
    """The heaps of a file, of which the newest stay in memory.

    A heap is read again if an older text lies in it. A stranger's file may ask for that with each
    text; so once as many bytes have been read again as the file has, all heaps stay.
    """

    def __init__(self, file: _File) -> None:
        self._file = file
        self._kept: dict[int, tuple[dict[int, bytes], int]] = {}  # with the size of each
        self._size = 0  # of those
        self._known: set[int] = set()  # the addresses of all that were read
        self._new = self._again = file.raw.seek(0, 2)  # bytes that may still be read

    def at(self, address: int) -> dict[int, bytes]:
        """The objects in the heap at an address, by number."""
        if address in self._kept:
            return self._kept[address][0]
        objects, size = _heap(self._file, address)
        if address in self._known:
            self._again -= size
        else:
            self._new -= size
            self._known.add(address)
        if self._new < 0:
            raise Damage("the heaps of its texts overlap")
        while self._kept and self._size + size > _MOST_KEPT and self._again > 0:
            self._size -= self._kept.pop(next(iter(self._kept)))[1]
        self._kept[address] = objects, size
        self._size += size
        return objects


def _heap(file: _File, address: int) -> tuple[dict[int, bytes], int]:
    """The objects in the heap at an address, by number, and the size of the heap in bytes."""
    head = file.read(address, 16)
    size = _number(head, 8, 8)
    if head[:5] != b"GCOL\x01" or not 16 <= size <= _MOST_HEAP:
        raise Damage("a text is not in a heap")
    heap, at = file.read(address, size), 16
    objects: dict[int, bytes] = {}
    while at + 16 <= size:
        number, count = _number(heap, at, 2), _number(heap, at + 8, 8)
        if number == 0 or at + 16 + count > size:  # free space at the end, or damage
            break
        objects.setdefault(number, heap[at + 16 : at + 16 + count])
        at += 16 + -(-count // 8) * 8
    return objects, size
