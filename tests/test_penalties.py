import math

import numpy as np
import pytest
from helpers import frozen

from pydnn import (
    BadInput,
    Batch,
    Key,
    build,
    dense,
    describe,
    gradient_descent,
    initial_state,
    l1_penalty,
    l2_penalty,
    make_train_step,
    mean_squared,
    output_of,
    relu,
    serial,
)
from pydnn.numerics import empty, fast
from pydnn.parameters import pack
from pydnn.stages.dense import DenseParams
from pydnn.testing import assert_train_step

PARAMS = pack((DenseParams([[3.0, -4.0]], [[10.0]]), (), DenseParams([[2.0]], [[-1.0]])))


def test_worked_numbers_of_the_tutorials_course():
    # lambda / 2m = 0.7 / 20; squares 9 + 16 + 4, absolute values 3 + 4 + 2; biases do not count.
    cost, gradient = l2_penalty(0.7).function(PARAMS, 10, fast)
    assert cost == pytest.approx(0.035 * 29)
    np.testing.assert_allclose(gradient, 0.07 * np.array([3, -4, 0, 2, 0]))
    cost, gradient = l1_penalty(0.7).function(PARAMS, 10, fast)
    assert cost == pytest.approx(0.035 * 9)
    np.testing.assert_allclose(gradient, 0.035 * np.array([1, -1, 0, 1, 0]))
    assert not gradient.flags.writeable


def test_any_arrays_can_be_chosen():
    cost, gradient = l2_penalty(2, only=["2", "0/b"]).function(PARAMS, 1, fast)
    assert cost == pytest.approx(100 + 4 + 1)
    np.testing.assert_allclose(gradient, [0, 0, 20, 4, -2])


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_only_the_chosen_arrays_of_a_large_network_have_a_gradient(penalty):
    # So large that the gradient lies in recycled memory, which holds old numbers.
    W = Key(1).normal((100, 100))
    params = pack((DenseParams(W, np.ones((100, 1))), DenseParams(W, np.ones((100, 1)))))
    for _ in range(2):
        cost, gradient = penalty(2.0, only=["1/W"]).function(params, 1, fast)
        expected = 2 * W if penalty is l2_penalty else np.sign(W)
        assert not gradient[:10_100].any()
        assert not gradient[20_100:].any()
        assert np.array_equal(gradient[10_100:20_100], expected.ravel())
        assert math.isclose(cost, (W * W if penalty is l2_penalty else np.abs(W)).sum())
        assert not gradient.flags.writeable
        del gradient
        np.copyto(empty(params.vector.size, np.dtype(float)), np.nan)


def test_a_step_descends_the_cost_with_its_penalties():
    key = Key(2)
    batch = Batch(frozen(key.normal((3, 7))), frozen(key.at("Y").normal((1, 7))))
    network, loss = serial(dense(4), relu(), dense(1)), mean_squared()
    terms = [l2_penalty(0.7), l1_penalty(0.3)]
    optimizer = gradient_descent(learning_rate=1.0)
    step = make_train_step(network, loss, optimizer, penalties=terms)
    assert step.names == ("forward", "cost", "backward", "penalties", "update")
    state = initial_state(network, optimizer, (3,), key=key)
    AL = output_of(network, state, batch.X)
    cost = loss(AL, batch.Y)[0] + sum(t.function(state.parameters, 7, fast)[0] for t in terms)
    assert step(state, batch)[1].cost == pytest.approx(cost, rel=1e-14)
    assert_train_step(step, state, batch)


def test_penalties_are_described():
    assert describe(l2_penalty(0.7)) == {"l2_penalty": {"strength": 0.7}}
    again = build({"l1_penalty": {"strength": 1, "only": ["0/W"]}}, family="penalty")
    assert again.function(PARAMS, 1, fast)[0] == 3.5


def test_refusals():
    with pytest.raises(BadInput, match="strength is -1, expected a number of at least 0"):
        l2_penalty(-1)
    with pytest.raises(BadInput, match="there is no parameter 'w'"):
        l2_penalty(1, only=["w"]).function(PARAMS, 1, fast)
    with pytest.raises(BadInput, match="names are 'W', expected a list of names"):
        l1_penalty(1, only="W")


@pytest.mark.parametrize("penalty", [l1_penalty(1), l2_penalty(1)], ids=["l1", "l2"])
def test_a_batch_of_no_examples_is_refused(penalty):
    with pytest.raises(BadInput, match="the batch has no examples"):
        penalty.function(PARAMS, 0, fast)
