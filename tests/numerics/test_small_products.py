import numpy as np
import pytest

from pydnn.numerics import small_products
from pydnn.numerics.small_products import matmul_in_pieces


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((2, 3, 4), [4]),
        ((64, 64, 127), [127]),
        ((1, 1, (1 << 19) - 1), [(1 << 19) - 1]),
        ((64, 64, 128), [127, 1]),
        ((20, 209, 209), [125, 84]),
        ((32, 512, 512), [31] * 16 + [16]),
        ((64, 512, 257), [257]),  # large enough for two threads
        ((64, 9000, 2), [1, 1]),
    ],
    ids=str,
)
def test_little_products_are_done_in_pieces_for_one_thread(shape, columns, monkeypatch):
    m, k, n = shape
    a, b = np.linspace(-1, 2, m * k).reshape(m, k), np.linspace(-2, 1, k * n).reshape(k, n)
    asked, plain = [], np.matmul

    class Watched:
        s_ = np.s_

        @staticmethod
        def matmul(a, b, out):
            asked.append(b.shape[1])
            return plain(a, b, out)

    monkeypatch.setattr(small_products, "np", Watched)
    out = np.full((m, n), np.nan)
    assert matmul_in_pieces(a, b, out) is out
    assert asked == columns
    np.testing.assert_allclose(out, a @ b, rtol=1e-10, atol=1e-9)
