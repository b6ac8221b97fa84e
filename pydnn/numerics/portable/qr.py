"""Orthonormal columns that span a matrix, from portable products and sums.

Specification. Columns are taken from left to right, in panels of `PANEL`.

1. From each panel P its components along all earlier columns Q are subtracted, twice: Pᵀ becomes
   Pᵀ - (Pᵀ Q) Qᵀ. Products use slices that keep 57 bits instead of 44.
2. From each column v of the panel its components along the columns q already found in this panel
   are subtracted, twice: q (q · v), for all q at once, by the tree of `sums`.
3. The rest of v, divided by its length (`sums.norm`), is the next column of Q. If the length is at
   most `tolerance` times that of the original column, v depends on earlier columns and adds none.
"""

from __future__ import annotations

import numpy as np

from pydnn.numerics.portable.products import precise_product
from pydnn.numerics.portable.sums import norm, tree_sum
from pydnn.records import FloatArray

__all__ = ["orthonormal"]

PANEL = 32


def orthonormal(X: FloatArray, *, tolerance: float = 1e-10) -> FloatArray:
    """Return orthonormal columns Q (n, rank) that span the columns of X (n, m), all float64.

    With R = Qᵀ X, X is Q R up to rounding. If the columns of X are independent, the diagonal of R
    is positive.
    """
    n, m = X.shape
    rows = np.empty((min(n, m), n))  # Q transposed, so that each column of Q is contiguous
    rank = 0
    for start in range(0, m, PANEL):
        panel = np.array(X[:, start : start + PANEL].T, order="C")
        lengths = [norm(v) for v in panel]
        before = rows[:rank]
        for _ in range(2 if rank else 0):
            panel -= precise_product(precise_product(panel, before.T), before)
        first = rank
        for v, length in zip(panel, lengths, strict=True):
            inside = rows[first:rank]
            for _ in range(2 if len(inside) else 0):
                along = tree_sum(inside * v, axis=1)
                v -= tree_sum(along * inside, axis=0)[0]
            left = norm(v)
            if rank < len(rows) and left > tolerance * length:
                rows[rank] = v / left
                rank += 1
    return rows[:rank].T
