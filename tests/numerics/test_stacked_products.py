"""Tests of products of stacks of matrices and of sums over several axes."""

import numpy as np
import pytest

from pydnn.numerics import fast, portable

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(5, 3, 4)), RNG.normal(size=(5, 4, 2))
WIDE_A, WIDE_B = RNG.normal(size=(3, 6, 80)), RNG.normal(size=(3, 80, 2))

both = pytest.mark.parametrize("numerics", [fast, portable], ids=lambda n: n.name)


@both
@pytest.mark.parametrize(
    ("a", "b"), [(A, B), (A[0], B), (A, B[0]), (A[:, np.newaxis], B), (WIDE_A, WIDE_B)]
)
def test_stacks_are_multiplied_as_numpy_does(numerics, a, b):
    out = np.full(np.matmul(a, b).shape, np.nan)
    assert np.allclose(numerics.matmul(a, b), np.matmul(a, b), rtol=0, atol=1e-12)
    assert numerics.matmul(a, b, out=out) is out
    assert np.allclose(out, np.matmul(a, b), rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize(("a", "b"), [(A, B), (WIDE_A, WIDE_B), (A[0], B[0])])
def test_summed_products_are_the_sum_of_the_products(numerics, a, b):
    expected = (a @ b).reshape(-1, a.shape[-2], b.shape[-1]).sum(axis=0)
    out = np.full(expected.shape, np.nan)
    assert np.allclose(numerics.summed_matmul(a, b), expected, rtol=0, atol=1e-12)
    assert numerics.summed_matmul(a, b, out=out) is out
    assert np.allclose(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_portable_sums_of_products_are_single_dot_products(dtype):
    a, b = A.astype(dtype), B.astype(dtype)
    left = np.concatenate(list(a), axis=1)
    right = np.concatenate(list(b), axis=0)
    assert np.array_equal(portable.summed_matmul(a, b), portable.matmul(left, right))


@both
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (1, 2), (0, 1, 2)])
def test_sums_over_several_axes_keep_size_one(numerics, axis):
    expected = A.sum(axis=axis, keepdims=True)
    out = np.empty_like(expected)
    assert np.allclose(numerics.sum(A, axis=axis), expected, rtol=0, atol=1e-12)
    assert numerics.sum(A, axis=axis, out=out) is out
    assert np.allclose(out, expected, rtol=0, atol=1e-12)


def test_a_portable_sum_over_axes_is_that_of_their_numbers_in_order():
    line = A.transpose(1, 0, 2).reshape(3, -1)
    assert np.array_equal(portable.sum(A, axis=(0, 2)).ravel(), portable.sum(line, axis=1).ravel())
