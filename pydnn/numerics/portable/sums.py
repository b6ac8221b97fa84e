"""Sums by a fixed tree of additions, which no layout, processor or library can reorder.

Specification. A line of n numbers x[0], ..., x[n - 1] is halved until one number is left: with
c = ceil(n / 2), each x[i] for i < n - c becomes x[i] + x[i + c], rounded to the dtype of the line,
and n becomes c. The last number plus +0.0 is the sum, so every zero is +0.0. The sum of no numbers
is +0.0.

A sum along several axes is that of the line of their numbers in C order.

The mean of an array is the sum of its numbers in C order, divided by their count. A Euclidean
length is the root of the sum of squares. If the largest magnitude is not between 2**-200 and
2**200, all numbers are first divided by the least power of two above it. Means and lengths are
computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy import add, multiply

from pydnn.engines import in_use
from pydnn.numerics.portable.workspace import BLOCK, floats, of_each_thread
from pydnn.records import FloatArray, scalar

__all__ = ["Pairs", "add_up", "fold", "halves", "mean", "norm", "sum_rows", "tree_sum"]

_NUMBERS_OF_ROWS = 1 << 20  # numbers of a matrix that are in memory while its rows are added
_PLAIN = 200  # the exponent in the specification of lengths

Pairs = list[tuple[FloatArray, FloatArray]]


def tree_sum(
    a: FloatArray, /, *, axis: int | tuple[int, ...], out: FloatArray | None = None
) -> FloatArray:
    """Return sums along one axis of an array or several, which keep size 1."""
    if a.ndim != 2 or isinstance(axis, tuple):
        return _sum_over_axes(a, (axis,) if isinstance(axis, int) else axis, out)
    forms = in_use.forms
    if forms is not None:
        sums = np.empty((1, a.shape[1]) if axis == 0 else (len(a), 1), a.dtype)
        sums = sums if out is None else out
        if forms.portable.tree_sum(a, axis, sums):
            return sums
    zero = scalar(0.0, a.dtype)
    if 0 < a.size <= BLOCK:
        work, total, pairs = _tree_of(a.shape, axis, a.dtype.char)
        np.copyto(work, a)
        add_up(pairs)
        return add(total, zero, out)
    lines = a if axis == 0 else a.T  # so that each addition adds whole lines
    total = fold(_halved(lines)) if len(lines) else np.zeros((1, lines.shape[1]), a.dtype)
    return add(total if axis == 0 else total.T, zero, out)


def sum_rows(count: int, rows: Callable[[int, int], FloatArray], /) -> FloatArray:
    """Return `tree_sum(rows(0, count), axis=0)`, where `rows` makes only some rows at a time."""
    columns = rows(0, min(1, count)).shape[1]
    sizes = [count]  # of the line before each round of additions
    while sizes[-1] * columns > _NUMBERS_OF_ROWS and sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)

    def after(rounds: int, start: int, stop: int) -> FloatArray:
        """Some numbers of the line after some rounds."""
        if not rounds:
            return rows(start, stop)
        n, c = sizes[rounds - 1 : rounds + 1]
        head = after(rounds - 1, start, stop)
        if start < n - c:
            tail = after(rounds - 1, start + c, min(stop + c, n))
            add(head[: len(tail)], tail, head[: len(tail)])
        return head

    line = after(len(sizes) - 1, 0, sizes[-1])
    return tree_sum(line, axis=0)


def _sum_over_axes(a: FloatArray, axes: tuple[int, ...], out: FloatArray | None) -> FloatArray:
    kept = tuple([i for i in range(a.ndim) if i not in axes])
    n, width = (math.prod([a.shape[i] for i in some]) for some in (axes, kept))
    if out is None:
        out = np.empty([1 if i in axes else size for i, size in enumerate(a.shape)], a.dtype)
    forms, first = in_use.forms, min(axes, default=0)
    if forms is not None and axes == tuple(range(first, first + len(axes))):
        parts = a.reshape(math.prod(a.shape[:first]), n, math.prod(a.shape[first + len(axes) :]))
        if forms.portable.sums_between(parts, out):
            return out
    # Where lines have to be copied, it is fastest to move whole parts of them.
    if a.ndim - 1 in axes:
        total = tree_sum(a.transpose(*kept, *axes).reshape(width, n), axis=1)
    else:
        total = tree_sum(a.transpose(*axes, *kept).reshape(n, width), axis=0)
    out[...] = total.reshape(out.shape)
    return out


def _halved(lines: FloatArray) -> FloatArray:
    """Return the results of the first additions of the tree, in a new array."""
    n = len(lines)
    c = (n + 1) // 2
    half = np.empty_like(lines[:c])
    add(lines[: n - c], lines[c:], half[: n - c])
    half[n - c :] = lines[n - c : c]
    return half


@of_each_thread
def _tree_of(shape: tuple[int, ...], axis: int, dtype: str) -> tuple[FloatArray, FloatArray, Pairs]:
    """Return a work array of this shape, its part that will hold the sums, and the additions."""
    n, width = shape if axis == 0 else shape[::-1]
    lines = floats("scratch", n * width).view(dtype)[: n * width].reshape(n, width)
    pairs = halves(lines)
    return (lines, lines[:1], pairs) if axis == 0 else (lines.T, lines[:1].T, pairs)


def halves(lines: FloatArray) -> Pairs:
    """Return the additions, as (head, tail), that fold the first axis of `lines` to size 1.

    Each adds all neighboring lines in one call.
    """
    pairs, n = [], len(lines)
    while n > 1:
        c = (n + 1) // 2
        pairs.append((lines[: n - c], lines[c:n]))
        n = c
    return pairs


def add_up(pairs: Pairs) -> None:
    """Add the second array of each pair to the first, in order."""
    for head, tail in pairs:
        add(head, tail, head)


def fold(lines: FloatArray) -> FloatArray:
    """Return sums along the first axis, which keeps size 1; `lines` is overwritten."""
    add_up(halves(lines))
    return lines[:1]


def mean(a: FloatArray) -> float:
    """Return the mean of all numbers, in float64; NaN if there are none."""
    return _total(a.ravel()) / a.size if a.size else math.nan


def norm(vector: FloatArray) -> float:
    """Return the Euclidean length of a vector, even if squares would leave the range of floats."""
    if not vector.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        square = _total(vector, squared=True)
    # The sum is between the largest square and that times the size, so this proves that the largest
    # magnitude is in the range where nothing is scaled.
    if vector.size * 2.0 ** (1 - 2 * _PLAIN) <= square <= 2.0 ** (2 * _PLAIN - 1):
        return math.sqrt(square)
    largest = max(float(np.maximum.reduce(vector)), -float(np.minimum.reduce(vector)))
    if not 0.0 < largest < math.inf:
        return abs(largest)
    # Magnitudes inside the range may get here, too: scaling gives the same bits for them.
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(vector.astype(np.float64), -exponent)
    try:
        return math.ldexp(math.sqrt(_total(scaled, squared=True)), exponent)
    except OverflowError:  # longer than the largest float64
        return math.inf


def _total(numbers: FloatArray, *, squared: bool = False) -> float:
    """Return the sum of a vector, or of its squares, in float64."""
    forms, total = in_use.forms, np.empty(())
    if forms is not None and forms.portable.total_of(numbers, squared, total):
        return float(total)
    n = numbers.size
    if n <= BLOCK:
        work, _, pairs = _tree_of((n, 1), 0, "d")
        vector = work[:, 0]
        np.copyto(vector, numbers)
        if squared:
            multiply(vector, vector, vector)
        add_up(pairs)
        return vector.item(0) + 0.0
    # Halve block by block, so that no array of the vector's size is needed.
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
