"""A pool that recycles the memory of large arrays, to avoid page faults.

The operating system takes back the memory of a large array that dies, and the next step faults it
in again, page by page. That is two thirds of a step of Adam on half a million parameters. This pool
keeps the memory of an array, once the array and all views of it are gone, for the next array of
that size. No reference to the memory is left then, so no caller can notice.

It also chooses where arrays lie. NumPy asks the operating system for huge pages for 4 MiB and more,
so smaller arrays share slabs of 16 MiB. And arrays begin at different places of a page: if they
all began at the same place, a loop over nine of them would need nine lines of the first cache in
the same set, which has eight. Together this took an update by Adam of half a million numbers from
789 to 563 microseconds.
"""

from __future__ import annotations

import itertools
import math
import sys
import weakref
from collections import deque

import numpy as np

from pydnn.records import AnyDType, FloatArray

__all__ = ["empty", "kept_bytes", "room_for"]

_LEAST = 1 << 16  # bytes; malloc recycles smaller arrays without our help
_MOST_KEPT = 768 << 20  # bytes that a step of 100 million parameters gives back
_LINE, _PAGE = 64, 4096  # bytes of a cache line, where arrays begin, and of a page
_STEP = 5 * _LINE  # from the place in a page where an array begins to that of the next array
_SLAB, _OF_A_SLAB = 1 << 24, 1 << 22  # bytes; larger arrays get huge pages of their own


class _Raw(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """The bytes under the arrays that `empty` returns.

    It is a class of its own because of how NumPy chooses the base of a view: it follows the chain
    of bases as long as they have the class of the view. If these bytes were a plain array, a view
    would refer to them and not to the array, which could then die before the view. With this class
    every view refers to the array, so when the array dies, no view is left.
    """


class _Slab(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """Memory that several pieces share; a class of its own for the same reason."""


class _Memory:
    """A piece of memory of `size` bytes that begins at a cache line."""

    __slots__ = ("offset", "raw", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        if size >= _OF_A_SLAB:
            self.raw = _Raw(size + _PAGE, np.uint8)
            self.offset = (next(_numbers) * _STEP - self.raw.ctypes.data) % _PAGE
            return
        slab, start = _open_slab(size)
        self.raw = _Raw(size, np.uint8, slab, start)
        self.offset = 0
        _slabs.append((slab, start + size + _STEP + -size % _LINE))


def _open_slab(size: int) -> tuple[_Slab, int]:
    """Return a slab with room for `size` bytes, and where they begin; nobody else has it now."""
    try:
        slab, start = _slabs.pop()
    except IndexError:  # another thread has it at this moment
        pass
    else:
        if start + size <= slab.size:
            return slab, start
    slab = _Slab(_SLAB, np.uint8)
    return slab, -slab.ctypes.data % _LINE


_slabs: list[tuple[_Slab, int]] = []  # slabs with room, and where it begins
_numbers = itertools.count()
_probe = _Memory(1)
_ALONE = sys.getrefcount(_probe.raw)  # the reference count of memory that nobody else refers to


class _Lease(weakref.ref[FloatArray]):
    """A weak reference to an array, with the memory that its death sets free."""

    __slots__ = ("memory",)
    memory: _Memory


# An array may die at any time and in any thread, which calls `_ended`. So both are changed only by
# single operations that Python does not interrupt. A lock would deadlock if an array died in the
# thread that holds it.
_free: deque[_Memory] = deque()  # the oldest first
_leases: dict[int, _Lease] = {}  # keeps the weak references alive, or they would not be called


def empty(shape: int | tuple[int, ...], dtype: AnyDType) -> FloatArray:
    """Return a new array in C order for the caller to fill, as `np.empty` does."""
    size = (shape if isinstance(shape, int) else math.prod(shape)) * dtype.itemsize
    if size < _LEAST:
        return np.empty(shape, dtype)
    memory = _taken(size) or _Memory(size)
    array: FloatArray = np.ndarray(shape, dtype, memory.raw, memory.offset)
    lease = _Lease(array, _ended)
    lease.memory = memory
    _leases[id(lease)] = lease
    return array


def room_for(array: FloatArray) -> FloatArray | None:
    """Return an array for a result like `array` in shape, dtype and order; None if it is small.

    Pass it as `out=` to a function of NumPy: with None, NumPy makes a small array faster.
    """
    if array.nbytes < _LEAST:
        return None
    if array.flags.c_contiguous or not array.flags.f_contiguous:
        return empty(array.shape, array.dtype)
    return empty(array.shape[::-1], array.dtype).T


def kept_bytes() -> int:
    """Return how many bytes of memory the pool keeps for new arrays."""
    return sum(memory.size for memory in list(_free))


def _taken(size: int) -> _Memory | None:
    for memory in reversed(list(_free)):  # the last one set free is the likeliest to be in cache
        # Somebody may still refer to the `base` of an array that is gone, and thus to this memory.
        if memory.size == size and sys.getrefcount(memory.raw) <= _ALONE:
            try:
                _free.remove(memory)
            except ValueError:  # another thread was faster
                continue
            return memory
    return None


def _ended(lease: _Lease) -> None:
    del _leases[id(lease)]
    _free.append(lease.memory)
    while kept_bytes() > _MOST_KEPT:
        try:
            _free.popleft()
        except IndexError:  # another thread was faster
            return
