import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn.compiled.portable.blocks import multiply_blocks

SIZES = [
    (1, 1, 1), (4, 3, 8), (5, 7, 11), (16, 16, 32), (3, 2, 7), (9, 1, 17), (3, 2, 9), (7, 5, 8),
]  # fmt: skip


@pytest.mark.slow  # since compiling takes a second
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_numpy(turned):
    key = nn.Key(5)
    for m, k, n in SIZES:
        left, right = (key.at(name, m, k).normal(shape) for name, shape in
                       (("left", (m, k)), ("right", (k, n))))  # fmt: skip
        room = np.full(m * n + 100, np.nan)
        product = room[: m * n].reshape(m, n)
        given = np.ascontiguousarray(left.T) if turned else left.copy()
        multiply_blocks(given, turned, right.copy(), product)
        np.testing.assert_allclose(product, left @ right, rtol=1e-13, atol=1e-14)
        assert np.isnan(room[m * n :]).all()  # nothing is written after the product
