import numpy as np
import pytest

from pydnn import Key
from pydnn.numerics.portable import orthonormal


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (120, 70), (70, 120), (300, 209)])
def test_columns_are_orthonormal_and_span_those_of_the_matrix(shape):
    X = Key(1).normal(shape)
    Q = orthonormal(X)
    assert Q.shape == (shape[0], min(shape))
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-13)
    np.testing.assert_allclose(Q @ (Q.T @ X), X, atol=1e-11)
    assert (np.diagonal(Q.T @ X) > 0).all()
    assert np.abs(np.tril(Q.T @ X, -1)).max(initial=0) < 1e-12


def test_columns_that_depend_on_earlier_ones_add_none():
    X = Key(2).normal((90, 60))
    X[:, 7], X[:, 40], X[:, 50] = X[:, 3], X[:, 1] - 2 * X[:, 39], 0
    Q = orthonormal(X)
    assert Q.shape == (90, 57)
    np.testing.assert_allclose(Q @ (Q.T @ X), X, atol=1e-12)
    assert orthonormal(np.zeros((4, 2))).shape == (4, 0)


def test_neither_scale_nor_layout_changes_the_result():
    X = Key(3).normal((40, 33))
    Q = orthonormal(X)
    np.testing.assert_array_equal(orthonormal(np.asfortranarray(X)), Q)
    np.testing.assert_array_equal(orthonormal(X * 2.0**100), Q)
