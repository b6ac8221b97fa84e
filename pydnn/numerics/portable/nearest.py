"""Products of float32 matrices: each entry is the float32 nearest to the true dot product.

Specification. Each entry is the nearest float32, ties to even, so anybody can check it with
fractions. Every zero is +0.0. A result beyond the largest float32 is infinite, as IEEE 754 says. If
a row or column holds an infinity or a NaN, all its entries are NaN.

Method. Two float32 numbers multiply exactly in float64, so a float64 product of BLAS has errors
only from its additions. If a term goes through n additions, in whatever order, the error is less
than n 2**-53 |row| |column|. If both ends of that interval round to the same float32, that is the
result. The interval may differ from machine to machine, but the result cannot. The other entries
are summed again without error.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
from numpy import einsum, vecdot  # for bounds, whose bits do not matter
from numpy.typing import NDArray

from pydnn.engines import in_use
from pydnn.numerics.portable.cache import kept
from pydnn.numerics.portable.products import blas
from pydnn.numerics.portable.sums import fold
from pydnn.numerics.portable.workspace import floats
from pydnn.records import FloatArray

__all__ = ["matmul_float32", "nearest_sums"]

_PLACES = 1 << 14  # entries checked at a time
_TERMS = 1 << 16  # terms of doubtful entries summed at a time
_TERMS_OF_A_BLOCK = 512
_FEW, _MANY = 6, 64  # numbers of doubtful entries at which another way becomes faster
_ULP = 2.0**-53


class _Operand(NamedTuple):
    """The rows of the left operand, or the columns of the right one, in float64.

    Attributes:
        lines: The rows or columns, (lines, k).
        lengths: The Euclidean length of each line.
        bad: Which lines held an infinity or a NaN, and are zeros in `lines`; None if none did.
    """

    lines: FloatArray
    lengths: FloatArray
    bad: NDArray[np.bool_] | None


def matmul_float32(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n)."""
    forms, uncertain = in_use.forms, list[tuple[int, int]]()
    if forms is not None and (
        forms.portable.small_product(a, b, out)
        or forms.portable.large_product(a, b, uncertain, out)
    ):
        for i, j in uncertain:
            out[i, j] = _nearest_sum(np.multiply(a[i], b[:, j], dtype=np.float64))
        return
    right = kept("widened", b, lambda into: _widened(b.T, into))
    left = _widened(a, "left")
    m, n, k = len(left.lines), len(right.lines), left.lines.shape[1]
    if not k:
        out[...] = 0
        return
    product = floats("product", m, n)
    additions = _multiply(left.lines, right.lines.T, product)
    doubtful = _settled(product, additions, left.lengths, right.lengths, out)
    if doubtful:
        _settle_doubtful(np.concatenate(doubtful), left.lines, right.lines, product, out)
    if left.bad is not None:
        out[left.bad] = np.nan
    if right.bad is not None:
        out[:, right.bad] = np.nan


def _settled(
    product: FloatArray,
    additions: int,
    left_lengths: FloatArray,
    right_lengths: FloatArray,
    out: FloatArray,
) -> list[NDArray[np.int64]]:
    """Fill `out` with rounded entries, and return the places of those that are in doubt."""
    m, n = out.shape
    # Eight more ulps than the proof needs, since the bound is rounded itself.
    left_bound = left_lengths * ((additions + 8) * _ULP)
    step = max(1, _PLACES // max(1, n))
    doubtful = []
    for start in range(0, m, step):
        rows = slice(start, start + step)
        places = _settle(product[rows], left_bound[rows], right_lengths, out[rows])
        if places.size:
            doubtful.append(places + start * n)
    return doubtful


def _multiply(left: FloatArray, right: FloatArray, product: FloatArray) -> int:
    """Fill `product`, and return the largest number of additions that a term goes through."""
    k = len(right)
    if k <= 2 * _TERMS_OF_A_BLOCK:
        blas(left, right, out=product)
        return k
    # Multiply blocks and add the results: with fewer additions per term, fewer entries are in
    # doubt.
    starts = range(0, k, _TERMS_OF_A_BLOCK)
    share = floats("share", *product.shape)
    for start in starts:
        block = slice(start, start + _TERMS_OF_A_BLOCK)
        blas(left[:, block], right[block], out=share if start else product)
        if start:
            np.add(product, share, out=product)
    return _TERMS_OF_A_BLOCK + len(starts)


def _widened(lines: FloatArray, into: str | None) -> _Operand:
    # Keep the order in memory: line after line, or transposed.
    turned = not lines.flags.c_contiguous and lines.T.flags.c_contiguous
    shape = lines.shape[::-1] if turned else lines.shape
    space = np.empty(shape) if into is None else floats(f"{into} widened", *shape)
    wide = space.T if turned else space
    wide[...] = lines
    lengths = _lengths(wide)
    if math.isfinite(lengths.max(initial=0.0)):
        return _Operand(wide, lengths, None)
    bad = ~np.isfinite(lengths)
    wide[bad] = 0.0
    return _Operand(wide, np.where(bad, 0.0, lengths), bad)


def _lengths(lines: FloatArray) -> FloatArray:
    """Return the lengths of rows, which may be off by k ulps: they are only used in bounds."""
    if lines.flags.c_contiguous:
        squares = vecdot(lines, lines)
    else:
        squares = einsum("ij,ij->j", lines.T, lines.T)
    lengths: FloatArray = np.sqrt(squares)
    return lengths


def _settle(
    product: FloatArray, rows: FloatArray, columns: FloatArray, out: FloatArray
) -> NDArray[np.int64]:
    """Fill `out` with the rounded product, and return the flat indices of entries in doubt."""
    bound, low = (floats(name, *product.shape) for name in ("bound", "low"))
    np.multiply(rows[:, np.newaxis], columns, out=bound)
    np.subtract(product, bound, out=low)
    np.add(product, bound, out=bound)
    lower = low.astype(np.float32)
    out[...] = bound
    doubts = lower != out
    np.add(out, np.float32(0), out=out)
    return np.flatnonzero(doubts)


def _settle_doubtful(
    places: NDArray[np.int64],
    left: FloatArray,
    right: FloatArray,
    product: FloatArray,
    out: FloatArray,
) -> None:
    n, k = len(right), left.shape[1]
    rows, columns = np.divmod(places, n)
    if len(places) > _MANY:
        # Entries without a term other than 0, common in data with many zeros, need no summing.
        empty = product[rows, columns] == 0
        if np.count_nonzero(empty) > _MANY:
            terms = blas((left != 0).astype(np.float32), (right != 0).astype(np.float32).T)
            empty &= terms[rows, columns] == 0
            out[rows[empty], columns[empty]] = 0.0
            rows, columns = rows[~empty], columns[~empty]
    if len(rows) <= _FEW:
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            out[i, j] = _nearest_sum(left[i] * right[j])
        return
    step = max(1, _TERMS // max(1, k))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        terms = left[rows[some]] * right[columns[some]]
        out[rows[some], columns[some]] = nearest_sums(terms)


def nearest_sums(terms: FloatArray) -> FloatArray:
    """Return the float32 nearest to the true sum of each row of float64 `terms`, ties to even."""
    high, low, left_out = _summed_twice(terms)
    high, low = _two_sum(high, low)
    results = _narrowed(high, low - left_out)
    upper = _narrowed(high, low + left_out)
    sure = (results == upper) & ((left_out == 0) | (left_out <= np.abs(high) * 2.0**-55))
    for i in np.flatnonzero(~sure):
        results[i] = _nearest_sum(terms[i])
    results += np.float32(0)
    return results


def _two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rounded sum and its exact rounding error. Knuth, 1969, 4.2.2, theorem B."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _summed_twice(terms: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the sum of each row, the sum of its rounding errors, and a bound of what is left."""
    high = terms.T.copy(order="C")
    low, left_out = np.zeros_like(high), np.zeros(len(terms))
    n = len(high)
    while n > 1:
        c = (n + 1) // 2
        rest = n - c
        total, error = _two_sum(high[:rest], high[c:n])
        errors, missed = _two_sum(low[:rest], low[c:n])
        errors, missed_again = _two_sum(errors, error)
        left_out += fold(np.abs(missed) + np.abs(missed_again))[0]
        high[:rest], low[:rest] = total, errors
        n = c
    # A sixteenth more, since the bound is a rounded sum itself.
    return high[0], low[0], left_out * 1.0625


def _narrowed(high: FloatArray, low: FloatArray) -> FloatArray:
    """Return the float32 nearest to high + low, where low is less than an ulp of high."""
    # Rounding twice could go wrong at a tie. Rounding to odd first prevents that: if low is not 0,
    # the last bit of high becomes 1, so high is never a tie and stays on the true side of it.
    bits = high.view(np.int64)
    towards = np.where((low > 0) == (high > 0), 1, -1)
    odd = np.where((low != 0) & (bits & 1 == 0), bits + towards, bits)
    return odd.view(np.float64).astype(np.float32)


def _nearest_sum(terms: FloatArray) -> np.float32:
    numbers = terms.tolist()
    high = math.fsum(numbers)
    low = math.fsum([*numbers, -high])  # 0, or a number with the sign of the true rest
    if low and not struct.unpack("<q", struct.pack("<d", high))[0] & 1:
        high = math.nextafter(high, math.copysign(math.inf, low))  # to odd, see `_narrowed`
    return np.float32(high) + np.float32(0)
