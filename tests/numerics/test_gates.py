"""Gates of recurrent stages: the logistic function of some rows of a matrix, and tanh of others."""

import numpy as np
import pytest

from pydnn import Key, fast, portable

Z = 5 * Key(3).normal((6, 70))


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sigmoids", [0, 4, 6])
def test_gates_are_the_logistic_function_and_tanh(numerics, dtype, sigmoids):
    rows = Z.astype(dtype)
    gates = numerics.gates(rows, sigmoids)
    wide = rows.astype(np.float64)
    expected = np.concatenate([1 / (1 + np.exp(-wide[:sigmoids])), np.tanh(wide[sigmoids:])])
    assert gates.dtype == dtype
    np.testing.assert_allclose(gates, expected, rtol=0, atol=2 * np.finfo(dtype).eps)
    own = rows.copy()
    assert numerics.gates(own, sigmoids, out=own) is own
    np.testing.assert_array_equal(own, gates)


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_ends_of_the_range_give_the_limits_without_a_warning(numerics, dtype):
    ends = np.array([[-np.inf, -1e30, 0.0, 1e30, np.inf]] * 2, dtype)
    limits = numerics.gates(ends, 1)
    np.testing.assert_allclose(limits, [[0, 0, 0.5, 1, 1], [-1, -1, 0, 1, 1]], atol=1e-30)
    assert np.isnan(numerics.gates(np.full((2, 1), np.nan, dtype), 1)).all()


def test_more_rows_than_a_block_holds_change_nothing():
    many = np.concatenate([Z] * 60)
    np.testing.assert_array_equal(fast.gates(many, 100)[100:106], fast.gates(many[100:106], 0))
