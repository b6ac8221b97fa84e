"""Products of matrices whose bits no processor, BLAS, thread count or layout changes.

The specification. The product of A (m, k) and B (k, n) in float32 has in each place the float32
nearest to the true dot product, see `nearest`. In float64 it has, where m k is at most `FEW`, the
sum by the tree of `sums` of the k products, each rounded. Otherwise it has, with the s slices of
`slices`, exact sums

    S[i, j] = the sum over k of slice i of A times slice j of B
    T[l] = S[l - 1, 1] + S[l - 2, 2] + ... + S[1, l - 1], added from the left, for l = 2 to s + 1
    C = T[2] + (T[3] + (... + T[s + 1])), added from the right

where lines outside of 2**-200 to 2**200 are scaled by powers of two before, and C by the inverse
ones after that. +0.0 is added last, so every zero is +0.0. That takes s (s + 1) / 2 products of
BLAS, of sums that are exact in whatever order it adds. The error is at most about 2**-44 k of the
largest magnitudes of row and column.

A place depends on its row, its column and m, hence not on the other columns, which are examples.
A row or column that holds an infinity or a NaN is NaN in all of its places where slices are cut;
in the tree it is what IEEE 754 has for it.

The same in fractions, to check it by: tests/portable_oracles.py.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy import matmul as blas  # by its own name, for this is the one place that may ask it

from pydnn.numerics.pieces import LITTLE_WORK, MOST_ROWS, ONE_THREADS_WORK
from pydnn.numerics.portable.kept import kept
from pydnn.numerics.portable.slices import BAND, Slices, cut
from pydnn.numerics.portable.sums import fold
from pydnn.numerics.portable.workspace import ZERO, floats
from pydnn.records import FloatArray

__all__ = ["FEW", "blas", "matmul_float64", "precise_product"]

# Up to so many numbers of the left operand a tree of all products takes less time than slices.
FEW = 2048
_TERMS = 1 << 15  # of the tree that are worked on at a time
_PLACES = 1 << 17  # of slices' products that are worked on at a time
_FEWEST_COLUMNS = 256


def matmul_float64(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n)."""
    if a.size <= FEW:
        _by_tree(a, b, out)
    else:
        right = kept("slices", b, lambda into: cut(b.T, left=False, into=into))
        _by_slices(cut(a, left=True, into="left"), right, out)


def precise_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """The product with one slice more than usual: an error of float64's own size, or less."""
    out = np.empty((len(a), b.shape[1]))
    if a.size <= FEW:
        _by_tree(a, b, out)
    else:
        left = cut(a, left=True, into="left", extra=1)
        _by_slices(left, cut(b.T, left=False, into="right", extra=1), out)
    return out


def _by_tree(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    (m, k), n = a.shape, b.shape[1]
    if not k:
        out[...] = 0.0
        return
    step = max(1, _TERMS // (m * k)) if m else n
    left, right = a.T[:, :, np.newaxis], b[:, np.newaxis]
    for start in range(0, n, step):
        columns = right[:, :, start : start + step]
        width = columns.shape[2]
        terms = floats("terms", k * m * width).reshape(k, m, width)
        np.multiply(left, columns, out=terms)
        np.add(fold(terms)[0], ZERO, out=out[:, start : start + step])


def _by_slices(left: Slices, right: Slices, out: FloatArray) -> None:
    (s, m, _), n = left.parts.shape, right.parts.shape[1]
    step = max(_FEWEST_COLUMNS, _PLACES // (s * m) // BAND * BAND)
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        _add_up(left.parts, right, block, out[:, block])
    if left.exponents is not None or right.exponents is not None:
        _scale(left, right, out)


def _add_up(left: FloatArray, right: Slices, block: slice, out: FloatArray) -> None:
    """Fill `out` with the sums of slices' products, for a block of columns.

    The slices of rows lie one above the other: fewer and fuller calls of BLAS.
    """
    s, m, k = left.shape
    n = block.stop - block.start
    stack = left.reshape(s * m, k)
    pieces = _pieces(right.bands, block.start, block.stop, s * m, k)
    levels: list[FloatArray | None] = [None] * s  # T[2] to T[s + 1]
    for j, columns in enumerate(right.parts):
        rows = s - j
        products = floats(f"products {j}", rows * m * n).reshape(rows * m, n)
        for place, terms in pieces:
            into = products[:, place.start - block.start : place.stop - block.start]
            blas(stack[: rows * m, terms], columns[place, terms].T, out=into)
        for i, product in enumerate(products.reshape(rows, m, n)):
            level = levels[i + j]
            levels[i + j] = product if level is None else np.add(level, product, out=level)
    total = levels[-1]
    for level in levels[-2::-1]:
        total = np.add(level, total, out=total)  # type: ignore[arg-type]
    np.add(total, ZERO, out=out)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=256)
def _pieces(
    bands: tuple[tuple[int, int], ...] | None, start: int, stop: int, rows: int, k: int
) -> list[tuple[slice, slice]]:
    """Columns from `start` to `stop` in stretches, each with the terms that are not all zeros.

    Where a product is little, they are so short that BLAS does each in one thread, as `fast`
    has it and for its reasons. Sums are exact, so neither that nor a zero left out is seen in them.
    """
    width = stop - start
    if rows <= MOST_ROWS and rows * k * width <= LITTLE_WORK:
        width = min(width, max(BAND, ONE_THREADS_WORK // (rows * k) // BAND * BAND))
    pieces = []
    for first in range(start, stop, width):
        place = slice(first, min(first + width, stop))
        inside = bands[first // BAND : -(-place.stop // BAND)] if bands else [(0, k)]
        pieces.append((place, slice(min(lo for lo, _ in inside), max(hi for _, hi in inside))))
    return pieces


def _scale(left: Slices, right: Slices, out: FloatArray) -> None:
    rows = 0 if left.exponents is None else left.exponents[:, np.newaxis]
    columns = 0 if right.exponents is None else right.exponents
    np.add(np.ldexp(out, rows + columns), ZERO, out=out)
    if left.bad is not None:
        out[left.bad] = np.nan
    if right.bad is not None:
        out[:, right.bad] = np.nan
