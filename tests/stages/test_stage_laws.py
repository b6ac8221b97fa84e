"""One table of all stages, and the laws that each of them keeps."""

import numpy as np
import pytest
from helpers import arrays_in, assert_gradients_match, frozen, numeric_gradient

from pydnn import EVALUATION, Context, Key, dense, identity, relu, serial, sigmoid, tanh
from pydnn.initializers import scaled_normal, xavier_normal
from pydnn.packing import layout_of, leaves
from pydnn.stages.base import pull_back

STAGES = {
    "dense": dense(4),
    "dense, one unit": dense(1, initializer=xavier_normal()),
    "relu": relu(),
    "sigmoid": sigmoid(),
    "tanh": tanh(),
    "identity": identity(),
    "serial": serial(dense(4), tanh(), dense(2), sigmoid()),
    "serial in serial": serial(
        relu(), serial(dense(3, initializer=scaled_normal(scale=1)), tanh())
    ),
}
N_IN, M = 3, 5
every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


def at(stage, dtype=np.float64):
    """Parameters, an input and a gradient of the output for a stage, all read-only."""
    key = Key(4)
    params, (n_out,) = stage.init(key, (N_IN,))
    layout = layout_of(params)
    vector = key.at("parameters").normal(layout.size).astype(dtype)
    params = layout.packed(frozen(vector)).tree
    A_prev = frozen(key.at("input").normal((N_IN, M)).astype(dtype))
    dA = frozen(key.at("gradient").normal((n_out, M)).astype(dtype))
    return params, A_prev, dA


def run(stage, params, A_prev, dA):
    A, cache = stage.forward(params, A_prev, EVALUATION)
    dA_prev, grads = stage.backward(params, cache, dA)
    return A, cache, dA_prev, grads


@every_stage
def test_shapes_are_those_promised(stage):
    params, A_prev, dA = at(stage)
    A, _, dA_prev, grads = run(stage, params, A_prev, dA)
    assert A.shape == dA.shape
    assert dA_prev.shape == A_prev.shape
    assert [g.shape for g in leaves(grads)] == [p.shape for p in leaves(params)]


@every_stage
def test_every_gradient_is_that_of_central_differences(stage):
    params, A_prev, dA = at(stage)
    _, _, dA_prev, grads = run(stage, params, A_prev, dA)

    def value(params, A_prev):
        return float((stage.forward(params, A_prev, EVALUATION)[0] * dA).sum())

    numeric = numeric_gradient(lambda X: value(params, X), np.array(A_prev))
    assert_gradients_match(dA_prev, numeric, "dA_prev")
    layout = layout_of(params)
    vector = np.concatenate([np.ravel(p) for p in leaves(params)] or [np.empty(0)])
    numeric = numeric_gradient(lambda v: value(layout.packed(v).tree, A_prev), vector)
    for slot, gradient in zip(layout.slots, leaves(grads), strict=True):
        expected = numeric[slot.start : slot.stop].reshape(slot.shape)
        assert_gradients_match(gradient, expected, slot.name)


@every_stage
def test_nothing_is_changed_and_nothing_writable_is_handed_out(stage):
    params, A_prev, dA = at(stage)
    before = [a.copy() for a in arrays_in((params, A_prev, dA))]
    state = np.random.get_state()  # noqa: NPY002 - that it is left alone is what is tested
    outputs = run(stage, params, A_prev, dA)
    stage.init(Key(0), (N_IN,))
    for old, now in zip(before, arrays_in((params, A_prev, dA)), strict=True):
        np.testing.assert_array_equal(old, now)
    assert not any(array.flags.writeable for array in arrays_in(outputs))
    for old, now in zip(state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(old, now)


@every_stage
def test_the_same_call_gives_the_same_bits_whatever_the_memory_order(stage):
    params, A_prev, dA = at(stage)
    first = [a.tobytes() for a in arrays_in(run(stage, params, A_prev, dA))]
    assert first == [a.tobytes() for a in arrays_in(run(stage, params, A_prev, dA))]
    strided = np.repeat(A_prev, 2, axis=1)[:, ::2]
    for other in (np.asfortranarray(A_prev), strided):
        for ours, theirs in zip(
            arrays_in(run(stage, params, A_prev, dA)),
            arrays_in(run(stage, params, other, dA)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@every_stage
def test_float32_stays_float32(stage):
    outputs = run(stage, *at(stage, np.float32))
    assert {array.dtype for array in arrays_in(outputs)} == {np.dtype(np.float32)}


@every_stage
def test_examples_do_not_mix(stage):
    params, A_prev, _ = at(stage)
    whole, _ = stage.forward(params, A_prev, EVALUATION)
    single = [stage.forward(params, A_prev[:, [i]], EVALUATION)[0] for i in range(M)]
    np.testing.assert_allclose(whole, np.concatenate(single, axis=1), rtol=1e-13)


@every_stage
def test_training_changes_nothing_where_nothing_is_random(stage):
    params, A_prev, _ = at(stage)
    training = stage.forward(params, A_prev, Context(training=True, key=Key(1)))[0]
    np.testing.assert_array_equal(training, stage.forward(params, A_prev, EVALUATION)[0])


@every_stage
def test_what_a_thrifty_stage_fills_is_what_it_would_have_made(stage):
    params, A_prev, dA = at(stage)
    _, cache, dA_prev, grads = run(stage, params, A_prev, dA)
    layout = layout_of(params)
    vector = np.full(layout.size, np.nan)
    given, filled = pull_back(stage, params, cache, dA, out=layout.views(vector))
    np.testing.assert_array_equal(given, dA_prev)
    for expected, into in zip(leaves(grads), leaves(filled), strict=True):
        np.testing.assert_array_equal(expected, into)
    flat = [np.ravel(g) for g in leaves(grads)] or [np.empty(0)]
    np.testing.assert_array_equal(vector, np.concatenate(flat))
