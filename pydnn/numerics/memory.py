"""A pool that recycles the memory of large arrays, to avoid page faults.

The operating system takes back the memory of a large array that dies, and the next step faults it
in again, page by page. That is two thirds of a step of Adam on half a million parameters. This pool
keeps the memory of an array, once the array and all views of it are gone, for the next array of
that size. No reference to the memory is left then, so no caller can notice.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import deque

import numpy as np

from pydnn.records import AnyDType, FloatArray

__all__ = ["empty", "kept_bytes", "room_for"]

_LEAST = 1 << 16  # bytes; malloc recycles smaller arrays without our help
_MOST_KEPT = 768 << 20  # bytes that a step of 100 million parameters gives back
_LINE = 64  # bytes of a cache line; arrays begin at one


class _Raw(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """The bytes under the arrays that `empty` returns.

    It is a class of its own because of how NumPy chooses the base of a view: it follows the chain
    of bases as long as they have the class of the view. If these bytes were a plain array, a view
    would refer to them and not to the array, which could then die before the view. With this class
    every view refers to the array, so when the array dies, no view is left.
    """


class _Memory:
    """A piece of memory of `size` bytes that begins at a cache line."""

    __slots__ = ("offset", "raw", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.raw = _Raw(size + _LINE, np.uint8)
        self.offset = -self.raw.ctypes.data % _LINE


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
