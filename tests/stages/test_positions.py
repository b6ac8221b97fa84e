import math
from fractions import Fraction

import numpy as np
import pytest

from pydnn import BadInput, Context, Key, positions
from pydnn.stages import EVALUATION
from pydnn.stages.positions import PositionsParams, sinusoids
from pydnn.testing import assert_onnx, assert_stage

STEPS = np.zeros((2, 3, 1))


def test_sinusoidal_positions_match_worked_example():
    # With n = 4 the angles of step 3 are 3 and 3 / 100.
    A, _ = positions().forward((), np.zeros((4, 4, 1)), EVALUATION)
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    np.testing.assert_allclose(A[3, :, 0], expected, rtol=1e-15)
    np.testing.assert_array_equal(A[0, :, 0], [0, 1, 0, 1])


@pytest.mark.parametrize("n", [1, 6, 7])
def test_sinusoids_are_right_to_the_last_bit_but_one(n):
    table = sinusoids(300, n)
    assert table.shape == (300, n)
    assert not table.flags.writeable
    for t, k in ((0, 0), (1, n - 1), (299, n - 1), (255, n // 2), (256, 0)):
        angle = t / 10_000 ** (2 * (k // 2) / n)
        assert table[t, k] == pytest.approx([math.sin, math.cos][k % 2](angle), abs=1e-13)
    # sin**2 + cos**2 is 1 up to the rounding of the two.
    if n > 1:
        squares = [Fraction(float(s)) ** 2 + Fraction(float(c)) ** 2 for s, c in table[:, :2]]
        assert max(abs(one - 1) for one in squares) < Fraction(1, 2**52)


def test_a_longer_table_begins_with_a_shorter_one():
    np.testing.assert_array_equal(sinusoids(200, 5)[:90], sinusoids(90, 5))


def test_learned_positions_match_worked_example():
    params = PositionsParams([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    A, cache = positions("learned").forward(params, STEPS, EVALUATION)
    np.testing.assert_array_equal(A, params.P)
    dA = np.arange(12.0).reshape(2, 3, 2)
    dA_prev, grads = positions("learned").backward(params, cache, dA)
    np.testing.assert_array_equal(dA_prev, dA)
    np.testing.assert_array_equal(grads.dP[0, :, 0], [1, 5, 9])


def test_shorter_sequences_use_the_first_learned_positions():
    params = PositionsParams(np.arange(6.0).reshape(3, 2, 1))
    A, cache = positions("learned").forward(params, np.ones((2, 2, 4)), EVALUATION)
    np.testing.assert_array_equal(A[:, :, 0], [[1, 2], [3, 4]])
    _, grads = positions("learned").backward(params, cache, np.ones((2, 2, 4)))
    np.testing.assert_array_equal(grads.dP[:, :, 0], [[4, 4], [4, 4], [0, 0]])


@pytest.mark.parametrize("kind", ["sinusoidal", "learned"])
def test_positions_keep_all_laws(kind):
    assert_stage(positions(kind), shape_in=(4, 3), shares_input=True)
    assert_onnx(positions(kind), shape_in=(4, 3))


REFUSED = {
    "kind": (lambda: positions("learnt"), "there is no kind of positions 'learnt': did you mean"),
    "columns": (lambda: positions().init(Key(0), (3,)), r"examples have shape \(3,\), expected"),
    "ids": (lambda: positions().forward((), np.ones((3, 2)), EVALUATION), "expected \\(T, n\\)"),
    "longer": (
        lambda: positions("learned").forward(
            PositionsParams(np.zeros((1, 3, 1))), STEPS, EVALUATION
        ),
        "A_prev has 2 steps, expected at most the 1 of the learned positions: give shorter",
    ),
    "features": (
        lambda: positions("learned").forward(
            PositionsParams(np.zeros((2, 4, 1))), STEPS, EVALUATION
        ),
        r"A_prev has shape \(2, 3, 1\), expected \(T, 4, m\)",
    ),
    "precision": (
        lambda: positions("learned").forward(
            PositionsParams(np.zeros((2, 3, 1))), STEPS.astype(np.float32), Context()
        ),
        "A_prev is float32, but the parameters are float64",
    ),
    "sizes": (
        lambda: positions("learned").init(Key(0), (10**12, 10**6)),
        "have .* numbers, more than any machine holds",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
