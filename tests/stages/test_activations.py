import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import EVALUATION, identity, relu, sigmoid, tanh

WORKED = {
    "relu": (relu(), [-2.0, 0.0, 3.0], [0, 0, 3], [0, 0, 1]),
    "sigmoid": (
        sigmoid(),
        [0.0, math.log(3), -math.log(3), 1000.0, -1000.0],
        [0.5, 0.75, 0.25, 1.0, 0.0],
        [0.25, 0.1875, 0.1875, 0.0, 0.0],
    ),
    "tanh": (tanh(), [0.0, math.log(2), 1000.0], [0, 0.6, 1], [1, 0.64, 0]),
    "identity": (identity(), [-1.0, 2.0], [-1, 2], [1, 1]),
}


@pytest.mark.parametrize(("stage", "Z", "A", "slope"), WORKED.values(), ids=WORKED)
def test_values_and_slopes_match_worked_examples(stage, Z, A, slope):
    out, cache = stage.forward((), np.array([Z]), EVALUATION)
    np.testing.assert_allclose(out, [A], atol=1e-15)
    back, grads = stage.backward((), cache, np.ones((1, len(Z))))
    np.testing.assert_allclose(back, [slope], atol=1e-15)
    assert grads == ()


@given(st.floats(-700, 700))
def test_sigmoid_is_symmetric_and_precise_in_both_tails(z):
    (A,), (B,) = (sigmoid().forward((), np.array([x]), EVALUATION)[0] for x in (z, -z))
    assert pytest.approx(1, abs=1e-15) == A + B
    expected = 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))
    assert pytest.approx(expected, rel=1e-14) == A
