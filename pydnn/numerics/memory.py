"""Memory that is used again: a new array in meaning, without the page faults of one in fact.

Large arrays are given back to the operating system when they die, and faulted in again, page by
page, at the next step: of a step of Adam on half a million parameters that is two thirds. Here
the memory of an array is kept when the array and every view of it are gone, for the next one of
that size. No reference to it is left then, so nobody can tell.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import deque

import numpy as np

from pydnn.records import AnyDType, FloatArray

__all__ = ["empty", "kept_bytes", "room_for"]

_LEAST = 1 << 16  # bytes; what is smaller, malloc keeps by itself
_MOST_KEPT = 768 << 20  # what a step of 100 million parameters gives back
_LINE = 64  # bytes of a cache line, where arrays begin


class _Raw(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """Bytes that lie under arrays.

    The base of a view is the last array of its own class on the way to the memory. With one of
    this class under it, that is the array which `empty` gives, which thus lives as long as any.
    """


class _Memory:
    """A stretch of memory of so many bytes, from a cache line on."""

    __slots__ = ("offset", "raw", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.raw = _Raw(size + _LINE, np.uint8)  # which owns its memory
        self.offset = -self.raw.ctypes.data % _LINE


_probe = _Memory(1)
_ALONE = sys.getrefcount(_probe.raw)  # references to memory that nobody else has hold of


class _Lease(weakref.ref[FloatArray]):
    """Of an array, and the memory that is free when it has died."""

    __slots__ = ("memory",)
    memory: _Memory


# Both are only changed by calls that no other thread, nor the end of another array, can come
# between: the end of an array comes at any time, in any thread.
_free: deque[_Memory] = deque()  # the oldest first
_leases: dict[int, _Lease] = {}


def empty(shape: int | tuple[int, ...], dtype: AnyDType) -> FloatArray:
    """A new array for its maker to fill: as `np.empty`, in C order."""
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
    """Room for a result of the shape, dtype and order of `array`; None where it is small.

    A function of NumPy's that is given None for it makes small room itself, in less time.
    """
    if array.nbytes < _LEAST:
        return None
    if array.flags.c_contiguous or not array.flags.f_contiguous:
        return empty(array.shape, array.dtype)
    return empty(array.shape[::-1], array.dtype).T


def kept_bytes() -> int:
    """How much memory is kept for arrays to come."""
    return sum(memory.size for memory in list(_free))


def _taken(size: int) -> _Memory | None:
    for memory in reversed(list(_free)):  # the last one to be free is the likeliest in cache
        # Whoever kept an array's `base` alone still sees this memory, though the array is gone.
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
