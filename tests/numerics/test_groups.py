"""Tests of sums of the columns of each group."""

from fractions import Fraction

import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st

from pydnn.numerics import fast, portable

both = pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)


@both
def test_the_columns_of_each_group_are_added(numerics):
    a = np.array([[[1.0, 2.0], [10.0, 20.0]], [[3.0, 4.0], [30.0, 40.0]]])  # two steps of two rows
    groups = np.array([[0, 2], [2, 2]])
    expected = [[1, 10], [0, 0], [2 + 3 + 4, 20 + 30 + 40]]
    np.testing.assert_array_equal(numerics.sum_groups(a, groups, 3), expected)
    out = np.full((3, 2), np.nan)
    assert numerics.sum_groups(a, groups, 3, out=out) is out
    np.testing.assert_array_equal(out, expected)


def nearest(total, dtype):
    """Return the number of a dtype that is nearest to a fraction, ties to even."""
    near = dtype(float(total))
    around = [np.nextafter(near, dtype(-np.inf)), near, np.nextafter(near, dtype(np.inf))]
    odd = [int(one.view(f"i{one.nbytes}")) & 1 for one in around]
    return min(
        zip(around, odd, strict=True), key=lambda x: (abs(Fraction(float(x[0])) - total), x[1])
    )[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@example_count(100)
@given(
    st.lists(
        st.tuples(st.integers(-(2**24), 2**24), st.integers(-60, 60), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_portable_sums_are_rounded_once(dtype, terms):
    numbers = np.array([[m * 2.0**e for m, e, _ in terms]]).astype(dtype)
    groups = np.array([g for *_, g in terms])
    sums = portable.sum_groups(numbers, groups, 3)
    assert sums.dtype == dtype
    for group in range(3):
        total = sum((Fraction(float(x)) for x in numbers[0, groups == group]), Fraction(0))
        assert sums[group, 0] == nearest(total, dtype)


def test_portable_sums_do_not_depend_on_the_order_of_columns():
    rng = np.random.default_rng(1)
    a, groups = (
        rng.normal(size=(3, 400)) * 2.0 ** rng.integers(-90, 90, 400),
        rng.integers(0, 5, 400),
    )
    order = rng.permutation(400)
    sums = portable.sum_groups(a, groups, 5)
    assert sums.tobytes() == portable.sum_groups(a[:, order], groups[order], 5).tobytes()


def test_portable_sums_at_the_ends_of_the_range_of_floats():
    def total(*numbers):
        return float(portable.sum_groups(np.array([numbers]), np.zeros(len(numbers), int), 1)[0, 0])

    assert total(1e308, 1e308, -1e308) == 1e308
    assert total(1e308, 1e308) == np.inf
    assert total(5e-324, 5e-324, -5e-324) == 5e-324
    assert total(1.0, np.inf, 2.0) == np.inf
    assert np.isnan(total(np.inf, -np.inf))
    assert np.isnan(total(np.nan, 1.0))
    assert np.copysign(1, total(-0.0, -0.0)) == 1
