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
from numpy import add, multiply

from pydnn.numerics.portable.workspace import BLOCK, floats, of_each_thread
from pydnn.records import FloatArray, scalar

__all__ = ["Pairs", "add_up", "fold", "halves", "mean", "norm", "tree_sum"]

_PLAIN = 200

Pairs = list[tuple[FloatArray, FloatArray]]


def tree_sum(a: FloatArray, /, *, axis: int, out: FloatArray | None = None) -> FloatArray:
    """Sums along one axis of `a` (rows, columns), which stays with size 1."""
    zero = scalar(0.0, a.dtype)
    if 0 < a.size <= BLOCK:
        given, total, pairs = _tree_of(a.shape, axis, a.dtype.char)
        np.copyto(given, a)
        add_up(pairs)
        return add(total, zero, out)
    lines = a if axis == 0 else a.T  # so that each addition is one of whole lines
    total = fold(_halved(lines)) if len(lines) else np.zeros((1, lines.shape[1]), a.dtype)
    return add(total if axis == 0 else total.T, zero, out)


def _halved(lines: FloatArray) -> FloatArray:
    """The first additions of the tree, in an array of their own."""
    n = len(lines)
    c = (n + 1) // 2
    half = np.empty_like(lines[:c])
    add(lines[: n - c], lines[c:], half[: n - c])
    half[n - c :] = lines[n - c : c]
    return half


@of_each_thread
def _tree_of(shape: tuple[int, ...], axis: int, dtype: str) -> tuple[FloatArray, FloatArray, Pairs]:
    """Where an array of this shape goes, where its sums along this axis will be, and the tree."""
    n, width = shape if axis == 0 else shape[::-1]
    lines = floats("scratch", n * width).view(dtype)[: n * width].reshape(n, width)
    pairs = halves(lines)
    return (lines, lines[:1], pairs) if axis == 0 else (lines.T, lines[:1].T, pairs)


def halves(lines: FloatArray) -> Pairs:
    """The additions that fold the first axis of `lines` down to size 1, as (head, tail).

    Lines next to each other are added in one go.
    """
    pairs, n = [], len(lines)
    while n > 1:
        c = (n + 1) // 2
        pairs.append((lines[: n - c], lines[c:n]))
        n = c
    return pairs


def add_up(pairs: Pairs) -> None:
    """Add each second array to its first."""
    for head, tail in pairs:
        add(head, tail, head)


def fold(lines: FloatArray) -> FloatArray:
    """Sums along the first axis of `lines`, whose numbers are lost; it stays with size 1."""
    add_up(halves(lines))
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
        given, _, pairs = _tree_of((n, 1), 0, "d")
        vector = given[:, 0]
        np.copyto(vector, numbers)
        if squared:
            multiply(vector, vector, vector)
        add_up(pairs)
        return vector.item(0) + 0.0
    # The first halving goes block by block, so that nothing of the vector's size is made.
    c = (n + 1) // 2
    half = np.empty(c)
    half[n - c :] = numbers[n - c : c]
    if squared:
        multiply(half[n - c :], half[n - c :], half[n - c :])
    for start in range(0, n - c, BLOCK):
        stop = min(start + BLOCK, n - c)
        head, tail = half[start:stop], floats("tail", stop - start)
        head[...] = numbers[start:stop]
        tail[...] = numbers[c + start : c + stop]
        if squared:
            multiply(head, head, head)
            multiply(tail, tail, tail)
        add(head, tail, head)
    return float(fold(half)[0]) + 0.0
