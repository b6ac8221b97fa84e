import math

import numpy as np
import pytest
from helpers import calls
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Context, Key, elu, gelu, leaky_relu, relu, selu, sigmoid, silu, softplus
from pydnn.numerics import fast, memory, portable
from pydnn.stages import EVALUATION, activations, identity, tanh
from pydnn.stages.activations import _relu_backward

E = math.e
WORKED = {
    "identity": (identity(), [-1.0, 2.0], [-1, 2], [1, 1]),
    "relu": (relu(), [-2.0, 0.0, 3.0], [0, 0, 3], [0, 0, 1]),
    "leaky_relu": (leaky_relu(slope=0.25), [-2.0, 0.0, 3.0], [-0.5, 0, 3], [0.25, 0.25, 1]),
    "elu": (
        elu(alpha=2), [-1.0, 3.0, -1000.0, 0.0], [2 / E - 2, 3, -2, 0], [2 / E, 1, 0, 2],
    ),
    "selu": (
        selu(), [1.0, -1.0, -1000.0],
        [1.0507009873554805, -1.1113307378125625, -1.7580993408473766],
        [1.0507009873554805, 1.7580993408473766 / E, 0.0],
    ),
    # P(N < 1) is 0.841344746 for a standard normal N, whose density at 1 is 0.241970725.
    "gelu": (
        gelu(), [0.0, 1.0, -1.0, 30.0, -30.0],
        [0, 0.8413447460685429, -0.15865525393145707, 30, 0],
        [0.5, 1.083315470587686, -0.083315470587686, 1, 0],
    ),
    "gelu, approximate": (
        gelu(approximate=True), [0.0, 1.0, -30.0], [0, 0.8411919906082768, 0],
        [0.5, 1.0829640838457826, 0],
    ),
    "silu": (
        silu(), [0.0, math.log(3), -1000.0], [0, 0.75 * math.log(3), 0],
        [0.5, 0.75 + 0.75 * math.log(3) / 4, 0],
    ),
    "softplus": (
        softplus(), [0.0, math.log(3), 1000.0, -1000.0], [math.log(2), math.log(4), 1000, 0],
        [0.5, 0.75, 1, 0],
    ),
    "tanh": (tanh(), [0.0, math.log(2), 1000.0], [0, 0.6, 1], [1, 0.64, 0]),
    "sigmoid": (
        sigmoid(),
        [0.0, math.log(3), -math.log(3), 1000.0, -1000.0],
        [0.5, 0.75, 0.25, 1.0, 0.0],
        [0.25, 0.1875, 0.1875, 0.0, 0.0],
    ),
}  # fmt: skip


def test_every_activation_has_a_worked_example():
    assert {name.partition(",")[0] for name in WORKED} == set(activations.__all__)


@pytest.mark.parametrize(("stage", "Z", "A", "slope"), WORKED.values(), ids=WORKED)
def test_values_and_slopes_match_worked_examples(stage, Z, A, slope):
    out, cache = stage.forward((), np.array([Z]), EVALUATION)
    np.testing.assert_allclose(out, [A], rtol=1e-14, atol=1e-15)
    back, grads = stage.backward((), cache, np.ones((1, len(Z))))
    np.testing.assert_allclose(back, [slope], rtol=1e-14, atol=1e-15)
    assert grads == ()


@given(st.floats(-700, 700))
def test_sigmoid_is_symmetric_and_precise_in_both_tails(z):
    (A,), (B,) = (sigmoid().forward((), np.array([x]), EVALUATION)[0] for x in (z, -z))
    assert pytest.approx(1, abs=1e-15) == A + B
    expected = 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))
    assert pytest.approx(expected, rel=1e-14) == A


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: elu(alpha=0), "alpha is 0, expected a number above 0"),
        (lambda: leaky_relu(slope=math.nan), "slope is nan, expected a finite number"),
        (lambda: gelu(approximate="yes"), "approximate is 'yes', expected True or False"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_is_the_same_for_large_arrays_as_for_small_ones(dtype):
    Z = Key(1).normal((40, 700)).astype(dtype)
    stage = relu()
    A, cache = stage.forward((), Z, EVALUATION)
    np.testing.assert_array_equal(A, np.where(Z > 0, Z, 0))
    assert A.dtype == dtype
    dA = Key(2).normal(Z.shape).astype(dtype)
    dZ, _ = stage.backward((), cache, dA)
    np.testing.assert_array_equal(dZ, np.where(Z > 0, dA, 0))
    assert not dZ.flags.writeable


@pytest.mark.parametrize(
    ("rows", "functions"), [(3, ["sign", "multiply"]), (3000, ["greater", "multiply"])]
)
def test_relu_backward_uses_sign_for_small_arrays_and_a_comparison_for_large_ones(rows, functions):
    dA, A = np.zeros((rows, 3)), np.zeros((rows, 3))
    recorded = calls(lambda dA, A: _relu_backward(dA, A, A, fast), dA, A)
    assert [name for name, *_ in recorded] == functions


def test_relu_backward_reuses_memory_for_large_arrays():
    memory._free.clear()
    large = np.zeros((3000, 3))
    _relu_backward(large, large, large, fast)
    assert memory.kept_bytes() == large.nbytes


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
@pytest.mark.parametrize(
    "stage",
    [gelu(approximate=True), gelu(), silu(), tanh(), sigmoid(), softplus(), elu(), selu()],
    ids=lambda stage: str(stage.description),
)
def test_slopes_at_huge_inputs_equal_their_limits(stage, numerics, dtype):
    far = np.array([[1e10, 1e20, 1e30, np.sqrt(np.finfo(dtype).max) * 8]], dtype)
    context = Context(numerics=numerics)
    for Z, side in ((far, 1), (-far, -1)):
        A, cache = stage.forward((), Z, context)
        slope = stage.backward((), cache, np.ones_like(Z))[0]
        assert np.isfinite(A).all()
        name = next(iter(stage.description))
        limit = 0.0 if side < 0 or name in ("tanh", "sigmoid") else 1.0
        np.testing.assert_allclose(
            slope, 1.0507009873554805 if (name, side) == ("selu", 1) else limit
        )
