"""Products of few rows in pieces of columns, so small that BLAS does each in one thread.

With few rows a second thread gains little: 20 x 229 by 229 x 209 takes 38 microseconds with it
and 43 in pieces. But where another process has its core, each product waits for it, for
milliseconds.
"""

from __future__ import annotations

import numpy as np

from pydnn.records import FloatArray

__all__ = ["LITTLE_WORK", "MOST_ROWS", "ONE_THREADS_WORK", "matmul_in_pieces"]

MOST_ROWS = 64
# In multiplications: below 1 << 19, OpenBLAS was seen to stay in one thread.
ONE_THREADS_WORK, LITTLE_WORK = (1 << 19) - 1, 1 << 23


def matmul_in_pieces(a: FloatArray, b: FloatArray, out: FloatArray) -> FloatArray:
    """Fill `out` with the product of `a`, of few rows, and `b`, in pieces where it is little."""
    if not ONE_THREADS_WORK < a.size * b.shape[1] <= LITTLE_WORK:
        return np.matmul(a, b, out)
    columns = max(1, ONE_THREADS_WORK // a.size)
    for start in range(0, b.shape[1], columns):
        place = np.s_[:, start : start + columns]
        np.matmul(a, b[place], out[place])
    return out
