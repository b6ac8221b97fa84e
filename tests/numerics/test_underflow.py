"""Underflow is never an error, whatever the error state of NumPy is."""

import functools

import attrs
import numpy as np
import pytest

import pydnn
from pydnn import (
    Batch,
    Context,
    Key,
    adam,
    attention,
    conv,
    dense,
    depthwise_conv,
    fast,
    gradient_descent,
    gru,
    l2_penalty,
    lstm,
    max_pool,
    mean_squared,
    portable,
    relu,
    rnn,
    roc_auc,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    tutorial,
)
from pydnn.jobs.standardization import fit_standardization
from pydnn.losses import Loss
from pydnn.metrics import log_loss, mean_absolute_error, r_squared
from pydnn.numerics.underflow import bare, ignoring_underflow
from pydnn.optimizers.base import GradientTransformation
from pydnn.parameters import pack
from pydnn.penalties import Penalty
from pydnn.stages import EVALUATION, Stage, tanh
from pydnn.training import initial_state, make_train_step, output_of, trace

TINY = {np.float64: 1e-300, np.float32: 1e-40}
DTYPES = [np.float64, np.float32]
ARITHMETICS = [fast, portable]


def smallest(shape, dtype=np.float64):
    """Numbers whose products underflow, of both signs."""
    with np.errstate(under="ignore"):
        return (np.resize([1.0, -0.3, 0.7], shape) * TINY[dtype]).astype(dtype)


def packed(dtype):
    """Parameters of a layer, all of them tiny."""
    params = pack(dense(2).init(Key(1), (3,))[0], dtype=dtype)
    return params.with_vector(smallest(params.vector.shape, dtype))


def of_family(family):
    """All parts of a family whose builders need no options, by name."""
    parts = {}
    for name in pydnn.__all__:
        builder = getattr(pydnn, name)
        if callable(builder) and not isinstance(builder, type):
            try:
                part = builder()
            except Exception:
                continue
            if isinstance(part, family):
                parts[name] = part
    return parts


STAGES = of_family(Stage) | {
    "dense": dense(2),
    "deep": serial(dense(3), tanh(), dense(2)),
    "convolutions": serial(conv(2, 3, padding=1), max_pool(2, padding=1), depthwise_conv(2)),
    "recurrent": serial(rnn(2), gru(2), lstm(2)),
    "attention": attention(2),
}
SHAPES = {  # of one example; (4,) for all other stages
    name: (2, 4)
    for name in ("positions", "global_max_pool", "global_average_pool", "recurrent", "attention")
} | {"convolutions": (3, 4, 1)}
LOSSES = of_family(Loss)
OPTIMIZERS = of_family(GradientTransformation) | {"descent": gradient_descent(learning_rate=0.1)}
PENALTIES = of_family(Penalty) | {"l2": l2_penalty(0.1)}


def test_the_tables_are_not_empty():
    assert len(STAGES) > 10
    assert len(LOSSES) > 4
    assert len(OPTIMIZERS) > 5


def both(compute):
    """The results of `compute` where underflow is an error and where it is ignored."""
    results = []
    for state in ("ignore", "raise"):
        with np.errstate(all="raise", under=state):
            results.append(compute())
    return results


def expect_same(compute):
    ignored, raised = both(compute)
    for a, b in zip(_arrays(ignored), _arrays(raised), strict=True):
        np.testing.assert_array_equal(a, b)


def _arrays(value):
    if isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, np.ndarray | float | np.floating):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _arrays(getattr(value, field.name))


@pytest.mark.parametrize("numerics", ARITHMETICS, ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STAGES)
def test_stages(name, dtype, numerics):
    stage = STAGES[name]
    shape = SHAPES.get(name, (4,))
    tree, shape_out = stage.init(Key(1), shape)
    params = pack(tree, dtype=dtype)
    params = params.with_vector(smallest(params.vector.shape, dtype)).tree
    context = Context(training=True, key=Key(2), numerics=numerics)
    large = np.resize([30.0, -9.0, 21.0], (*shape, 3)).astype(dtype)  # exp(-30**2) is tiny, too

    def compute():
        results = []
        for A_prev in (smallest((*shape, 3), dtype), large):
            A, cache = stage.forward(params, A_prev, context)
            results += [A, stage.backward(params, cache, smallest((*shape_out, 3), dtype))]
        return results

    expect_same(compute)


@pytest.mark.parametrize("numerics", ARITHMETICS, ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype, numerics):
    loss = LOSSES[name]
    context = Context(numerics=numerics)
    Y = np.array([[0, 1, 0]], dtype)
    AL = np.array([[-88, 80, -85], [0, 0, 1]], dtype)
    AL = AL if "softmax" in name else AL[:1]
    expect_same(lambda: [loss.function(AL, Y, None, context), loss.predict(AL, context)])


@pytest.mark.parametrize("numerics", ARITHMETICS, ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, dtype, numerics):
    optimizer = OPTIMIZERS[name]
    params = packed(dtype)
    grads = smallest(params.vector.shape, dtype)

    def compute():
        state, context = optimizer.init(params), Context(key=Key(1), numerics=numerics)
        results = []
        for _ in range(3):
            updates, state = optimizer.update(grads, state, params, context)
            results += [updates, state]
        return results

    expect_same(compute)


@pytest.mark.parametrize("numerics", ARITHMETICS, ids=lambda n: n.name)
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name, numerics):
    params = packed(np.float32)
    expect_same(lambda: PENALTIES[name].function(params, 3, numerics))


def test_worked_values_of_far_logits():
    with np.errstate(all="raise"):
        assert sigmoid_cross_entropy()(np.array([[800.0]]), np.array([[1.0]]))[0] == 0
        predicted = softmax_cross_entropy().predict(np.array([[800.0], [0.0]]), EVALUATION)
        np.testing.assert_array_equal(predicted, [[1], [0]])
        optimizer, context = adam(learning_rate=0.1), Context()
        params = packed(np.float32)
        grads = np.full(params.vector.shape, 1e-25, np.float32)
        updates, _ = optimizer.update(grads, optimizer.init(params), params, context)
        assert np.isfinite(updates).all()


@pytest.mark.parametrize("numerics", ARITHMETICS, ids=lambda n: n.name)
def test_a_step_part_by_part_and_as_a_whole(numerics):
    network, loss = serial(dense(2), relu(), dense(1)), mean_squared()
    batch = Batch(smallest((3, 4)), smallest((1, 4)))

    def compute():
        optimizer = adam(learning_rate=1e-300)
        step = make_train_step(network, loss, optimizer, penalties=[l2_penalty(1e-200)],
                               numerics=numerics)  # fmt: skip
        state = initial_state(network, optimizer, (3,), key=Key(1), numerics=numerics)
        state = attrs.evolve(
            state, parameters=state.parameters.with_vector(state.parameters.vector * 1e-200)
        )
        after, info = step(state, batch)
        *_, (_, whole) = trace(step, state, batch)
        AL = output_of(network, after, batch.X, numerics=numerics)
        return [after.parameters.vector, info.cost, whole.after.parameters.vector, AL]

    expect_same(compute)


def test_metrics_and_standardization():
    p, Y = np.array([[1e-320, 1 - 1e-16, 0.5]]), np.array([[0.0, 1, 0]])
    expect_same(lambda: [log_loss(p, Y), roc_auc(p, Y)])
    tiny = smallest((1, 3))
    expect_same(lambda: [r_squared(tiny, tiny * 0.5), mean_absolute_error(tiny, tiny)])
    X = np.array([[1e-150, 2e-150, 4e-150]])
    expect_same(lambda: fit_standardization(X)(X))


def test_the_tutorials_functions():
    parameters = tutorial.initialize_parameters_deep([3, 2, 1])
    X, Y = smallest((3, 4)), np.array([[0.0, 1, 0, 1]])

    def compute():
        AL, caches = tutorial.L_model_forward(X, parameters)
        grads = tutorial.L_model_backward(AL, Y, caches)
        after = tutorial.update_parameters(parameters, grads, 1e-300)
        return [tutorial.compute_cost(AL, Y), tutorial.predict(X, after)]

    expect_same(compute)


def test_other_errors_stay_as_the_caller_set_them():
    divide = ignoring_underflow(np.divide)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        divide(1.0, np.zeros(1))
    assert np.geterr()["under"] == "raise"  # unchanged


def test_a_function_is_wrapped_once_and_can_be_unwrapped():
    def half(x):
        return x / 2

    once = ignoring_underflow(half)
    assert ignoring_underflow(once) is once
    assert bare(once) is half
    assert bare(half) is half
    assert once.__name__ == "half"


def test_a_function_that_wraps_one_of_a_record_is_not_taken_for_it():
    stage = pydnn.relu()

    @functools.wraps(stage.forward)
    def forward(params, Z, context):
        A, cache = stage.forward(params, Z, context)
        return 2 * A, cache

    changed = attrs.evolve(stage, forward=forward)
    A, _ = pydnn.serial(changed).forward(((),), np.ones((1, 1)), pydnn.Context())
    assert A.item() == 2
