import math

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import Key, portable
from pydnn.numerics.portable.slices import cut

pytestmark = pytest.mark.slow  # compiling takes seconds


@pytest.mark.parametrize("left", [True, False])
@example_count(400, quick=60)
@given(data=st.data())
def test_the_slices_have_the_same_bits(left, data):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 20)))
    elements = data.draw(st.sampled_from([numbers(np.float64), st.floats(-2, 2)]))
    lines = data.draw(laid_out(np.float64, shape, elements))
    for bits in (44, 57):
        assert_same_bits(lambda bits=bits: cut(lines, left=left, bits=bits).parts)


@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("shape", [(20, 209, 209), (65, 33, 500), (3, 4097, 5)])
@pytest.mark.parametrize("end", [1.0, 1e300, math.inf, math.nan, 5e-324])
def test_products_by_slices_have_the_same_bits(shape, order, end):
    m, k, n = shape
    a, b = (
        np.asarray(Key(k).at(o).normal(s), order=o)
        for s, o in zip(((m, k), (k, n)), order, strict=True)
    )
    a[-1, -1] = end
    assert_same_bits(lambda: portable.matmul(a, b))
