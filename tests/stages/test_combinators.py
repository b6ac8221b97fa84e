"""Residual and parallel; serial has its own file."""

import attrs
import numpy as np
import pytest

from pydnn import (
    BadInput,
    Context,
    Key,
    dense,
    dropout,
    elementwise,
    max_pool,
    parallel,
    relu,
    residual,
    serial,
)
from pydnn.stages import EVALUATION, identity, tanh

double = elementwise("double", lambda Z, n: Z * 2, lambda dA, Z, A, n: dA * 2)
X = np.array([[1.0, -2.0]])


def narrower():
    return attrs.evolve(relu(), init=lambda key, shape: ((), (shape[0] - 1, *shape[1:])))


def test_residual_adds_its_input_to_its_output():
    A, cache = residual(double).forward(((),), X, EVALUATION)
    np.testing.assert_array_equal(A, 3 * X)
    np.testing.assert_array_equal(residual(double).backward(((),), cache, X)[0], 3 * X)


def test_parallel_concatenates_the_features_of_sequences():
    stage = parallel(dense(2), identity())
    params, shape = stage.init(Key(1), (3, 4))
    assert shape == (3, 6)
    steps, dA = Key(2).normal((3, 4, 5)), Key(3).normal((3, 6, 5))
    A, cache = stage.forward(params, steps, EVALUATION)
    Z, inner = dense(2).forward(params[0], steps, EVALUATION)
    np.testing.assert_array_equal(A, np.concatenate([Z, steps], axis=1))
    dA_prev, grads = stage.backward(params, cache, dA)
    dZ_prev, expected = dense(2).backward(params[0], inner, dA[:, :2])
    np.testing.assert_array_equal(dA_prev, dZ_prev + dA[:, 2:])
    assert grads == (expected, ())


def test_parallel_concatenates_outputs_along_their_features():
    stage = parallel(double, identity(), relu())
    assert stage.init(Key(1), (1,))[1] == (3,)
    A, cache = stage.forward(((), (), ()), X, EVALUATION)
    np.testing.assert_array_equal(A, [[2, -4], [1, -2], [1, 0]])
    dA = np.array([[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]])
    np.testing.assert_array_equal(stage.backward(((), (), ()), cache, dA)[0], [[112, 12]])


@pytest.mark.parametrize("shape_in", [(3,), (4, 5, 5), (2, 1, 3, 2)])
def test_parallel_init_gives_the_shape_that_forward_gives(shape_in):
    stage = parallel(relu(), parallel(tanh(), identity()))
    trees, shape_out = stage.init(Key(1), shape_in)
    A, cache = stage.forward(trees, np.ones((*shape_in, 7)), EVALUATION)
    assert A.shape == (*shape_out, 7) == (*shape_in[:-1], 3 * shape_in[-1], 7)
    assert stage.backward(trees, cache, A)[0].shape == (*shape_in, 7)


def test_inner_stages_get_readonly_gradients_and_combinators_have_backward_into():
    writeable = []

    def pull_back(dA, Z, A, numerics):
        writeable.append(dA.flags.writeable)
        return dA * 1

    stage = parallel(elementwise("same", lambda Z, n: Z * 1, pull_back))
    _, cache = stage.forward(((),), X, EVALUATION)
    stage.backward(((),), cache, np.ones((1, 2)))
    assert writeable == [False]
    assert stage.backward_into
    assert serial(relu()).backward_into
    assert residual(relu()).backward_into
    assert dense(1).backward_into


def test_each_inner_stage_draws_from_its_own_key():
    stage = parallel(dropout(keep_prob=0.5), dropout(keep_prob=0.5))
    key, ones = Key(2), np.ones((1, 64))
    A, _ = stage.forward(((), ()), ones, Context(training=True, key=key))
    for i in range(2):
        np.testing.assert_array_equal(A[i] > 0, key.at(i).uniform((1, 64))[0] < 0.5)
    assert (A[0] != A[1]).any()


REFUSED = {
    "another shape than the input": (
        lambda: serial(dense(3), residual(dense(2))).init(Key(1), (4,)),
        r"stage 1 \(residual\): residual stages give shape \(2,\) for \(3,\), expected the same: "
        r"end them with e\.g\. dense\(3\)",
    ),
    "an error of an inner stage in init": (
        lambda: parallel(relu(), dense(1)).init(Key(1), (2, 2, 2)),
        r"stage 1 \(dense\): examples have shape \(2, 2, 2\)",
    ),
    "an error of an inner stage in forward": (
        lambda: parallel(dense(1)).forward(
            parallel(dense(1)).init(Key(1), (2,))[0], np.ones((3, 1)), EVALUATION
        ),
        r"stage 0 \(dense\): A_prev has shape \(3, 1\)",
    ),
    "outputs that cannot be concatenated": (
        lambda: parallel(identity(), narrower()).init(Key(1), (4, 5, 5)),
        r"stage 0 gives examples of shape \(4, 5, 5\) and stage 1 of shape \(3, 5, 5\)",
    ),
    "residual of fewer places": (
        lambda: residual(max_pool(2)).init(Key(1), (4, 4, 2)),
        r"give shape \(2, 2, 2\) for \(4, 4, 2\), expected the same: keep the places",
    ),
    "no stages": (lambda: parallel(), "parallel has no stages"),
    "a builder instead of a stage": (
        lambda: residual(relu),
        "residual got .* expected a Stage",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
