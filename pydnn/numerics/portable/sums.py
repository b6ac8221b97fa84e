"""Sums by a fixed tree of additions, so that no layout, processor or library changes their order.

The specification. A line of n numbers x[0], ..., x[n - 1] is halved until one is left: with
c = ceil(n / 2), each x[i] for i < n - c becomes x[i] + x[i + c], rounded to the line's own dtype,
and n becomes c. The number that is left, plus +0.0, is the sum; that of no numbers is +0.0. So a
sum that is zero is +0.0.

The mean of an array is the sum of its numbers in C order, divided by how many there are. A
Euclidean length is the root of the sum of squares; where the largest magnitude is not from
2**-200 to 2**200, each number is divided before by the least power of two above that. Both are
worked out in float64.
"""

from __future__ import annotations

import math

import numpy as np

from pydnn.numerics.portable.workspace import BLOCK, floats
from pydnn.records import FloatArray, scalar

__all__ = ["fold", "mean", "norm", "tree_sum"]

_PLAIN = 200


def tree_sum(a: FloatArray, /, *, axis: int, out: FloatArray | None = None) -> FloatArray:
    """Sums along one axis of `a` (rows, columns), which stays with size 1."""
    lines = a if axis == 0 else a.T  # so that each addition is one of whole lines
    n = len(lines)
    if not n:
        total = np.zeros((1, lines.shape[1]), a.dtype)
    elif a.size <= BLOCK:  # lines next to each other are added in one go
        total = fold(lines.copy(order="C"))
    else:
        c = (n + 1) // 2
        half = np.empty_like(lines[:c])
        np.add(lines[: n - c], lines[c:], out=half[: n - c])
        half[n - c :] = lines[n - c : c]
        total = fold(half)
    return np.add(total if axis == 0 else total.T, scalar(0.0, a.dtype), out=out)


def fold(lines: FloatArray) -> FloatArray:
    """Halve the first axis of `lines`, whose numbers are lost, down to size 1."""
    n = len(lines)
    while n > 1:
        c = (n + 1) // 2
        head = lines[: n - c]
        np.add(head, lines[c:n], out=head)
        n = c
    return lines[:1]


def mean(a: FloatArray) -> float:
    """The mean of all numbers; not a number, where there are none."""
    return _total(a.ravel()) / a.size if a.size else math.nan


def norm(vector: FloatArray) -> float:
    """The Euclidean length, also where squares would leave the range."""
    if not vector.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        square = _total(vector, squared=True)
    # It is at least the largest square, and at most as many times that as there are numbers.
    if vector.size * 2.0 ** (1 - 2 * _PLAIN) <= square <= 2.0 ** (2 * _PLAIN - 1):
        return math.sqrt(square)
    largest = max(float(np.maximum.reduce(vector)), -float(np.minimum.reduce(vector)))
    if not 0.0 < largest < math.inf:
        return abs(largest)
    # A largest magnitude that is yet within has the same length, to the bit, this way.
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(vector.astype(np.float64), -exponent)
    return math.ldexp(math.sqrt(_total(scaled, squared=True)), exponent)


def _total(numbers: FloatArray, *, squared: bool = False) -> float:
    """The sum of a vector, or of its squares, in float64."""
    n = numbers.size
    if n <= BLOCK:
        half = numbers.astype(np.float64)
        return float(fold(np.multiply(half, half, out=half) if squared else half)[0]) + 0.0
    # The first halving goes block by block, so that nothing of the vector's size is made.
    c = (n + 1) // 2
    half = np.empty(c)
    half[n - c :] = numbers[n - c : c]
    if squared:
        np.multiply(half[n - c :], half[n - c :], out=half[n - c :])
    for start in range(0, n - c, BLOCK):
        stop = min(start + BLOCK, n - c)
        head, tail = half[start:stop], floats("tail", stop - start)
        head[...] = numbers[start:stop]
        tail[...] = numbers[c + start : c + stop]
        if squared:
            np.multiply(head, head, out=head)
            np.multiply(tail, tail, out=tail)
        np.add(head, tail, out=head)
    return float(fold(half)[0]) + 0.0
