import math

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Batch,
    Context,
    Key,
    adam,
    bidirectional,
    dense,
    describe,
    fast,
    gru,
    initial_state,
    lstm,
    make_train_step,
    mean_squared,
    portable,
    rnn,
    serial,
)
from pydnn.interop.onnx_file import onnx_file
from pydnn.parameters import layout_of, leaves
from pydnn.records import freeze
from pydnn.stages import EVALUATION
from pydnn.stages.base import onnx_of
from pydnn.stages.graph import Graph
from pydnn.stages.gru import (
    GruParams,
    gru_backward,
    gru_cell_backward,
    gru_cell_forward,
    gru_forward,
)
from pydnn.stages.lstm import (
    LstmState,
    lstm_backward,
    lstm_cell_backward,
    lstm_cell_forward,
    lstm_forward,
)  # fmt: skip
from pydnn.stages.recurrent import RecurrentParams, State
from pydnn.stages.rnn import rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward
from pydnn.testing import assert_onnx, check_function, check_gradients

TRAINING = Context(training=True)
# The stage, its functions over all steps and over one, and their options.
CELLS = {
    "rnn": (rnn, rnn_forward, rnn_backward, rnn_cell_forward, rnn_cell_backward, {}),
    "rnn, relu": (
        rnn, rnn_forward, rnn_backward, rnn_cell_forward, rnn_cell_backward, {"activation": "relu"},
    ),
    "gru": (gru, gru_forward, gru_backward, gru_cell_forward, gru_cell_backward, {}),
    "gru, reset before": (
        gru, gru_forward, gru_backward, gru_cell_forward, gru_cell_backward, {"reset": "before"},
    ),
    "lstm": (lstm, lstm_forward, lstm_backward, lstm_cell_forward, lstm_cell_backward, {}),
}  # fmt: skip
every_cell = pytest.mark.parametrize("name", CELLS)
in_both = pytest.mark.parametrize("numerics", [fast, portable], ids=str)


def drawn(name, shape, examples, **options):
    """A stage with parameters, inputs and gradients of its outputs that are not 0 anywhere."""
    builder, *_, own = CELLS[name]
    stage = builder(3, **own, **options)
    key = Key(5).at(name)
    params, shape_out = stage.init(key, shape)
    layout = layout_of(params)
    params = layout.packed(freeze(0.7 * key.at("params").normal(layout.size))).tree
    X = freeze(key.at("X").normal((*shape, examples)))
    return stage, params, X, freeze(key.at("dA").normal((*shape_out, examples)))


def drawn_state(name, units, m, path):
    _, forward, *_, own = CELLS[name]
    state = forward(drawn(name, (1, 2), m)[1], np.zeros((1, 2, m)), **own)[1].after
    names = [field.name for field in attrs.fields(type(state))]
    return type(state)(*[freeze(Key(6).at(path, n).normal((units, m))) for n in names])


# Worked numbers


def test_rnn_matches_worked_example():
    # One unit, two steps: tanh(0.5 * 1 + 2 * 0.25 - 1) = 0, then tanh(0.5 * 2 + 2 * 0 - 1) = 0.
    params = RecurrentParams([[0.5]], [[2.0]], [[-1.0]])
    X = np.array([[[1.0]], [[2.0]]])
    A, cache = rnn_forward(params, X, State([[0.25]]))
    np.testing.assert_array_equal(A, [[[0.0]], [[0.0]]])
    # At 0 the slope of tanh is 1. dz2 = 3, dz1 = 5 + 2 * 3 = 11.
    dX, before, grads = rnn_backward(params, cache, np.array([[[5.0]], [[3.0]]]))
    np.testing.assert_array_equal(dX.ravel(), [5.5, 1.5])
    np.testing.assert_array_equal(before.a, [[22.0]])
    np.testing.assert_array_equal(grads.dW_x, [[11 * 1 + 3 * 2]])
    np.testing.assert_array_equal(grads.dW_a, [[11 * 0.25 + 3 * 0]])
    np.testing.assert_array_equal(grads.db, [[14.0]])


def test_rnn_with_relu_matches_worked_example():
    params = RecurrentParams([[1.0], [-1.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.5], [0.0]])
    X = np.array([[[1.0]], [[2.0]]])
    A, cache = rnn_forward(params, X, activation="relu")
    np.testing.assert_array_equal(A[:, :, 0], [[1.5, 0], [4.0, 0]])
    dX, *_, grads = rnn_backward(params, cache, np.ones((2, 2, 1)), activation="relu")
    np.testing.assert_array_equal(dX.ravel(), [2, 1])
    np.testing.assert_array_equal(grads.db, [[3], [0]])


def test_gru_matches_worked_example():
    # z = r = 1/2 where their rows are 0. h = tanh(1 + 1/2 (2 * 3 - 8)) = 0.
    W_x, W_a, b = [[0.0], [0.0], [1.0]], [[0.0], [0.0], [2.0]], np.zeros((3, 1))
    params = GruParams(W_x, W_a, b, [[-8.0]])
    A, cache = gru_forward(params, np.ones((1, 1, 1)), State([[3.0]]))
    np.testing.assert_array_equal(A, [[[1.5]]])  # 1/2 * 3 + 1/2 * 0
    dX, before, grads = gru_backward(params, cache, np.full((1, 1, 1), 8.0))
    # dh = 8 / 2. Slopes of gates are 1/4: dz = 8 (3 - 0) / 4, dr = dh (2 * 3 - 8) / 4.
    np.testing.assert_array_equal(dX, [[[4.0]]])
    np.testing.assert_array_equal(grads.db, [[6.0], [-2.0], [4.0]])
    np.testing.assert_array_equal(grads.db_a, [[2.0]])
    np.testing.assert_array_equal(grads.dW_a, [[18.0], [-6.0], [6.0]])
    np.testing.assert_array_equal(before.a, [[8 / 2 + 2 * 2.0]])


def test_gru_with_the_reset_before_matches_worked_example():
    # h = tanh(-3 + 2 (1/2 * 3)) = 0
    params = RecurrentParams([[0.0], [0.0], [-3.0]], [[0.0], [0.0], [2.0]], np.zeros((3, 1)))
    A, cache = gru_forward(params, np.ones((1, 1, 1)), State([[3.0]]), reset="before")
    np.testing.assert_array_equal(A, [[[1.5]]])
    dX, before, grads = gru_backward(params, cache, np.full((1, 1, 1), 8.0), reset="before")
    # dh = 4, d(r a) = 8: dr = 8 * 3 / 4, and a gets 8 / 2 through z and 8 / 2 through r a.
    np.testing.assert_array_equal(dX, [[[-12.0]]])
    np.testing.assert_array_equal(grads.db, [[6.0], [6.0], [4.0]])
    np.testing.assert_array_equal(grads.dW_a, [[18.0], [18.0], [6.0]])
    np.testing.assert_array_equal(before.a, [[8.0]])


def test_lstm_matches_worked_example():
    # i = f = o = 1/2 where their rows are 0, g = tanh(0) = 0, so c = 1/2 * 2 = 1.
    params = RecurrentParams([[0.0]] * 3 + [[5.0]], np.zeros((4, 1)), np.zeros((4, 1)))
    X = np.zeros((1, 1, 1))
    A, cache = lstm_forward(params, X, LstmState([[7.0]], [[2.0]]))
    tanh = math.tanh(1)
    np.testing.assert_array_equal(cache.after.c, [[1.0]])
    np.testing.assert_allclose(A, [[[tanh / 2]]], rtol=1e-15)
    dX, before, grads = lstm_backward(
        params, cache, np.full((1, 1, 1), 4.0), LstmState([[0.0]], [[1.0]])
    )
    dc = 1 + 4 / 2 * (1 - tanh**2)
    np.testing.assert_allclose(grads.db.ravel(), [0, dc * 2 / 4, 4 * tanh / 4, dc / 2], rtol=1e-14)
    np.testing.assert_allclose(grads.dW_a, 7 * grads.db, rtol=1e-14)
    np.testing.assert_allclose(dX, [[[5 * dc / 2]]], rtol=1e-14)
    np.testing.assert_allclose(before.c, [[dc / 2]], rtol=1e-14)
    assert not before.a.any()


def test_the_last_output_and_a_reversed_pass_match_worked_examples():
    stage = rnn(1, output="last", reverse=True)
    params = RecurrentParams([[1.0]], [[1.0]], [[0.0]])
    A, _ = stage.forward(params, np.array([[[1.0]], [[2.0]]]), EVALUATION)
    np.testing.assert_allclose(A, [[math.tanh(1 + math.tanh(2))]], rtol=1e-15)


# Gradients

UNEQUAL, SHORT = np.array([2, 4, 1, 4, 3]), np.array([1, 2, 2, 1, 3])
OPTIONS = {
    "all": ({}, None),
    "last, unequal": ({"output": "last"}, UNEQUAL),
    "reverse, unequal": ({"reverse": True}, UNEQUAL),
    "learned, short": ({"initial": "learned"}, SHORT),
    "learned, reverse, last, short": (
        {"initial": "learned", "reverse": True, "output": "last"}, SHORT,
    ),
}  # fmt: skip
each_option = pytest.mark.parametrize(("options", "lengths"), OPTIONS.values(), ids=OPTIONS)


def check(name, options, lengths, numerics, entries):
    builder, *_, own = CELLS[name]
    context = Context(training=True, numerics=numerics, lengths=lengths)
    stage = builder(2, **own, **options)
    check_gradients(stage, shape_in=(4, 3), examples=5, context=context, entries=entries)


@every_cell
def test_all_gradients_are_right(name):
    check(name, {"initial": "learned", "reverse": True}, UNEQUAL, fast, 1)


@pytest.mark.slow
@every_cell
@each_option
@in_both
def test_each_entry_of_all_gradients_is_right(name, options, lengths, numerics):
    check(name, options, lengths, numerics, 48)


@every_cell
@pytest.mark.parametrize(("shape", "units"), [((1, 1), 1), ((3, 2), 1)])
def test_gradients_are_right_at_the_smallest_shapes(name, shape, units):
    builder, *_, own = CELLS[name]
    stage = builder(units, initial="learned", **own)
    check_gradients(stage, shape_in=shape, examples=1, entries=4)


@every_cell
@pytest.mark.parametrize("lengths", [None, UNEQUAL], ids=["whole", "unequal"])
def test_gradients_of_given_states_are_right(name, lengths):
    _, forward, backward, *_, own = CELLS[name]
    _, params, X, dA = drawn(name, (4, 2), 5)
    state, dafter = drawn_state(name, 3, 5, "before"), drawn_state(name, 3, 5, "after")
    context = Context(lengths=lengths)
    if lengths is not None:
        dA = dA * (np.arange(4)[:, None] < lengths)[:, None]

    def cost(X, **arrays):
        A, cache = forward(params, X, type(state)(**arrays), context, **own)
        ends = zip(leaves(dafter), leaves(cache.after), strict=True)
        return float((dA * A).sum() + sum((d * a).sum() for d, a in ends))

    def gradients(X, **arrays):
        _, cache = forward(params, X, type(state)(**arrays), context, **own)
        dX, before, _ = backward(params, cache, dA, dafter, **own)
        return {"X": dX, **attrs.asdict(before)}

    check_function(cost, gradients, {"X": X, **attrs.asdict(state)}, entries=2)


@every_cell
def test_without_a_gradient_of_outputs_only_the_last_state_counts(name):
    _, forward, backward, *_, own = CELLS[name]
    _, params, X, dA = drawn(name, (4, 2), 5)
    dafter = drawn_state(name, 3, 5, "after")
    _, cache = forward(params, X, **own)
    results = [backward(params, cache, d, dafter, **own) for d in (None, np.zeros_like(dA))]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


# Steps and cells


@every_cell
@in_both
def test_a_pass_over_steps_is_a_chain_of_cells(name, numerics):
    _, forward, backward, cell_forward, cell_backward, own = CELLS[name]
    _, params, X, dA = drawn(name, (4, 2), 5)
    context = Context(numerics=numerics)
    state, caches = drawn_state(name, 3, 5, "before"), []
    A, cache = forward(params, X, state, context, **own)
    for t, x in enumerate(X):
        state, own_cache = cell_forward(params, x, state, context, **own)
        np.testing.assert_allclose(state.a, A[t], rtol=1e-14)
        caches.append(own_cache)
    for ours, theirs in zip(leaves(cache.after), leaves(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)

    dX, before, grads = backward(params, cache, dA, **own)
    slope, total = None, 0
    for t in reversed(range(4)):
        zeros = type(state)(*[np.zeros((3, 5))] * len(attrs.fields(type(state))))
        slope = attrs.evolve(slope or zeros, a=dA[t] + (slope or zeros).a)
        dx, slope, step_grads = cell_backward(params, caches[t], slope, **own)
        np.testing.assert_allclose(dx, dX[t], rtol=1e-12, atol=1e-14)
        total = [g + s for g, s in zip(leaves(step_grads), total or [0] * 9, strict=False)]
    for ours, theirs in zip(leaves(grads), total, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(leaves(before), leaves(slope), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@every_cell
@pytest.mark.parametrize("output", ["all", "last"])
def test_in_reverse_the_steps_are_mirrored(name, output):
    stage, params, X, dA = drawn(name, (4, 2), 5, output=output)
    builder, *_, own = CELLS[name]
    backwards = builder(3, output=output, reverse=True, **own)
    A, cache = stage.forward(params, X, TRAINING)
    mirrored, mirrored_cache = backwards.forward(params, X[::-1], TRAINING)
    np.testing.assert_array_equal(A, mirrored if output == "last" else mirrored[::-1])
    dX, _ = stage.backward(params, cache, dA)
    dmirrored = dA if output == "last" else dA[::-1]
    mirrored_dX, _ = backwards.backward(params, mirrored_cache, dmirrored)
    np.testing.assert_array_equal(dX, mirrored_dX[::-1])


@every_cell
def test_any_number_of_steps_goes(name):
    stage, params, X, _ = drawn(name, (4, 2), 5)
    A, _ = stage.forward(params, X, EVALUATION)
    first, _ = stage.forward(params, X[:2], EVALUATION)
    np.testing.assert_array_equal(first, A[:2])


# Sequences of unequal length


@given(
    name=st.sampled_from(list(CELLS)),
    output=st.sampled_from(["all", "last"]),
    reverse=st.booleans(),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_padding_never_leaks(name, output, reverse, lengths):
    # Each sequence has the same bits, forward and backward, whether it is alone or has neighbors.
    T, m = max(lengths) + 1, len(lengths)
    stage, params, X, dA = drawn(name, (T, 2), m, output=output, reverse=reverse)
    context = Context(training=True, numerics=portable, lengths=np.array(lengths))
    padded = np.where(np.arange(T)[:, None, None] < lengths, X, np.nan)
    A, cache = stage.forward(params, padded, context)
    dX, grads = stage.backward(params, cache, dA)
    assert all(np.isfinite(gradient).all() for gradient in leaves(grads))
    for i, length in enumerate(lengths):
        own = np.s_[:length, :, i : i + 1]
        alone = Context(training=True, numerics=portable)
        A_own, own_cache = stage.forward(params, X[own], alone)
        dA_own = dA[own] if output == "all" else dA[:, i : i + 1]
        dX_own, _ = stage.backward(params, own_cache, dA_own)
        np.testing.assert_array_equal(dX[own], dX_own)
        np.testing.assert_array_equal(dX[length:, :, i], 0)
        if output == "all":
            np.testing.assert_array_equal(A[own], A_own)
            np.testing.assert_array_equal(A[length:, :, i], 0)
        else:
            np.testing.assert_array_equal(A[:, i : i + 1], A_own)


@every_cell
@in_both
def test_lengths_of_whole_sequences_change_nothing(name, numerics):
    stage, params, X, dA = drawn(name, (4, 2), 3, initial="learned")
    results = []
    for lengths in (None, np.array([4, 4, 4])):
        A, cache = stage.forward(params, X, Context(numerics=numerics, lengths=lengths))
        results.append([A, *leaves(stage.backward(params, cache, dA))])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_cell
def test_gradients_of_padding_count_nothing(name):
    stage, params, X, dA = drawn(name, (4, 2), 3)
    lengths = np.array([1, 3, 4])
    _, cache = stage.forward(params, X, Context(lengths=lengths))
    valid = np.arange(4)[:, None, None] < lengths
    dX, grads = stage.backward(params, cache, np.where(valid, dA, np.nan))
    same, same_grads = stage.backward(params, cache, np.where(valid, dA, 0))
    np.testing.assert_array_equal(dX, same)
    assert grads == same_grads


# The state before the first step


@every_cell
def test_a_carried_state_goes_through_windows_as_through_the_whole_sequence(name):
    whole, params, X, _ = drawn(name, (6, 2), 3)
    carried = CELLS[name][0](3, initial="carried", examples=3, **CELLS[name][-1])
    expected, _ = whole.forward(params, X, TRAINING)
    statistics, windows = carried.statistics.init(params), []
    assert carried.statistics.read_in_training
    for start in (0, 2, 4):
        context = Context(training=True, statistics=statistics)
        A, cache = carried.forward(params, X[start : start + 2], context)
        statistics = carried.statistics.absorb(statistics, cache)
        windows.append(A)
    np.testing.assert_array_equal(np.concatenate(windows), expected)
    # Outside of training the state starts at 0.
    A, _ = carried.forward(params, X[:2], Context(statistics=statistics))
    np.testing.assert_array_equal(A, expected[:2])


@every_cell
def test_a_carried_state_is_that_after_the_last_valid_step(name):
    _, params, X, _ = drawn(name, (4, 2), 2)
    carried = CELLS[name][0](3, initial="carried", examples=2, **CELLS[name][-1])
    before = carried.statistics.init(params)
    context = Context(training=True, statistics=before, lengths=np.array([2, 3]))
    A, cache = carried.forward(params, X, context)
    after = carried.statistics.absorb(before, cache)
    np.testing.assert_array_equal(after.a, np.stack([A[1, :, 0], A[2, :, 1]], axis=1))


@every_cell
def test_a_learned_state_starts_at_0_and_is_that_of_every_example(name):
    stage, params, X, _ = drawn(name, (2, 2), 3, initial="learned")
    fresh, _ = stage.init(Key(1), (2, 2))
    assert not fresh.a_0.any()
    forward, own = CELLS[name][1], CELLS[name][-1]
    state = drawn_state(name, 3, 3, "before")
    names = [field.name for field in attrs.fields(type(state))]
    states = [np.repeat(getattr(params, f"{n}_0"), 3, axis=1) for n in names]
    expected, _ = forward(params, X, type(state)(*states), **own)
    np.testing.assert_array_equal(stage.forward(params, X, EVALUATION)[0], expected)


# Both directions


@pytest.mark.parametrize("output", ["all", "last"])
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("lengths", [None, np.array([2, 4, 1])], ids=["whole", "unequal"])
def test_both_directions_are_two_stages_side_by_side(output, merge, lengths):
    stage = bidirectional(gru(2, output=output), merge=merge)
    params, shape = stage.init(Key(2), (4, 3))
    assert shape == ((4,) if output == "all" else ()) + ((4,) if merge == "concat" else (2,))
    X = Key(3).normal((4, 3, 3))
    context = Context(training=True, lengths=lengths)
    A, _ = stage.forward(params, X, context)
    there, _ = gru(2, output=output).forward(params[0], X, context)
    back, _ = gru(2, output=output, reverse=True).forward(params[1], X, context)
    both = np.concatenate([there, back], axis=-2) if merge == "concat" else there + back
    np.testing.assert_array_equal(A, both)
    assert not np.array_equal(params[0].W_x, params[1].W_x)
    if merge == "concat" and lengths is not None:
        check_gradients(stage, shape_in=(4, 3), examples=3, context=context, entries=1)


def test_two_stages_may_differ_from_mirror_images():
    stage = bidirectional(rnn(2), lstm(2, reverse=True))
    params, shape = stage.init(Key(2), (4, 3))
    assert shape == (4, 4)
    assert [len(tree.W_x) for tree in params] == [2, 8]


def test_a_bidirectional_stage_is_rebuilt_from_changed_stages():
    stage = bidirectional(rnn(2), merge="sum")
    assert describe(stage.rebuild(*stage.parts)) == describe(stage)
    other = stage.rebuild(rnn(2, activation="relu"), stage.parts[1])
    assert repr(other) == (
        "bidirectional(rnn(2, activation='relu'), rnn(2, reverse=True), merge='sum')"
    )


@pytest.mark.parametrize("options", [{}, {"merge": "sum"}], ids=str)
def test_both_directions_stack_and_onnx_computes_the_same(options):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    assert_onnx(
        serial(
            bidirectional(lstm(2), **options),
            bidirectional(gru(3, initial="learned", output="last"), **options),
        ),
        shape_in=(3, 2),
    )


# First parameters


def test_recurrent_weights_are_orthogonal_and_biases_0():
    params, shape = rnn(6).init(Key(3), (9, 4))
    assert shape == (9, 6)
    np.testing.assert_allclose(params.W_a @ params.W_a.T, np.eye(6), atol=1e-14)
    assert not params.b.any()
    assert params.W_x.std() > 0
    assert rnn(6, output="last").init(Key(3), (9, 4))[1] == (6,)


def test_the_forget_gate_starts_open_and_each_gate_has_orthogonal_weights():
    params, _ = lstm(2, forget_bias=1.5).init(Key(3), (9, 4))
    np.testing.assert_array_equal(params.b.ravel(), [0, 0, 1.5, 1.5, 0, 0, 0, 0])
    for drawn_params, gates in ((params, 4), (gru(2).init(Key(3), (9, 4))[0], 3)):
        for block in np.split(drawn_params.W_a, gates):
            np.testing.assert_allclose(block @ block.T, np.eye(2), atol=1e-14)
        blocks = np.split(drawn_params.W_x, gates)
        assert not any(np.array_equal(blocks[0], block) for block in blocks[1:])


# Other places


@pytest.mark.parametrize("name", [name for name in CELLS if "relu" not in name])  # tanh only there
@pytest.mark.parametrize("options", [{}, {"reverse": True, "output": "last"}], ids=str)
def test_onnx_computes_the_same(name, options):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    builder, *_, own = CELLS[name]
    assert_onnx(builder(3, **own, **options), shape_in=(4, 2))


@pytest.mark.parametrize("name", ["rnn", "gru", "gru, reset before", "lstm"])
@pytest.mark.parametrize("reverse", [False, True])
def test_onnx_computes_each_of_several_lengths_alone(name, reverse):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    reference = pytest.importorskip("onnx.reference")
    stage, params, X, _ = drawn(name, (4, 2), 5, initial="learned", reverse=reverse)
    A, _ = stage.forward(params, X, Context(lengths=UNEQUAL))
    graph = Graph("float64")
    graph.output("A", onnx_of(stage, params, graph.input("X", (4, 2)), ()), (4, 3))
    model = onnx.load_from_string(onnx_file(graph, producer_version="", metadata={}))
    evaluator = reference.ReferenceEvaluator(model)
    for i, length in enumerate(UNEQUAL):
        rows = np.ascontiguousarray(X[:length, :, i])[np.newaxis]
        [outputs] = evaluator.run(None, {"X": rows})
        np.testing.assert_allclose(outputs[0], A[:length, :, i], rtol=0, atol=1e-12)


HUGE = 10**12
REFUSED = {
    "units": (lambda: rnn(0), "units is 0, expected"),
    "output": (lambda: rnn(2, output="first"), "output 'first'"),
    "initial": (lambda: rnn(2, initial="random"), "initial 'random'"),
    "activation": (lambda: rnn(2, activation="sigmoid"), "activation 'sigmoid'"),
    "reverse": (lambda: rnn(2, reverse="yes"), "reverse"),
    "examples missing": (
        lambda: rnn(2, initial="carried"), "initial is 'carried' and examples is None",
    ),
    "examples for nothing": (lambda: rnn(2, examples=3), "initial is 'zero' and examples is 3"),
    "no examples": (lambda: rnn(2, initial="carried", examples=0), "examples is 0"),
    "carried in reverse": (
        lambda: rnn(2, initial="carried", examples=3, reverse=True), "reverse is True",
    ),
    "flat": (lambda: rnn(2).init(Key(1), (3,)), r"examples have shape \(3,\), expected \(T, n\)"),
    "images": (lambda: rnn(2).init(Key(1), (3, 3, 1)), r"expected \(T, n\)"),
    "huge": (lambda: rnn(HUGE).init(Key(1), (3, 3)), "more than any machine holds"),
    "huge inputs": (lambda: rnn(HUGE).init(Key(1), (3, HUGE)), "more than any machine holds"),
    "other features": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 3, 4))),
        r"X has shape \(2, 3, 4\), expected \(T, 2, m\)",
    ),
    "columns": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 4))), r"X has shape \(2, 4\)",
    ),
    "no steps": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((0, 2, 4))), "at least one step",
    ),
    "dtype": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 4), np.float32)), "float32",
    ),
    "too few rows": (
        lambda: lstm_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 4))),
        r"W_x has shape \(3, 2\), expected \(12, 2\): give lstm 4 rows per unit",
    ),
    "no bias of the reset": (
        lambda: gru_forward(drawn("gru, reset before", (2, 2), 1)[1], np.ones((2, 2, 4))),
        "parameters are RecurrentParams, expected GruParams for reset 'after'",
    ),
    "a bias too many": (
        lambda: gru_forward(drawn("gru", (2, 2), 1)[1], np.ones((2, 2, 4)), reset="before"),
        "parameters are GruParams, expected RecurrentParams for reset 'before'",
    ),
    "no mirror image": (
        lambda: bidirectional(dense(3)), "bidirectional got dense, which has no option reverse",
    ),
    "both directions carried": (
        lambda: bidirectional(gru(2, initial="carried", examples=3)),
        r"bidirectional\(gru\): reverse is True and initial is 'carried'",
    ),
    "three directions": (lambda: bidirectional(rnn(2), rnn(2), rnn(2)), "bidirectional got 3"),
    "no direction": (bidirectional, "bidirectional has no stages"),
    "merge": (lambda: bidirectional(rnn(2), merge="mean"), "merge 'mean'"),
    "directions of different shapes": (
        lambda: bidirectional(rnn(2), rnn(3)).init(Key(1), (4, 3)),
        r"stage 0 gives examples of shape \(4, 2\) and stage 1 of shape \(4, 3\)",
    ),
    "a direction of columns": (
        lambda: bidirectional(rnn(2)).init(Key(1), (3,)), r"^stage 0 \(rnn\): examples have shape",
    ),
    "reset": (lambda: gru(2, reset="never"), "reset 'never'"),
    "forget bias": (lambda: lstm(2, forget_bias=math.inf), "forget_bias is inf"),
    "bias of the reset": (
        lambda: GruParams(np.ones((3, 2)), np.ones((3, 1)), np.ones((3, 1)), np.ones((2, 1))),
        r"b_a has shape \(2, 1\), expected \(1, 1\)",
    ),
    "state": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 4)), State(np.ones((3, 5)))),
        r"a has shape \(3, 5\), expected \(3, 4\)",
    ),
    "state of another kind": (
        lambda: rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 4)), np.ones((3, 4))),
        "expected a State",
    ),
    "length 0": (
        lambda: rnn_forward(
            drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 2)), None, Context(lengths=np.array([0, 1]))
        ),
        "the length of example 0 is 0",
    ),
    "length beyond T": (
        lambda: rnn_forward(
            drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 2)), None, Context(lengths=np.array([1, 3]))
        ),
        "the length of example 1 is 3",
    ),
    "gradient": (
        lambda: rnn(3).backward(
            drawn("rnn", (2, 2), 1)[1],
            rnn_forward(drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 4)))[1],
            np.ones((3, 3, 4)),
        ),
        r"dA has shape \(3, 3, 4\), expected \(2, 3, 4\)",
    ),
    "parameters": (
        lambda: RecurrentParams(np.ones((3, 2)), np.ones((2, 2)), np.ones((3, 1))), "W_a has shape",
    ),
    "batch of another size": (
        lambda: rnn(3, initial="carried", examples=4).forward(
            drawn("rnn", (2, 2), 1)[1], np.ones((2, 2, 3)), TRAINING
        ),
        "rnn carries the state of 4 examples from batch to batch, but got a batch of 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_was_expected(call, message):
    with pytest.raises(BadInput, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_step_with_a_batch_of_another_size_is_refused():
    network = serial(rnn(3, initial="carried", examples=4, output="last"), dense(1))
    state = initial_state(network, adam(), (2, 2), key=Key(1))
    step = make_train_step(network, mean_squared(), adam())
    state, _ = step(state, Batch(np.ones((2, 2, 4)), np.ones((1, 4))))
    assert state.statistics["0/a"].any()
    with pytest.raises(BadInput, match=r"stage 0 \(rnn\): rnn carries the state of 4 examples"):
        step(state, Batch(np.ones((2, 2, 3)), np.ones((1, 3))))


def test_a_huge_stage_takes_no_memory_until_its_size_is_known():
    from pydnn.stages.initializers import zeros

    stage = rnn(1 << 23, initializer=zeros(), recurrent_initializer=zeros())
    params, _ = stage.init(Key(0), (4, 8))
    assert params.W_a.shape == (1 << 23, 1 << 23)
