import itertools
import math
import time

import attrs
import numpy as np
import pytest
import toolz
from helpers import arrays_in, frozen
from own_parts import mixing

from pydnn import (
    BadInput,
    Batch,
    Key,
    NotFinite,
    TrainStep,
    adagrad,
    adam,
    amsgrad,
    batch_norm,
    dense,
    elementwise,
    gradient_descent,
    initial_state,
    l2_penalty,
    make_train_step,
    nadam,
    output_of,
    part,
    progress,
    relu,
    rmsprop,
    scan,
    serial,
    sigmoid_cross_entropy,
    watch_finite,
)
from pydnn.numerics import fast, portable
from pydnn.optimizers import accumulate, chain, skip_not_finite
from pydnn.stages.initializers import tutorial
from pydnn.training import trace

KEY = Key(3)
X = frozen(KEY.at("X").normal((4, 200)))
Y = frozen((X[:1] * X[1:2] > 0).astype(float))
BATCH = Batch(X, Y)
NETWORK = serial(dense(5), relu(), dense(1))
OPTIMIZER = gradient_descent(learning_rate=0.3)


def training(network=NETWORK, optimizer=OPTIMIZER, **options):
    step = make_train_step(network, sigmoid_cross_entropy(), optimizer)
    return step, initial_state(network, optimizer, (4,), key=KEY, **options)


def test_a_step_equals_a_loop_written_by_hand_bit_for_bit():
    step, state = training()
    W1, b1, W2, b2 = (state.parameters[name] for name in ("0/W", "0/b", "2/W", "2/b"))
    for _ in range(20):
        A1 = np.maximum(W1 @ X + b1, 0)
        Z2 = W2 @ A1 + b2
        e = np.exp(-np.abs(Z2))
        cost = float((np.maximum(Z2, 0) - Z2 * Y + np.log1p(e)).sum()) / 200
        dZ2 = (np.where(Z2 >= 0, 1, e) / (1 + e) - Y) / 200
        dZ1 = np.where(A1 > 0, W2.T @ dZ2, 0)
        W1, b1 = W1 - 0.3 * (dZ1 @ X.T), b1 - 0.3 * dZ1.sum(axis=1, keepdims=True)
        W2, b2 = W2 - 0.3 * (dZ2 @ A1.T), b2 - 0.3 * dZ2.sum(axis=1, keepdims=True)
        state, info = step(state, BATCH)
        assert info.cost == cost
    for name, array in (("0/W", W1), ("0/b", b1), ("2/W", W2), ("2/b", b2)):
        np.testing.assert_array_equal(state.parameters[name], array)


def test_the_info_of_a_step_says_what_it_did():
    step, state = training()
    after, info = step(state, BATCH)
    ((_, forward), (_, cost), (_, backward), (_, update)) = trace(step, state, BATCH)
    assert (after.iteration, info.iteration) == (1, 0)
    assert info.cost == cost.cost
    assert info.gradient_norm == pytest.approx(np.linalg.norm(backward.grads.vector))
    assert info.observed == {"learning_rate": 0.3}
    np.testing.assert_array_equal(forward.AL, output_of(NETWORK, state, X))
    np.testing.assert_array_equal(after.parameters.vector, state.parameters.vector + update.updates)


def test_a_network_is_evaluated_with_a_state_and_not_with_parameters_alone():
    _, state = training()
    with pytest.raises(BadInput, match="output_of got parameters alone, expected a state"):
        output_of(NETWORK, state.parameters, X)


def test_a_step_changes_nothing_and_returns_read_only_arrays():
    step, state = training()
    before = [a.copy() for a in arrays_in((state, BATCH))]
    step = step.insert_after("update", kept := Keeper())
    after, _ = step(state, BATCH)
    for old, now in zip(before, arrays_in((state, BATCH)), strict=True):
        np.testing.assert_array_equal(old, now)
    made = list(arrays_in((after, kept.step)))
    assert len(made) > 15
    assert not any(array.flags.writeable for array in made)


class Keeper:
    def __call__(self, step):
        self.step = step
        return step


def test_every_gradient_is_a_view_of_one_vector():
    step, state = training()
    grads = dict(trace(step, state, BATCH))["backward"].grads
    assert grads.vector.shape == state.parameters.vector.shape
    for array in arrays_in(grads.tree):
        assert np.shares_memory(array, grads.vector)
    np.testing.assert_array_equal(grads.tree[2].dW, grads["2/W"])


def test_no_product_is_computed_for_an_unneeded_gradient():
    products = []

    def counted(a, b, *, out=None):
        products.append((a.shape, b.shape))
        return fast.matmul(a, b, out=out)

    numerics = attrs.evolve(fast, matmul=counted)
    step = make_train_step(NETWORK, sigmoid_cross_entropy(), OPTIMIZER, numerics=numerics)
    step(training()[1], BATCH)
    assert len(products) == 5  # two forward, two for dW, one for the hidden layer's dA
    assert ((4, 5), (5, 9)) not in products  # W1^T dZ1, the gradient of the examples


def test_the_same_training_gives_the_same_bits():
    step, state = training()
    runs = [list(scan(step, state, itertools.repeat(BATCH, 30))) for _ in range(2)]
    assert [info for _, info in runs[0]] == [info for _, info in runs[1]]
    assert runs[0][-1][0].parameters.vector.tobytes() == runs[1][-1][0].parameters.vector.tobytes()


def test_float32_trains_in_float32():
    step, state = training(dtype=np.float32)
    after, _ = step(state, Batch(X.astype(np.float32), Y.astype(np.float32)))
    assert after.parameters.vector.dtype == np.float32
    np.testing.assert_array_equal(
        state.parameters.vector, training()[1].parameters.vector.astype(np.float32)
    )
    with pytest.raises(BadInput, match="A_prev is float64, but the parameters are float32"):
        step(state, BATCH)


def test_all_weights_can_come_from_one_stream():
    _, state = training(weights=tutorial(seed=5))
    W1, W2 = tutorial(seed=5).draw([(5, 4), (1, 5)])
    np.testing.assert_array_equal(state.parameters["0/W"], W1)
    np.testing.assert_array_equal(state.parameters["2/W"], W2)
    assert not state.parameters["0/b"].any()


def test_a_weight_stream_draws_what_a_users_stage_declares_as_weights():
    network = serial(mixing(3), dense(1))
    given = {"key": Key(4), "weights": tutorial()}
    state = initial_state(network, gradient_descent(learning_rate=1), (5,), **given)
    drawn = tutorial().draw([(3, 5), (1, 3)], key=Key(4))
    np.testing.assert_array_equal(state.parameters["0/kernel"], drawn[0])
    np.testing.assert_array_equal(state.parameters["1/W"], drawn[1])
    assert not state.parameters["0/W"].any()


def test_a_stream_runs_only_as_far_as_it_is_consumed():
    calls = []

    def step(state, batch):
        calls.append(batch)
        return state + batch, f"info {batch}"

    stream = scan(step, 10, [1, 2, 3])
    assert calls == []
    assert next(stream) == (11, "info 1")
    assert calls == [1]
    assert list(stream) == [(13, "info 2"), (16, "info 3")]
    assert list(scan(step, 0, [])) == []


def test_progress_yields_the_same_pairs_and_shows_the_cost(tmp_path):
    pytest.importorskip("tqdm")
    step, state = training()
    with (tmp_path / "bar").open("w+") as file:
        watched = progress(scan(step, state, [BATCH] * 3), total=3, file=file)
        pairs = []
        for pair in watched:
            time.sleep(0.11)  # the bar redraws itself at most ten times a second
            pairs.append(pair)
        file.seek(0)
        shown = file.read()
    assert [info.iteration for _, info in pairs] == [0, 1, 2]
    assert "2/3" in shown
    assert f"cost {pairs[1][1].cost:.6f}" in shown


# The pipeline of named parts


def test_parts_can_be_listed_replaced_inserted_and_removed():
    step, _ = training()
    same = lambda record: record  # noqa: E731
    assert step.names == ("forward", "cost", "backward", "update")
    named = toolz.curry(look)
    assert step.insert_after("backward", named).names[3] == "look"
    assert step.insert_before("backward", named).names[2] == "look"
    assert step.insert_after("cost", look).without("look").names == step.names
    assert step.replace("cost", same).names == step.names
    assert step.names == ("forward", "cost", "backward", "update")


def look(step):
    return step


def test_a_function_between_two_parts_has_its_effect():
    def halve(step):
        return attrs.evolve(step, grads=step.grads.with_vector(step.grads.vector / 2))

    step, state = training()
    halved, _ = step.insert_after("backward", halve)(state, BATCH)
    slower, _ = training(optimizer=gradient_descent(learning_rate=0.15))[0](state, BATCH)
    np.testing.assert_allclose(halved.parameters.vector, slower.parameters.vector, rtol=1e-15)


def test_a_part_can_be_replaced_by_name():
    step, state = training()
    constant = step.replace("cost", lambda s: attrs.evolve(s, cost=7.0, dAL=np.zeros_like(s.AL)))
    after, info = constant(state, BATCH)
    assert info.cost == 7
    np.testing.assert_array_equal(after.parameters.vector, state.parameters.vector)


def test_parts_that_do_not_fit_are_refused_when_the_step_is_built():
    step, _ = training()
    forward, cost, backward, update = step.parts
    with pytest.raises(BadInput, match="part 'backward' needs 'cache', that 'forward' gives later"):
        TrainStep((backward, forward, cost, update))
    with pytest.raises(BadInput, match="part 'backward' needs 'dAL', that no part gives"):
        step.without("cost")
    with pytest.raises(BadInput, match=r"no part gives 'after' and 'info'.*keep the part 'update'"):
        step.without("update")
    with pytest.raises(BadInput, match="two parts are called 'cost'"):
        step.insert_after("cost", cost)
    with pytest.raises(BadInput, match="there is no part of the step 'bakward': did you mean"):
        step.insert_after("bakward", look)

    @part(needs=["grads"])
    def clip(record):
        return record

    with pytest.raises(
        BadInput,
        match="part 'clip' needs 'grads', that 'backward' gives later: "
        "put 'backward' before 'clip'",
    ):
        step.insert_after("cost", clip)


def test_what_does_not_fit_is_refused_with_the_stages_name():
    with pytest.raises(BadInput, match=r"stage 0 \(dense\): examples have shape \(2, 2, 2\)"):
        initial_state(NETWORK, OPTIMIZER, (2, 2, 2), key=KEY)
    with pytest.raises(BadInput, match="dtype is int64, expected float64 or float32"):
        initial_state(NETWORK, OPTIMIZER, (4,), key=KEY, dtype=np.int64)


# Numbers that stop being finite


def broken(*, forward=1.0, backward=1.0):
    """A stage that multiplies what flows through it, forward and backward."""
    return elementwise(
        "broken", lambda Z, numerics: Z * forward, lambda dA, Z, A, numerics: dA * backward
    )


NOT_FINITE = {
    "forward": (serial(dense(5), serial(broken(forward=np.nan)), dense(1)), OPTIMIZER,
                "forward, stage 1/0 (broken)"),
    "backward": (serial(dense(5), broken(backward=np.inf), dense(1)), OPTIMIZER,
                 "backward, gradient of 0/b"),
    "update": (NETWORK, gradient_descent(learning_rate=1e308), "update, parameter"),
}  # fmt: skip


@pytest.mark.parametrize(("network", "optimizer", "where"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_the_place_where_numbers_stop_being_finite_is_named(network, optimizer, where):
    big = Batch(X * 1e4, Y)
    step, state = training(network, optimizer)
    watched = step.insert_after("update", watch_finite(network))
    with np.errstate(all="ignore"), pytest.raises(NotFinite) as stop:
        watched(state, big)
    assert stop.value.where.startswith(where)
    assert stop.value.iteration == 0
    assert stop.value.state is state
    assert f"at iteration 0, in {where}" in str(stop.value)


def test_an_error_of_diverging_training_has_the_last_good_state():
    step, state = training(optimizer=gradient_descent(learning_rate=1e200))
    watched = step.insert_after("update", watch_finite(NETWORK))
    seen = []
    with np.errstate(all="ignore"), pytest.raises(NotFinite) as stop:
        seen.extend(after for after, _ in scan(watched, state, itertools.repeat(BATCH, 10)))
    last = seen[-1]
    assert stop.value.state is last
    assert stop.value.iteration == last.iteration > 0
    assert np.isfinite(last.parameters.vector).all()


def test_a_cost_that_is_not_finite_is_named_as_such():
    step, state = training()
    bad = step.replace("cost", lambda s: attrs.evolve(s, cost=math.nan, dAL=np.zeros_like(s.AL)))
    with pytest.raises(NotFinite, match="at iteration 0, in cost: try a smaller"):
        bad.insert_after("update", watch_finite(NETWORK))(state, BATCH)


def test_a_stage_of_a_user_does_not_need_a_backward_into():
    plain = attrs.evolve(
        dense(5),
        backward_into=None,
        backward=lambda params, cache, dA: dense(5).backward(params, cache, dA),
    )
    expected, own = (
        step(state, BATCH)[0].parameters.vector
        for step, state in (training(NETWORK), training(serial(plain, relu(), dense(1))))
    )
    np.testing.assert_array_equal(own, expected)


# Batch normalization divides by the deviation, so infinite statistics leave all outputs finite.
NORMED = serial(batch_norm(), dense(1))
FAR = Batch(X * 1e200, Y)


def test_statistics_that_are_not_finite_are_noticed_too():
    step, state = training(NORMED)
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(NotFinite, match=r"at iteration 0, in gather, statistics 0/variance: try"),
    ):
        step.insert_after("update", watch_finite(NORMED))(state, FAR)


def test_a_skipped_step_does_not_change_statistics():
    optimizer = skip_not_finite(gradient_descent(learning_rate=0.3))
    step, state = training(NORMED, optimizer)
    with np.errstate(over="ignore", invalid="ignore"):
        skipped, _ = step(state, FAR)
    assert skipped.statistics == state.statistics
    after, _ = step(skipped, BATCH)
    assert after.statistics != state.statistics
    assert np.isfinite(after.statistics.vector).all()


def test_a_batch_of_no_examples_is_refused_by_any_step():
    for options in ({}, {"penalties": [l2_penalty(1)]}, {"numerics": portable}):
        step = make_train_step(NETWORK, sigmoid_cross_entropy(), OPTIMIZER, **options)
        with pytest.raises(BadInput, match="the batch has no examples, expected one or more"):
            step(training()[1], Batch(X[:, :0], Y[:, :0]))


def test_a_batch_without_weight_is_a_step_that_changes_nothing():
    step, state = training(NORMED)
    after, info = step(state, Batch(X, Y, np.zeros((1, 200))))
    assert (info.cost, info.gradient_norm) == (0, 0)
    assert after.parameters == state.parameters


ADAMS = {
    "adam": adam(learning_rate=0.1), "rmsprop": rmsprop(learning_rate=0.1),
    "adagrad": adagrad(learning_rate=0.1), "amsgrad": amsgrad(learning_rate=0.1),
    "nadam": nadam(learning_rate=0.1), "inside": accumulate(chain(adam()), batches=1),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ADAMS.values(), ids=ADAMS)
@pytest.mark.parametrize(("dtype", "far"), [("float64", 1e160), ("float32", 1e22)])
def test_squares_of_gradients_that_leave_the_range_are_found(optimizer, dtype, far):
    huge = elementwise(
        "huge", lambda Z, numerics: Z, lambda dA, Z, A, numerics: dA * dA.dtype.type(far)
    )
    network = serial(dense(1), huge)
    step, state = training(network, optimizer, dtype=dtype)
    batch = Batch(X.astype(dtype), Y.astype(dtype))
    watched = step.insert_after("update", watch_finite(network))
    with np.errstate(over="ignore"), pytest.raises(NotFinite) as stop:
        watched(state, batch)
    assert stop.value.where == "update, what the optimizer remembers"
    plain, state = training(network, gradient_descent(learning_rate=1 / far), dtype=dtype)
    with np.errstate(over="ignore"):
        plain.insert_after("update", watch_finite(network))(
            state, batch
        )  # this optimizer squares no gradient
