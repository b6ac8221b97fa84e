"""Memory that several processes share, so that arrays need not be copied through a pipe.

The system frees it with the last process that uses it, however that process ends. It has no name
in any folder, so a killed process leaves nothing behind. That is why this is not
`multiprocessing.shared_memory`, whose memory outlives a killed program.
"""

from __future__ import annotations

import itertools
import mmap
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from pydnn.checks import BadInput
from pydnn.free_memory import free_memory, readable
from pydnn.records import AnyArray
from pydnn.workers.encoding import array_at, memory_order

__all__ = ["Arena", "Reference", "Segment", "attached", "room"]

Reference: TypeAlias = "Sequence[Any]"  # JSON
# Where an array is: the number of a segment, the offset in it, dtype, shape and memory order.

_LINE = 64  # bytes of a cache line; arrays begin at one
_PAGE = mmap.PAGESIZE
_numbers = itertools.count()


class Segment:
    """A piece of shared memory that this process made.

    Attributes:
        number: Its number among those of this process.
        memory: Its bytes.
        handle: What another process of this user needs to attach it: a file descriptor, or on
            Windows a name, which exists as long as the memory does.
    """

    def __init__(self, size: int) -> None:
        """Make a segment of at least `size` bytes.

        Raises:
            BadInput: If there is not enough memory.
        """
        self.number = next(_numbers)
        self.size = max(_PAGE, -(-size // _PAGE) * _PAGE)
        free = free_memory()
        if free is not None and self.size > free:
            raise BadInput(
                f"the workers share {readable(self.size)} of memory with this process, but "
                f"{readable(free)} are free: use fewer workers or smaller batches."
            )
        self.handle: int | str
        if os.name == "nt":
            self.handle = f"pydnn-{secrets.token_hex(16)}"
            self.memory = mmap.mmap(-1, self.size, tagname=self.handle)  # type: ignore[call-arg]
        else:
            self.handle = _nameless()
            os.ftruncate(self.handle, self.size)
            self.memory = mmap.mmap(self.handle, self.size)

    def __del__(self) -> None:
        # The memory itself lives as long as an array refers to it.
        if isinstance(handle := getattr(self, "handle", None), int):
            os.close(handle)

    @property
    def is_free(self) -> bool:
        """Whether no array of this process refers to the memory any more."""
        return _references(self) <= _ALONE


def _references(owner: Any) -> int:
    return sys.getrefcount(owner.memory)


class _Alone:
    """Has memory to which nobody else refers."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _PAGE)


_ALONE = _references(_Alone())  # measured, because versions of Python count differently


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pydnn")  # the name is only a label in the lists of the system
    with tempfile.TemporaryFile() as file:  # which has no name in its folder any more
        return os.dup(file.fileno())


def attached(handle: int | str, size: int, *, writeable: bool) -> mmap.mmap:
    """The memory of another process's segment; the file descriptor is closed."""
    access = mmap.ACCESS_WRITE if writeable else mmap.ACCESS_READ
    if isinstance(handle, str):
        return mmap.mmap(-1, size, tagname=handle, access=access)  # type: ignore[call-arg]
    try:
        return mmap.mmap(handle, size, access=access)
    finally:
        os.close(handle)


def room(arrays: Iterable[AnyArray]) -> int:
    """The number of bytes that `arrays` take in one segment."""
    return sum(-(-array.nbytes // _LINE) * _LINE for array in arrays)


def written(memory: mmap.mmap, number: int, arrays: Iterable[AnyArray]) -> list[Reference]:
    """Copy arrays into the memory of a segment, one behind the other, and return where they are.

    Each keeps its memory order; gaps between its entries are closed.
    """
    at = 0
    references: list[Reference] = []
    for array in arrays:
        order = memory_order(array)
        shape = [array.shape[axis] for axis in order]
        if array.nbytes:
            place = np.frombuffer(memory, array.dtype, array.size, at).reshape(shape)
            np.copyto(place, array.transpose(order))
        references.append([number, at, array.dtype.str, list(array.shape), order])
        at += -(-array.nbytes // _LINE) * _LINE
    return references


def read(segments: Mapping[int, mmap.mmap], reference: Reference) -> AnyArray:
    """The array at a place in shared memory, read-only and without a copy."""
    number, at, dtype, shape, order = reference
    return array_at(segments[number], at, dtype, shape, order)


class Arena:
    """A segment that is written again and again, and replaced by a larger one when it is full."""

    def __init__(self) -> None:
        """Begin without memory."""
        self.segment: Segment | None = None

    def write(self, arrays: list[AnyArray]) -> list[Reference]:
        """Write arrays over those of the last call, and return where they are."""
        if not arrays:
            return []
        needed = room(arrays)
        if self.segment is None or self.segment.size < needed:
            self.segment = None  # first, so that its memory can be used again
            self.segment = Segment(needed)
        return written(self.segment.memory, self.segment.number, arrays)
