"""Products of float64 matrices of which the left one is small: sums of products by the tree.

Specification: the first case of `pydnn.numerics.portable.products`, an entry is the sum, by the
tree of `sums`, of its k rounded products. Loops run over a few columns at a time, so that the terms
stay in the first cache.
"""

from __future__ import annotations

import numpy as np

from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable.forms import in_rows, or_numpy
from pydnn.compiled.portable.sums import fold
from pydnn.records import FloatArray

__all__ = ["by_tree", "product_by_tree"]

_WORTH_A_CALL = 128  # multiplications; NumPy is as fast with fewer
_WIDE = 64  # columns at a time


@kernel
def product_by_tree(
    a: FloatArray,
    a_turned: bool,
    b: FloatArray,
    b_turned: bool,
    out: FloatArray,
) -> None:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n), for k of 1 or more.

    Args:
        a: The left operand; (k, m) if `a_turned`.
        a_turned: Whether `a` is transposed.
        b: The right operand; (n, k) if `b_turned`.
        b_turned: Whether `b` is transposed.
        out: The product.
    """
    (m, n), k = out.shape, (a.shape[0] if a_turned else a.shape[1])
    c = (k + 1) // 2
    columns, room = np.empty(k * _WIDE), np.empty(c * _WIDE)
    for start in range(0, n, _WIDE):
        width = min(_WIDE, n - start)
        some = columns[: k * width].reshape(k, width)
        sums = room[: c * width].reshape(c, width)
        if b_turned:
            for j in range(width):
                for term in range(k):
                    some[term, j] = b[start + j, term]
        else:
            for term in range(k):
                line = b[term, start : start + width]
                for j in range(width):
                    some[term, j] = line[j]
        for i in range(m):
            for term in range(k - c):
                head = a[term, i] if a_turned else a[i, term]
                tail = a[term + c, i] if a_turned else a[i, term + c]
                for j in range(width):
                    sums[term, j] = head * some[term, j] + tail * some[term + c, j]
            for term in range(k - c, c):
                head = a[term, i] if a_turned else a[i, term]
                for j in range(width):
                    sums[term, j] = head * some[term, j]
            fold(room, c, width)
            line = out[i, start : start + width]
            for j in range(width):
                line[j] = room[j] + 0.0


@or_numpy
def by_tree(a: FloatArray, b: FloatArray, out: FloatArray) -> bool:
    """Fill `out` (m, n) with the product of a (m, k) and b (k, n), all float64."""
    if a.size * b.shape[1] < _WORTH_A_CALL:
        return False
    left, right = in_rows(a), in_rows(b)
    if left is None or right is None or not (len(b) and out.flags.c_contiguous):
        return False
    product_by_tree(*left, *right, out)
    return True
