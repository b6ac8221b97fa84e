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

import numpy as np
from numpy import matmul as blas  # by its own name, for this is the one place that may ask it

from pydnn.numerics.portable.kept import kept
from pydnn.numerics.portable.slices import Slices, cut
from pydnn.numerics.portable.sums import fold
from pydnn.numerics.portable.workspace import ZERO, floats
from pydnn.records import FloatArray

__all__ = ["FEW", "blas", "matmul_float64", "precise_product"]

# Up to so many numbers of the left operand a tree of all products takes less time than slices.
FEW = 2048
_TERMS = 1 << 15  # of the tree that are worked on at a time
_PLACES = 1 << 17  # of slices' products that are worked on at a time
_FEWEST_COLUMNS = 256
_SMALL = 1_000_000  # multiplications up to which OpenBLAS has a way without copies of its own


def matmul_float64(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n)."""
    if a.size <= FEW:
        _by_tree(a, b, out)
    else:
        right = kept("slices", b, lambda into: _cut_right(b, into))
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


def _cut_right(b: FloatArray, into: str | None) -> Slices:
    # What is kept has its rows in the order in which small products read them fastest.
    columns = b.T if into else np.ascontiguousarray(b).T
    return cut(columns, left=False, into=into)


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
    (s, m, k), n = left.parts.shape, right.parts.shape[1]
    step = max(_FEWEST_COLUMNS, _PLACES // (s * m))
    for start in range(0, n, step):
        block = slice(start, start + step)
        columns = right.parts[:, block].transpose(0, 2, 1)
        if m * k * columns.shape[2] > _SMALL and left.parts.flags.c_contiguous:
            _stacked(left.parts, columns, out[:, block])
        else:
            _one_by_one(left.parts, columns, out[:, block])
    if left.exponents is not None or right.exponents is not None:
        _scale(left, right, out)


def _one_by_one(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    s, m, n = len(left), left.shape[1], right.shape[2]
    product = total = floats("product", m * n).reshape(m, n)
    for level in range(s - 1, -1, -1):  # T[s + 1] to T[2]
        into = out if level == 0 else floats(f"level {level}", m * n).reshape(m, n)
        blas(left[level], right[0], out=into)
        for j in range(1, level + 1):
            blas(left[level - j], right[j], out=product)
            np.add(into, product, out=into)
        total = into if level == s - 1 else np.add(into, total, out=into)
    np.add(total, ZERO, out=out)


def _stacked(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """The same with the slices of rows one above the other: fewer and fuller calls of BLAS."""
    s, m, k = left.shape
    n = right.shape[2]
    levels: list[FloatArray | None] = [None] * s  # T[2] to T[s + 1]
    for j, columns in enumerate(right):
        rows = s - j
        stack = floats(f"products {j}", rows * m * n).reshape(rows * m, n)
        blas(left[:rows].reshape(rows * m, k), columns, out=stack)
        for i, product in enumerate(stack.reshape(rows, m, n)):
            level = levels[i + j]
            levels[i + j] = product if level is None else np.add(level, product, out=level)
    total = levels[-1]
    for level in levels[-2::-1]:
        total = np.add(level, total, out=total)  # type: ignore[arg-type]
    np.add(total, ZERO, out=out)  # type: ignore[arg-type]


def _scale(left: Slices, right: Slices, out: FloatArray) -> None:
    rows = 0 if left.exponents is None else left.exponents[:, np.newaxis]
    columns = 0 if right.exponents is None else right.exponents
    np.add(np.ldexp(out, rows + columns), ZERO, out=out)
    if left.bad is not None:
        out[left.bad] = np.nan
    if right.bad is not None:
        out[:, right.bad] = np.nan
