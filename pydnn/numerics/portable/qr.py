"""Orthonormal factors of a matrix, from portable products and sums alone.

The specification. Columns are taken from left to right, in panels of `PANEL`. A panel P has taken
away from it, twice, what lies along the columns Q that were found before: (Pᵀ Q) Qᵀ, from Pᵀ, by
products of slices that keep 57 bits in place of 44. Then each of its columns v has, twice, what
lies along those found before it in its panel: q (q · v), for all of them at once, by the tree of
`sums`. What is left of a column, divided by its length (`sums.norm`), is the next column of Q,
unless its length is at most `tolerance` times that of the whole column: then it depends on those
before it, and brings none.
"""

from __future__ import annotations

import numpy as np

from pydnn.numerics.portable.products import precise_product
from pydnn.numerics.portable.sums import norm, tree_sum
from pydnn.records import FloatArray

__all__ = ["orthonormal"]

PANEL = 32


def orthonormal(X: FloatArray, *, tolerance: float = 1e-10) -> FloatArray:
    """Orthonormal columns Q (n, rank) that span those of X (n, m), all float64.

    With R = Qᵀ X, also by portable products, X is Q R up to rounding. R has a positive diagonal
    where the columns of X are independent.
    """
    n, m = X.shape
    found = np.empty((min(n, m), n))  # the transpose of Q, so that a column is one stretch
    rank = 0
    for start in range(0, m, PANEL):
        panel = np.array(X[:, start : start + PANEL].T, order="C")
        lengths = [norm(v) for v in panel]
        before = found[:rank]
        for _ in range(2 if rank else 0):
            panel -= precise_product(precise_product(panel, before.T), before)
        first = rank
        for v, length in zip(panel, lengths, strict=True):
            inside = found[first:rank]
            for _ in range(2 if len(inside) else 0):
                along = tree_sum(inside * v, axis=1)
                v -= tree_sum(along * inside, axis=0)[0]
            left = norm(v)
            if rank < len(found) and left > tolerance * length:
                found[rank] = v / left
                rank += 1
    return found[:rank].T
