import math

import numpy as np
import pytest
from helpers import assert_gradients_match, frozen, numeric_gradient
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Key, sigmoid_cross_entropy

loss = sigmoid_cross_entropy()
WORKED = {
    "no idea": ([[0.0]], [[1.0]], math.log(2), [[-0.5]]),
    # sigmoid(log 3) = 3/4; costs -log(3/4) and -log(1/4), gradients (A - Y) / 2.
    "one right, one wrong": (
        [[math.log(3), math.log(3)]],
        [[1.0, 0.0]],
        (math.log(4 / 3) + math.log(4)) / 2,
        [[-0.125, 0.375]],
    ),
    "sure and right": ([[1000.0, -1000.0]], [[1.0, 0.0]], 0.0, [[0.0, 0.0]]),
    "sure and wrong": ([[1000.0, -1000.0]], [[0.0, 1.0]], 1000.0, [[0.5, -0.5]]),
}


@pytest.mark.parametrize(("Z", "Y", "cost", "dZ"), WORKED.values(), ids=WORKED)
def test_worked_numbers(Z, Y, cost, dZ):
    found, gradient = loss(frozen(Z), frozen(Y))
    assert found == pytest.approx(cost, abs=1e-15)
    np.testing.assert_allclose(gradient, dZ, atol=1e-15)
    assert not gradient.flags.writeable


@given(st.integers(1, 8), st.integers(0, 99))
def test_the_gradient_is_that_of_central_differences(m, seed):
    Z = 3 * Key(seed).normal((1, m))
    Y = Key(seed).at("labels").integers(2, (1, m)).astype(float)
    _, dZ = loss(Z, Y)
    assert_gradients_match(dZ, numeric_gradient(lambda Z: loss(Z, Y)[0], Z), "dZ")


def test_float32_stays_float32():
    assert loss(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))[1].dtype == np.float32


def test_predictions_are_probabilities():
    np.testing.assert_allclose(loss.predict(np.array([[0.0, math.log(3)]])), [[0.5, 0.75]])


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match=r"Y has shape \(1, 3\), expected \(1, 2\)"):
        loss(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(BadInput, match=r"label 2 at index \(0, 1\), expected 0 or 1"):
        loss.expect_labels(np.array([[0.0, 2.0]]))
    with pytest.raises(BadInput, match="label nan"):
        loss.expect_labels(np.array([[np.nan]]))
