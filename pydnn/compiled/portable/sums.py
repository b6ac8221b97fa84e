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
    "sum_rows",
    "sums_between",
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
def _sum_parts(a: FloatArray, out: FloatArray) -> None:
    for i in range(len(a)):
        sum_columns(a[i], out[i])


@kernel
def _total(a: FloatArray, squared: bool) -> float:
    """Return the sum of a vector, with at least one number, or of its squares, in float64."""
    n = a.size
    c = (n + 1) // 2
    q = (c + 1) // 2
    # Two rounds of additions at once, since most time goes into writing their results.
    room, second, third, fourth = np.empty(q), a[q:], a[c:], a[c + q :]
    for i in range(fourth.size):
        one, other = _term(a[i], squared), _term(third[i], squared)
        room[i] = (one + other) + (_term(second[i], squared) + _term(fourth[i], squared))
    for i in range(fourth.size, q):
        total = _pair(a, i, n, c, squared)
        room[i] = total + _pair(a, i + q, n, c, squared) if i + q < c else total
    fold(room, q, 1)
    result: float = room[0] + 0.0
    return result


@kernel
def _term(x: float, squared: bool) -> float:
    wide = np.float64(x)
    return wide * wide if squared else wide


@kernel
def _pair(a: FloatArray, i: int, n: int, c: int, squared: bool) -> float:
    head = _term(a[i], squared)
    return head + _term(a[i + c], squared) if i + c < n else head


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
def sums_between(a: FloatArray, out: FloatArray) -> bool:
    """Fill `out` with the sums of an array (p, n, q) along its axis between two others."""
    p, n, q = a.shape
    plain = is_plain(a) and a.flags.c_contiguous and out.flags.c_contiguous
    if not (plain and n and q > 1 and a.size >= _WORTH_A_CALL):
        return False
    _sum_parts(unwritten(a), out.reshape(p, q))
    return True


@or_numpy
def total_of(numbers: FloatArray, squared: bool, total: FloatArray) -> bool:
    """Set `total`, a float64 array without axes, to the sum of a vector, or of its squares."""
    if not (numbers.size >= _WORTH_A_CALL and is_plain(numbers) and numbers.flags.c_contiguous):
        return False
    total[()] = _total(unwritten(numbers), squared)
    return True
