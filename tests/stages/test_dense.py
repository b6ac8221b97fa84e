import numpy as np
import pytest
from helpers import frozen, python_calls

from pydnn import BadInput, Context, Key, dense, fast, portable
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


def test_every_step_of_a_sequence_meets_the_same_weights():
    params = DenseParams([[10.0, 20.0]], [[1.0]])
    steps = np.array([[[3.0], [4.0]], [[5.0], [6.0]]])  # two steps of one example
    Z, cache = dense_forward(params, steps)
    np.testing.assert_array_equal(Z, [[[111]], [[171]]])
    # The same sums as for two examples: dW = [1*3+2*5, 1*4+2*6]; db = 1+2.
    dA_prev, grads = dense_backward(params, cache, np.array([[[1.0]], [[2.0]]]))
    np.testing.assert_array_equal(grads.dW, [[13, 16]])
    np.testing.assert_array_equal(grads.db, [[3]])
    np.testing.assert_array_equal(dA_prev, [[[10], [20]], [[20], [40]]])


@pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)
def test_steps_give_the_same_as_their_columns(numerics):
    params, shape = dense(5).init(Key(1), (7, 3))
    assert shape == (7, 5)
    A_prev, dZ = Key(2).normal((7, 3, 4)), Key(3).normal((7, 5, 4))
    context = Context(numerics=numerics)
    Z, cache = dense_forward(params, A_prev, context)
    dA_prev, grads = dense_backward(params, cache, dZ)
    columns, slopes = (np.hstack(list(steps)) for steps in (A_prev, dZ))
    Z_flat, flat = dense_forward(params, columns, context)
    dA_flat, expected = dense_backward(params, flat, slopes)
    near = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(np.hstack(list(Z)), Z_flat, **near)
    np.testing.assert_allclose(np.hstack(list(dA_prev)), dA_flat, **near)
    np.testing.assert_allclose(grads.dW, expected.dW, **near)
    np.testing.assert_allclose(grads.db, expected.db, **near)


@pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)
def test_equal_steps_give_equal_bits_in_any_memory_order(numerics):
    params, _ = dense(5).init(Key(1), (7, 3))
    A_prev, dZ = Key(2).normal((7, 3, 4)), Key(3).normal((7, 5, 4))
    results = []
    for order in ("C", "F"):
        Z, cache = dense_forward(params, A_prev.copy(order), Context(numerics=numerics))
        dA_prev, grads = dense_backward(params, cache, dZ)
        assert Z.flags.c_contiguous
        results.append([a.tobytes() for a in (Z, dA_prev, grads.dW, grads.db)])
    assert results[0] == results[1]


def test_a_batch_that_fits_costs_at_most_five_calls():
    params = DenseParams(np.ones((2, 3)), np.zeros((2, 1)))
    # dense_forward itself, its product with checks, that of the arithmetic, freezing the result,
    # and the cache.
    assert python_calls(dense_forward, params, frozen(np.ones((3, 4)))) <= 5


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
    "steps of another size": (
        lambda: dense_forward(DenseParams(np.ones((2, 3)), np.zeros((2, 1))), np.ones((3, 2, 2))),
        r"A_prev has shape \(3, 2, 2\), expected \(T, 3, m\): put the features of a step",
    ),
    "four axes": (
        lambda: dense_forward(
            DenseParams(np.ones((2, 3)), np.zeros((2, 1))), np.ones((3, 2, 2, 1))
        ),
        r"A_prev has shape \(3, 2, 2, 1\), expected \(3, m\)",
    ),
    "steps of mixed precision": (
        lambda: dense_forward(DenseParams([[1.0]], [[0.0]]), np.ones((2, 1, 1), np.float32)),
        "A_prev is float32, but the parameters are float64",
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
        r"examples have shape \(64, 64, 3\), expected \(n_in,\), or \(T, n_in\) for sequences: "
        r"flatten them first, or use conv\(1, 1\)",
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
