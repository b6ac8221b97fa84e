"""Sums by the tree of additions that `pydnn.numerics.portable.sums` specifies.

A line of n numbers is halved until one is left: with c = ceil(n / 2), each x[i] for i < n - c
becomes x[i] + x[i + c]. Where several lines are summed, a loop runs over the same places of all of
them, or over the numbers of one line that are added at the same time. Either order gives the same
sums.

The innermost loops index views from 0: where an index is a sum, the compiler must fear that it is
negative, and uses no vectors of the processor.
"""

from __future__ import annotations

import numpy as np

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import in_rows, is_plain, or_numpy, unwritten
from pydnn.records import FloatArray

__all__ = [
    "fold",
    "sum_columns",
    "sum_of_all",
    "sum_of_squares",
    "sum_rows",
    "total_of",
    "tree_sum",
]

_WORTH_A_CALL = 64  # numbers; NumPy is as fast with fewer


@kernel
def fold(lines: FloatArray, n: int, width: int) -> None:
    """Add up n lines of `width` numbers, which lie one after the other in `lines`, into the first.

    Args:
        lines: The numbers (n * width,) or more, which are overwritten.
        n: The number of lines, 1 or more.
        width: The size of each line.
    """
    while n > 1:
        c = (n + 1) // 2
        tail = lines[c * width : n * width]
        for i in range(tail.size):
            lines[i] = lines[i] + tail[i]
        n = c


@kernel
def sum_columns(a: FloatArray, out: FloatArray) -> None:
    """Fill `out` (n,) with the sums of the columns of `a` (m, n), for m of 1 or more."""
    m, n = a.shape
    c = (m + 1) // 2
    room = np.empty(c * n, a.dtype)
    head, tail = a.reshape(-1), a[c:].reshape(-1)  # so that one loop goes through many lines
    for i in range(tail.size):
        room[i] = head[i] + tail[i]
    for i in range(tail.size, room.size):
        room[i] = head[i]
    fold(room, c, n)
    for j in range(n):
        out[j] = room[j] + a.dtype.type(0.0)


@kernel
def sum_rows(a: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m,) with the sums of the rows of `a` (m, n), for n of 1 or more."""
    m, n = a.shape
    c = (n + 1) // 2
    room = np.empty(c, a.dtype)
    for i in range(m):
        tail = a[i, c:]
        for j in range(n - c):
            room[j] = a[i, j] + tail[j]
        for j in range(n - c, c):
            room[j] = a[i, j]
        fold(room, c, 1)
        out[i] = room[0] + a.dtype.type(0.0)


@kernel
def sum_of_all(a: FloatArray) -> float:
    """Return the sum of a vector, with at least one number, in float64."""
    n = a.size
    c = (n + 1) // 2
    room = np.empty(c)
    tail = a[c:]
    for i in range(n - c):
        room[i] = np.float64(a[i]) + np.float64(tail[i])
    for i in range(n - c, c):
        room[i] = np.float64(a[i])
    fold(room, c, 1)
    total: float = room[0] + 0.0
    return total


@kernel
def sum_of_squares(a: FloatArray) -> float:
    """Return the sum of the squares of a vector, with at least one number, in float64."""
    n = a.size
    c = (n + 1) // 2
    room = np.empty(c)
    tail = a[c:]
    for i in range(n - c):
        one, other = np.float64(a[i]), np.float64(tail[i])
        room[i] = one * one + other * other
    for i in range(n - c, c):
        number = np.float64(a[i])
        room[i] = number * number
    fold(room, c, 1)
    total: float = room[0] + 0.0
    return total


@or_numpy
def tree_sum(a: FloatArray, axis: int, out: FloatArray) -> bool:
    """Fill `out` with the sums of a matrix along one axis, which keeps size 1."""
    rows = in_rows(a)
    if rows is None or not (a.size >= _WORTH_A_CALL and out.flags.c_contiguous):
        return False
    numbers, turned = rows
    (sum_columns if turned == bool(axis) else sum_rows)(numbers, out.reshape(-1))
    return True


@or_numpy
def total_of(numbers: FloatArray, squared: bool, total: FloatArray) -> bool:
    """Set `total`, a float64 array without axes, to the sum of a vector, or of its squares."""
    if not (numbers.size >= _WORTH_A_CALL and is_plain(numbers) and numbers.flags.c_contiguous):
        return False
    total[()] = (sum_of_squares if squared else sum_of_all)(unwritten(numbers))
    return True
