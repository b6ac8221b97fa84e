"""The float32 nearest to a true dot product of float32 numbers, ties to even.

Nothing else needs to be known of these products. Every place can be checked with fractions.

How it is found: two float32 numbers multiply exactly in float64, so a float64 product of BLAS
errs by its additions alone; where a term goes through n of them, in whatever order, by less than
n 2**-53 |row| |column|. Where both ends of that interval round to one float32, that is the answer;
the interval may differ from machine to machine, the answer may not. What is left in doubt is
summed again without error.

Every zero is +0.0. What rounds beyond the largest float32 is infinite, as IEEE 754 has it. A row
or column that holds an infinity or a NaN is NaN in all of its places.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
from numpy import einsum, vecdot  # of bounds alone, whose bits do not matter
from numpy.typing import NDArray

from pydnn.numerics.portable.cache import kept
from pydnn.numerics.portable.products import blas
from pydnn.numerics.portable.sums import fold
from pydnn.numerics.portable.workspace import floats
from pydnn.records import FloatArray

__all__ = ["matmul_float32", "nearest_sums"]

_PLACES = 1 << 14  # that are checked at a time
_TERMS = 1 << 16  # of doubtful places that are worked on at a time
_TERMS_OF_A_BLOCK = 512
_FEW, _MANY = 6, 64
_ULP = 2.0**-53


class _Operand(NamedTuple):
    """One operand, its lines as float64 (lines, k), and the length of each."""

    lines: FloatArray
    lengths: FloatArray
    bad: NDArray[np.bool_] | None  # which lines held an infinity or a NaN, and are zeros here


def matmul_float32(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n)."""
    right = kept("widened", b, lambda into: _widened(b.T, into))
    left = _widened(a, "left")
    m, n, k = len(left.lines), len(right.lines), left.lines.shape[1]
    if not k:
        out[...] = 0
        return
    product = floats("product", m, n)
    additions = _multiply(left.lines, right.lines.T, product)
    # Eight more ulps than the proof asks for, since the bound itself is rounded.
    left_bound = left.lengths * ((additions + 8) * _ULP)
    step = max(1, _PLACES // max(1, n))
    doubtful = []
    for start in range(0, m, step):
        rows = slice(start, start + step)
        found = _settle(product[rows], left_bound[rows], right.lengths, out[rows])
        if found.size:
            doubtful.append(found + start * n)
    if doubtful:
        _settle_doubtful(np.concatenate(doubtful), left.lines, right.lines, product, out)
    if left.bad is not None:
        out[left.bad] = np.nan
    if right.bad is not None:
        out[:, right.bad] = np.nan


def _multiply(left: FloatArray, right: FloatArray, product: FloatArray) -> int:
    """Fill `product`; the most additions that a term goes through."""
    k = len(right)
    if k <= 2 * _TERMS_OF_A_BLOCK:
        blas(left, right, out=product)
        return k
    # Blocks that are summed after that: the fewer additions, the fewer places are in doubt.
    starts = range(0, k, _TERMS_OF_A_BLOCK)
    share = floats("share", *product.shape)
    for start in starts:
        block = slice(start, start + _TERMS_OF_A_BLOCK)
        blas(left[:, block], right[block], out=share if start else product)
        if start:
            np.add(product, share, out=product)
    return _TERMS_OF_A_BLOCK + len(starts)


def _widened(lines: FloatArray, into: str | None) -> _Operand:
    # As the numbers lie in memory: line after line, or turned.
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
    """Euclidean lengths of rows, with errors of up to k ulps that may vary: they make bounds."""
    if lines.flags.c_contiguous:
        squares = vecdot(lines, lines)
    else:
        squares = einsum("ij,ij->j", lines.T, lines.T)
    lengths: FloatArray = np.sqrt(squares)
    return lengths


def _settle(
    product: FloatArray, rows: FloatArray, columns: FloatArray, out: FloatArray
) -> NDArray[np.int64]:
    """Fill `out` with the product rounded; the flat places that are in doubt."""
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
        # Where no term is other than 0, as with many zeros, there is nothing to be summed.
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
    """The float32 nearest to the true sum of each row of float64 `terms`, ties to even."""
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
    """The rounded sum, and its rounding error. Knuth, 1969, section 4.2.2, theorem B."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _summed_twice(terms: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each row a sum, the sum of its errors, and a bound of what is still left out."""
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
    # The bound is a sum that was rounded itself.
    return high[0], low[0], left_out * 1.0625


def _narrowed(high: FloatArray, low: FloatArray) -> FloatArray:
    """The float32 nearest to high + low, for low of less than an ulp of high."""
    # Rounded to odd first, high can be rounded again: no tie that is none, none that is lost.
    bits = high.view(np.int64)
    towards = np.where((low > 0) == (high > 0), 1, -1)
    odd = np.where((low != 0) & (bits & 1 == 0), bits + towards, bits)
    return odd.view(np.float64).astype(np.float32)


def _nearest_sum(terms: FloatArray) -> np.float32:
    numbers = terms.tolist()
    high = math.fsum(numbers)
    low = math.fsum([*numbers, -high])  # 0, or of the sign of the true rest
    if low and not struct.unpack("<q", struct.pack("<d", high))[0] & 1:
        high = math.nextafter(high, math.copysign(math.inf, low))  # to odd, as above
    return np.float32(high) + np.float32(0)
