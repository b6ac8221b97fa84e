"""Products with few rows, cut into pieces of columns so small that BLAS uses one thread for each.

With few rows a second thread gains little: 20 x 229 by 229 x 209 takes 38 microseconds with two
threads and 43 in pieces. But while another process uses the second core, each product with two
threads waits milliseconds for it.
"""

from __future__ import annotations

import numpy as np

from pydnn.records import FloatArray

__all__ = ["LITTLE_WORK", "MOST_ROWS", "ONE_THREADS_WORK", "matmul_in_pieces"]

MOST_ROWS = 64
# Multiplications of one product. OpenBLAS was observed to use one thread below 1 << 19 of them.
# Larger products than the second are left to BLAS and its threads.
ONE_THREADS_WORK, LITTLE_WORK = (1 << 19) - 1, 1 << 23


def matmul_in_pieces(a: FloatArray, b: FloatArray, out: FloatArray) -> FloatArray:
    """Fill `out` with the product of `a`, which has few rows, and `b`; cut it if it is small."""
    if not ONE_THREADS_WORK < a.size * b.shape[1] <= LITTLE_WORK:
        return np.matmul(a, b, out)
    columns = max(1, ONE_THREADS_WORK // a.size)
    for start in range(0, b.shape[1], columns):
        place = np.s_[:, start : start + columns]
        np.matmul(a, b[place], out[place])
    return out
