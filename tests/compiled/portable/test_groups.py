import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import assert_same_bits, laid_out, numbers

from pydnn import portable
from pydnn.compiled.portable import groups
from pydnn.engines import using_engine

DTYPES = [pytest.param(np.float64, marks=pytest.mark.slow), np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@example_count(1000, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(dtype, data):
    shape = data.draw(st.sampled_from([(1, 1), (2, 30), (9, 5), (3, 2, 7), (2, 0)]))
    # Numbers of few bits and many sizes, whose sums are often ties, besides any numbers.
    ties = st.builds(lambda m, e: float(m * 2.0**e), st.integers(-3, 3), st.integers(-60, 60))
    a = data.draw(laid_out(dtype, shape, ties if data.draw(st.booleans()) else numbers(dtype)))
    which = data.draw(
        st.lists(st.integers(0, 2), min_size=a[..., 0, :].size, max_size=a[..., 0, :].size)
        if a.size
        else st.just([])
    )
    of_columns = np.array(which, np.intp).reshape(a[..., 0, :].shape)
    assert_same_bits(lambda: portable.sum_groups(a, of_columns, 4))
    out = np.empty((4, a.shape[-2]), dtype)
    assert_same_bits(lambda: portable.sum_groups(a, of_columns, 4, out=out))


@pytest.mark.slow
def test_sums_of_many_columns_are_decided_by_the_kernel():
    rng = np.random.default_rng(1)
    for dtype in (np.float64, np.float32):
        a, of_columns = rng.normal(size=(7, 4000)).astype(dtype), rng.integers(0, 50, 4000)
        sums = np.empty((60, 7), dtype)
        assert groups.sums_of_groups(a, of_columns, sums)
        assert sums.tobytes() == portable.sum_groups(a, of_columns, 60).tobytes()


@pytest.mark.slow
def test_a_sum_in_doubt_is_left_to_numpy():
    a, out = np.array([[1.0, 2.0**-53, 2.0**-200]]), np.empty((1, 1))
    assert groups.sums_of_groups(a[:, :2], np.zeros(2, int), out)  # an exact tie
    assert out == 1.0
    for more in (2.0**-200, -(2.0**-200)):
        a = np.array([[1.0, 2.0**-53, 2.0**-120, more]])
        assert not groups.sums_of_groups(a, np.zeros(4, int), out)
        assert_same_bits(lambda a=a: portable.sum_groups(a, np.zeros(4, int), 1))


@pytest.mark.slow
def test_numbers_that_are_scaled_are_left_to_numpy():
    a = np.array([[1e300, 5e-324, -1e300]])  # scaling rounds the second one to 0
    assert not groups.sums_of_groups(a, np.zeros(3, int), np.empty((1, 1)))
    assert_same_bits(lambda: portable.sum_groups(a, np.zeros(3, int), 1))


def test_a_group_that_does_not_exist_is_refused_as_by_numpy():
    a = np.ones((2, 3), np.float32)
    for group in (-1, 4):
        with using_engine("compiled"), pytest.raises(ValueError, match=r"negative|reshape"):
            portable.sum_groups(a, np.array([0, group, 1]), 4)
