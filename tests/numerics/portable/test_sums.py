import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from portable_oracles import tree

from pydnn import Key
from pydnn.numerics import portable

floats = st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1.0, 2.0**-53, 5e-324])
matrices = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=floats)


def same_bits(a, b):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


@given(matrices)
def test_sums_are_those_of_the_tree(a):
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.array([[tree(row)] for row in a.tolist()])
        for layout in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
            same_bits(portable.sum(layout, axis=1), rows)
            same_bits(portable.sum(layout.T, axis=0), rows.T)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(3, 5000), (5000, 3), (1, 1), (4, 0), (0, 4), (1, 30_001)])
def test_large_sums_are_those_of_the_tree(dtype, shape):
    a = Key(1).normal(shape).astype(dtype)
    for axis in (0, 1):
        lines = a if axis else a.T
        expected = np.zeros(len(lines), dtype)
        for i, line in enumerate(lines):
            expected[i] = tree(list(line)) if line.size else 0
        out = np.full((1, shape[1]) if axis == 0 else (shape[0], 1), 7, dtype)
        assert portable.sum(a, axis=axis, out=out) is out
        same_bits(out.ravel(), expected)
        same_bits(portable.sum(np.asfortranarray(a), axis=axis), out)


@pytest.mark.parametrize("shape", [(7, 301), (7, 300), (2, 1), (3, 5000), (3, 5001)])
def test_means_are_those_of_the_tree_in_c_order(shape):
    a = Key(2).normal(shape)
    assert portable.mean(a) == tree(a.ravel().tolist()) / a.size
    assert portable.mean(np.asfortranarray(a)) == portable.mean(a)
    narrow = a.astype(np.float32)
    assert portable.mean(narrow) == tree(map(float, narrow.ravel())) / a.size


def test_worked_means():
    assert portable.mean(np.array([1.0, 2.0, 4.5])) == 2.5
    # First numbers 1 and 3 and numbers 2 and 4, then both sums.
    assert portable.mean(np.array([2.0**53, 1.0, -(2.0**53), 1.0])) == 0.5
    assert math.isnan(portable.mean(np.zeros((3, 0))))
    for count in (1, 2, 10_000):
        assert math.copysign(1, portable.mean(np.full(count, -0.0))) == 1


@pytest.mark.parametrize("size", [1, 2, 20_000, 20_001])
def test_lengths_are_roots_of_the_tree_of_squares(size):
    v = Key(3).normal(size)
    assert portable.norm(v) == math.sqrt(tree(x * x for x in v.tolist()))
    assert portable.norm(v[::-1].copy()[::-1]) == portable.norm(v)
    assert portable.norm(np.array([3.0, 4.0])) == 5


@given(
    arrays(np.float64, st.integers(1, 9), elements=st.floats(allow_nan=False, allow_infinity=False))
)
def test_lengths_are_right_over_the_whole_range(v):
    exact = sum(Fraction(x) ** 2 for x in v.tolist())
    found = portable.norm(v) if exact < Fraction(2) ** 2046 else None
    if found is not None:
        error = abs(Fraction(found) ** 2 - exact)
        assert error <= exact * Fraction(1, 2**48) + Fraction(found) * Fraction(1, 2**1073)


def test_lengths_of_empty_zero_and_not_finite_vectors():
    assert portable.norm(np.zeros(3)) == portable.norm(np.empty(0)) == 0
    assert portable.norm(np.array([1.0, -np.inf])) == np.inf
    assert portable.norm(np.full(10, 5.7e307)) == np.inf  # 5.7e307 * sqrt(10) is beyond the range
    assert math.isnan(portable.norm(np.array([np.nan, 1.0])))
    assert math.isnan(portable.norm(np.array([np.nan, np.inf])))


def test_the_length_of_a_vector_may_exceed_the_largest_number():
    assert portable.norm(np.full(48, 2.6e307)) == np.inf
    assert portable.norm(np.full(4, 2.0**1022)) == 2.0**1023
