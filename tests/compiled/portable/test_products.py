import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import Key, portable
from pydnn.compiled.portable import products

DTYPE = np.float64


@example_count(1000, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(data):
    m, k, n = data.draw(st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(1, 6)))
    elements = data.draw(st.sampled_from([numbers(DTYPE), st.floats(-2, 2)]))
    a = data.draw(laid_out(DTYPE, (m, k), elements))
    b = data.draw(laid_out(DTYPE, (k, n), elements))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_WORTH_A_CALL", 0)
        assert_same_bits(lambda: portable.matmul(a, b))


@pytest.mark.parametrize("order", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize("shape", [(7, 20, 209), (7, 209, 20), (1, 209, 64), (16, 3, 65)])
def test_products_of_many_columns_have_the_same_bits(shape, order):
    m, k, n = shape
    a, b = (np.asarray(Key(k).normal(s), order=o) for s, o in zip(((m, k), (k, n)), order))  # noqa: B905
    assert_same_bits(lambda: portable.matmul(a, b))
    assert_same_bits(lambda: portable.matmul(a, b, out=np.empty((m, n + 1))[:, :n]))
