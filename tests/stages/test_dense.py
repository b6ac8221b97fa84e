import numpy as np
import pytest
from helpers import frozen, python_calls

from pydnn import BadInput, Key, dense
from pydnn.stages.dense import DenseParams, dense_backward, dense_backward_into, dense_forward
from pydnn.stages.initializers import normal, zeros

WORKED = {
    "one unit, one example": ([[1.0, 2.0]], [[0.5]], [[3.0], [4.0]], [[11.5]]),
    "bias broadcasts over examples": ([[0.0]], [[7.0]], [[1.0, 2.0]], [[7.0, 7.0]]),
}


@pytest.mark.parametrize(("W", "b", "A_prev", "Z"), WORKED.values(), ids=WORKED)
def test_forward_matches_worked_example(W, b, A_prev, Z):
    np.testing.assert_array_equal(dense_forward(DenseParams(W, b), np.array(A_prev))[0], Z)


def test_backward_matches_worked_example():
    # dW = dZ A_prev^T = [1*3+2*5, 1*4+2*6]; db = 1+2; dA_prev = W^T dZ.
    params = DenseParams([[10.0, 20.0]], [[0.0]])
    _, cache = dense_forward(params, np.array([[3.0, 5.0], [4.0, 6.0]]))
    dA_prev, grads = dense_backward(params, cache, np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(grads.dW, [[13, 16]])
    np.testing.assert_array_equal(grads.db, [[3]])
    np.testing.assert_array_equal(dA_prev, [[10, 20], [20, 40]])


def test_dense_backward_into_returns_none_if_the_input_gradient_is_not_needed():
    params = DenseParams([[1.0]], [[0.0]])
    _, cache = dense_forward(params, np.ones((1, 1)))
    out = (np.empty((1, 1)), np.empty((1, 1)))
    assert dense_backward_into(params, cache, np.ones((1, 1)), out, False) is None
    assert dense_backward_into(params, cache, np.ones((1, 1)), out, True) == [[1]]
    assert out == (1, 1)


def test_a_batch_that_fits_costs_at_most_four_calls():
    params = DenseParams(np.ones((2, 3)), np.zeros((2, 1)))
    # dense_forward itself, the product, freezing the result, and the cache.
    assert python_calls(dense_forward, params, frozen(np.ones((3, 4)))) <= 4


def test_init_draws_weights_with_the_initializer_and_zero_biases():
    params, shape = dense(3, initializer=normal(scale=2)).init(Key(1).at(0), (4,))
    assert shape == (3,)
    np.testing.assert_array_equal(params.W, 2 * Key(1).at(0, "W").normal((3, 4)))
    np.testing.assert_array_equal(params.b, np.zeros((3, 1)))


def test_the_largest_layer_can_be_laid_out_without_memory():
    _, shape = dense(2**24, initializer=zeros()).init(Key(1), (2**24,))
    assert shape == (2**24,)


REFUSED = {
    "rows for columns": (
        lambda: dense_forward(DenseParams(np.ones((2, 3)), np.zeros((2, 1))), np.ones((5, 3))),
        r"A_prev has shape \(5, 3\), expected \(3, m\): put the features .* pass X\.T",
    ),
    "three axes": (
        lambda: dense_forward(DenseParams(np.ones((2, 3)), np.zeros((2, 1))), np.ones((3, 2, 2))),
        r"A_prev has shape \(3, 2, 2\), expected \(3, m\)",
    ),
    "weights of three axes": (
        lambda: DenseParams(np.ones((2, 3, 4)), np.zeros((2, 1))),
        r"W has shape \(2, 3, 4\), expected \(n_out, n_in\)",
    ),
    "more weights than any machine holds": (
        lambda: dense(2**24 + 1).init(Key(1), (2**24,)),
        "16777217 units of 16777216 inputs have 281474993487872 weights, more than any machine",
    ),
    "mixed precision": (
        lambda: dense_forward(DenseParams([[1.0]], [[0.0]]), np.ones((1, 1), np.float32)),
        "A_prev is float32, but the parameters are float64",
    ),
    "bias of another size": (
        lambda: DenseParams(np.ones((2, 3)), np.zeros((3, 1))),
        r"b has shape \(3, 1\), expected \(2, 1\): give one bias per row of W",
    ),
    "no units": (lambda: dense(0), "units is 0, expected an integer of at least 1"),
    "images not flattened": (
        lambda: dense(1).init(Key(1), (64, 64, 3)),
        r"examples have shape \(64, 64, 3\), expected \(n_in,\): flatten them first",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((5, 3), r"pass X\.T"),  # rows that are examples
        ((5, 4), r"job\.inputs\.lift"),  # more features than the weights have
        ((2, 4), r"e\.g\. pass X\.T"),
        ((5,), r"e\.g\. pass X\.T"),
    ],
)
def test_advice_on_features_that_do_not_fit(shape, advice):
    params = DenseParams(np.ones((2, 3)), np.zeros((2, 1)))
    with pytest.raises(BadInput, match=rf"A_prev has shape .*, expected \(3, m\): .*{advice}"):
        dense_forward(params, np.ones(shape))
