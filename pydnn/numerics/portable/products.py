"""Products of matrices with the same bits for every processor, BLAS, thread count and layout.

Specification. Each entry of the float32 product of A (m, k) and B (k, n) is the float32 nearest to
the true dot product, see `nearest`. For float64 there are two cases. If m k is at most `FEW`, an
entry is the sum, by the tree of `sums`, of its k rounded products. Otherwise A and B are cut into s
slices, see `slices`, which give exact sums

    S[i, j] = the sum over k of slice i of A times slice j of B
    T[l] = S[l - 1, 1] + S[l - 2, 2] + ... + S[1, l - 1], added from the left, for l = 2 to s + 1
    C = T[2] + (T[3] + (... + T[s + 1])), added from the right

Lines with magnitudes outside 2**-200 to 2**200 are scaled by powers of two before, and C by the
inverse powers after. Finally +0.0 is added, so every zero is +0.0. This takes s (s + 1) / 2
products of BLAS, whose sums are exact in whatever order it adds. The error is at most about 2**-44
k times the largest magnitudes of row and column.

An entry depends on its row, its column and m, and not on the other columns, which are examples. If
a row or column holds an infinity or a NaN, all its entries are NaN in the second case; in the first
case IEEE 754 says what they are.

tests/portable_oracles.py computes the same with fractions.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy import add, multiply
from numpy import matmul as blas  # use it only where its sums are exact, or bounded as in `nearest`

from pydnn.engines import in_use
from pydnn.numerics.portable.cache import kept
from pydnn.numerics.portable.slices import (
    BAND,
    LEAST_PLAIN,
    MOST_PLAIN,
    USUAL_BITS,
    Bands,
    Slices,
    cut,
    plan,
)
from pydnn.numerics.portable.sums import Pairs, add_up, halves
from pydnn.numerics.portable.workspace import ZERO, floats, of_each_thread
from pydnn.numerics.small_products import LITTLE_WORK, MOST_ROWS, ONE_THREADS_WORK
from pydnn.records import FloatArray

__all__ = ["FEW", "blas", "matmul_float64", "precise_product"]

# Up to this size of the left operand, a tree of all products is faster than slices.
FEW = 2048
_PRECISE_BITS = 57
_LEFT = "left"  # the work array with the slices of the left operand
_TERMS = 1 << 15  # terms of the tree that are computed at a time
_WIDE = 128  # columns of a block of the tree; wider blocks are no faster per column
_PLACES = 1 << 17  # entries of products of slices that are computed at a time
_FEWEST_COLUMNS = 256


def matmul_float64(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n)."""
    if a.size <= FEW:
        _by_tree(a, b, out)
    elif not _by_compiled_slices(a, b, USUAL_BITS, out):
        right = kept("slices", b, lambda into: cut(b.T, left=False, into=into))
        _by_slices(_cut_left(a), right, out)


def _cut_left(a: FloatArray) -> Slices:
    """Return the slices of a left operand, which lie in the work array of their name."""
    left = kept("left slices", a, lambda into: cut(a, left=True, into=into and _LEFT))
    work = floats(_LEFT, *left.parts.shape)
    if left.parts.base is not work.base:
        work[...] = left.parts  # takes a tenth of the time of the cut
    return left


def precise_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the product by slices that keep 57 bits, with an error no larger than float64's own.

    Args:
        a: The left operand, float64 (m, k).
        b: The right operand, float64 (k, n).
    """
    out = np.empty((len(a), b.shape[1]))
    if _by_compiled_slices(a, b, _PRECISE_BITS, out):
        return out
    left = cut(a, left=True, into=_LEFT, bits=_PRECISE_BITS)
    _by_slices(left, cut(b.T, left=False, into="right", bits=_PRECISE_BITS), out)
    return out


def _by_tree(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    (m, k), n = a.shape, b.shape[1]
    if not k:
        out[...] = 0.0
        return
    forms = in_use.forms
    if forms is not None and forms.portable.by_tree(a, b, out):
        return
    if m * k * n > _TERMS:
        # Blocks with wide rows, which are faster than many narrow ones.
        rows = max(1, min(m, _TERMS // (k * min(n, _WIDE))))
        columns = max(1, _TERMS // (k * rows))
        for row, column in itertools.product(range(0, m, rows), range(0, n, columns)):
            some, others = slice(row, row + rows), slice(column, column + columns)
            _by_tree(a[some], b[:, others], out[some, others])
        return
    terms, total, pairs = _terms(k, m, n)
    multiply(a.T[:, :, np.newaxis], b[:, np.newaxis], terms)
    add_up(pairs)
    add(total, ZERO, out)


@of_each_thread
def _terms(k: int, m: int, n: int) -> tuple[FloatArray, FloatArray, Pairs]:
    """Return a work array for k terms of m x n sums, its part for the sums, and the additions."""
    terms = floats("scratch", k, m, n)
    return terms, terms[0], halves(terms)


def _by_compiled_slices(a: FloatArray, b: FloatArray, bits: int, out: FloatArray) -> bool:
    forms, k = in_use.forms, len(b)
    if forms is None:
        return False
    plans = plan(k, True, bits), plan(k, False, bits)
    done: bool = forms.portable.by_slices(a, b, plans, (LEAST_PLAIN, MOST_PLAIN), out)
    return done


def _by_slices(left: Slices, right: Slices, out: FloatArray) -> None:
    (s, m, k), n = left.parts.shape, right.parts.shape[1]
    step = max(_FEWEST_COLUMNS, _PLACES // (s * m) // BAND * BAND)
    for start in range(0, n, step):
        stop = min(start + step, n)
        calls, pairs, total = _sums(s, m, k, right.bands, start, stop)
        for rows, j, columns, terms, into in calls:
            blas(rows, right.parts[j, columns, terms].T, into)
        add_up(pairs)
        add(total, ZERO, out[:, start:stop])
    if left.exponents is not None or right.exponents is not None:
        _scale(left, right, out)


@of_each_thread
def _sums(
    s: int, m: int, k: int, bands: Bands | None, start: int, stop: int
) -> tuple[list[tuple[FloatArray, int, slice, slice, FloatArray]], Pairs, FloatArray]:
    """Plan how the products of slices are made and added up, for columns from `start` to `stop`.

    The slices of the left operand lie one above the other in the work array `_LEFT`. Slice j of the
    right operand multiplies the first s - j of them in one call of BLAS: fewer and larger calls.

    Returns:
        The calls, each with rows of left slices, the number of the right slice, its columns and
        terms, and the place for the result; then the additions, as pairs (to, from); and the place
        of the sum.
    """
    n = stop - start
    parts = _products_of(s, m, n)
    products = np.split(parts, [s * j - j * (j - 1) // 2 for j in range(1, s)])
    stack = floats(_LEFT, s, m, k).reshape(s * m, k)
    calls = [
        (
            stack[: len(product) * m, terms],
            j,
            columns,
            terms,
            product.reshape(-1, n)[:, columns.start - start : columns.stop - start],
        )
        for columns, terms in _pieces(bands, start, stop, s * m, k)
        for j, product in enumerate(products)
    ]
    # T[2] to T[s + 1]. Products of later slices are smaller. C adds them first, so that rounding
    # errors stay small.
    levels = list(products[0])
    pairs = [
        (levels[i + j], product)
        for j, others in enumerate(products[1:], 1)
        for i, product in enumerate(others)
    ]
    pairs += [(levels[-1], level) for level in levels[-2::-1]]
    return calls, pairs, levels[-1]


def _products_of(s: int, m: int, n: int) -> FloatArray:
    """Return the work array for all products of slices, those with one right slice together."""
    return floats("scratch", s * (s + 1) // 2, m, n)


def _pieces(
    bands: Bands | None, start: int, stop: int, rows: int, k: int
) -> list[tuple[slice, slice]]:
    """Return pieces of the columns from `start` to `stop`, each with its terms that are not 0.

    The pieces of a small product are so short that BLAS does each in one thread, see
    `small_products`. The sums are exact, so neither pieces nor zeros left out change any bit.
    """
    small = rows <= MOST_ROWS and rows * k * (stop - start) <= LITTLE_WORK
    pieces = []
    while start < stop:
        end, low, high = start, k, 0
        while end < stop:
            band = bands[end // BAND] if bands else (0, k)
            terms, next_end = (min(low, band[0]), max(high, band[1])), min(end + BAND, stop)
            work = rows * (terms[1] - terms[0]) * (next_end - start)
            if small and work > ONE_THREADS_WORK and end > start:
                break
            end, (low, high) = next_end, terms
        pieces.append((slice(start, end), slice(low, high)))
        start = end
    return pieces


def _scale(left: Slices, right: Slices, out: FloatArray) -> None:
    rows = 0 if left.exponents is None else left.exponents[:, np.newaxis]
    columns = 0 if right.exponents is None else right.exponents
    np.add(np.ldexp(out, rows + columns), ZERO, out=out)
    if left.bad is not None:
        out[left.bad] = np.nan
    if right.bad is not None:
        out[:, right.bad] = np.nan
