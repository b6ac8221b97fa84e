import numpy as np
import pytest
from helpers import calls

from pydnn.numerics.small_products import matmul_in_pieces

ONE_THREAD = 1 << 19  # OpenBLAS does fewer multiplications in one thread


@pytest.mark.parametrize(
    ("shape", "in_pieces"),
    [
        ((2, 3, 4), False),
        ((64, 64, 127), False),
        ((1, 1, (1 << 19) - 1), False),
        ((64, 64, 128), True),
        ((20, 209, 209), True),
        ((32, 512, 512), True),
        ((64, 512, 257), False),  # large enough for two threads
        ((64, 9000, 2), True),
    ],
    ids=str,
)
def test_small_products_are_cut_into_pieces_for_one_thread(shape, in_pieces):
    m, k, n = shape
    a, b = np.linspace(-1, 2, m * k).reshape(m, k), np.linspace(-2, 1, k * n).reshape(k, n)
    out = np.full((m, n), np.nan)
    assert matmul_in_pieces(a, b, out) is out
    np.testing.assert_allclose(out, a @ b, rtol=1e-10, atol=1e-9)
    columns = [right.shape[1] for _, _, right in calls(matmul_in_pieces, a, b, out=out)]
    assert sum(columns) == n
    assert (len(columns) > 1) == in_pieces
    # There are as few pieces as possible, and no column is cut.
    assert not in_pieces or max(columns) == max(1, (ONE_THREAD - 1) // (m * k))
    assert len(set(columns[:-1])) <= 1
