import math
import sys

import attrs
import numpy as np
import pytest
from helpers import arrays_in, frozen

from pydnn import (
    BadInput,
    Batch,
    Context,
    Key,
    adam,
    attention,
    dense,
    embedding,
    fast,
    gelu,
    initial_state,
    layer_norm,
    make_train_step,
    output_of,
    portable,
    positions,
    residual,
    scan,
    serial,
    softmax_cross_entropy,
)
from pydnn.stages import EVALUATION
from pydnn.stages.attention import AttentionParams
from pydnn.stages.initializers import zeros
from pydnn.testing import assert_onnx, assert_stage

ONE, NONE = [[1.0]], [[0.0]]
PLAIN = AttentionParams(ONE, ONE, ONE, ONE, NONE, NONE, NONE)  # one head of one feature
MODULE = sys.modules["pydnn.stages.attention"]  # its name in pydnn.stages is that of the builder
LOG_2 = math.log(2)
both = pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)


def shares(*scores):
    total = sum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


@both
def test_attention_matches_worked_example(numerics):
    # Steps 1 and 2 as queries, keys and values: step t weighs step s by exp(t s).
    steps = np.array([1.0, 2.0]).reshape(2, 1, 1)
    A, cache = attention(1).forward(PLAIN, steps, Context(numerics=numerics))
    expected = [np.dot(shares(1, 2), [1, 2]), np.dot(shares(2, 4), [1, 2])]
    np.testing.assert_allclose(A[:, 0, 0], expected, rtol=1e-15)
    # dA of step 0 alone: with shares p, dV = p, dS = p (v - the mean), and so on.
    p = np.array(shares(1, 2))
    dS = p * (np.array([1, 2]) - expected[0])
    dA_prev, grads = attention(1).backward(PLAIN, cache, np.array([[[1.0]], [[0.0]]]))
    dK, dQ, dV = 1 * dS, dS @ [1, 2], p
    np.testing.assert_allclose(dA_prev[:, 0, 0], dK + dV + [dQ, 0], rtol=1e-14)
    np.testing.assert_allclose(grads.dW_q, [[dQ * 1]], rtol=1e-14)
    np.testing.assert_allclose(grads.dW_k, [[dK @ [1, 2]]], rtol=1e-14)
    np.testing.assert_allclose(grads.dW_v, [[dV @ [1, 2]]], rtol=1e-14)
    np.testing.assert_allclose(grads.dW_o, [[expected[0]]], rtol=1e-14)
    np.testing.assert_allclose(grads.db_q, [[dQ]], rtol=1e-14)
    np.testing.assert_allclose(grads.db_v, [[1]], rtol=1e-14)
    np.testing.assert_array_equal(grads.db_o, [[1]])


def test_scores_are_divided_by_the_root_of_the_size_of_a_query():
    W = np.eye(4)
    params = AttentionParams(W, W, W, W, *np.zeros((3, 4, 1)))
    steps = np.array([[2.0, 0, 0, 0], [2 * LOG_2 / 2, 0, 0, 0]])[:, :, np.newaxis]
    A, cache = attention(1).forward(params, steps, EVALUATION)
    # Scores of step 0 are 2 * 2 / 2 and 2 log 2 / 2.
    p = shares(2, LOG_2)
    np.testing.assert_allclose(cache.P[0][0, 0, 0], p, rtol=1e-15)
    np.testing.assert_allclose(A[0, 0, 0], p[0] * 2 + p[1] * LOG_2, rtol=1e-15)
    _, cache = attention(4).forward(params, steps, EVALUATION)  # four queries of one number
    np.testing.assert_allclose(cache.P[0][0, 0, 0], shares(4, 2 * LOG_2), rtol=1e-15)
    np.testing.assert_allclose(cache.P[0][0, 1:], 0.5)


def test_causal_attention_sees_no_later_step():
    stage = attention(2, causal=True)
    params, _ = stage.init(Key(1), (5, 4))
    steps = Key(2).normal((5, 4, 3))
    A, cache = stage.forward(params, steps, EVALUATION)
    np.testing.assert_array_equal(np.triu(cache.P[0], 1), 0)
    np.testing.assert_allclose(cache.P[0].sum(axis=3), 1)
    changed = np.concatenate([steps[:3], 9 * steps[3:]])
    np.testing.assert_array_equal(stage.forward(params, changed, EVALUATION)[0][:3], A[:3])
    dA = np.zeros_like(A)
    dA[2] = 1
    assert not stage.backward(params, cache, dA)[0][3:].any()


@both
@pytest.mark.parametrize("causal", [False, True])
def test_padding_costs_nothing_and_changes_no_bit(causal, numerics):
    stage = attention(2, units=6, causal=causal)
    params, _ = stage.init(Key(1), (6, 4))
    lengths = frozen(np.array([3, 6, 1, 3]))
    context = Context(numerics=numerics, lengths=lengths)
    steps, dA = Key(2).normal((6, 4, 4)), Key(3).normal((6, 4, 4))
    valid = np.arange(6)[:, np.newaxis, np.newaxis] < lengths
    results = []
    for padding in (0.0, 1e9, np.nan):
        A, cache = stage.forward(params, np.where(valid, steps, padding), context)
        dA_prev, grads = stage.backward(params, cache, np.where(valid, dA, padding))
        assert cache.X.shape == (4, 13)
        assert not np.where(valid, 0, A).any()
        assert not np.where(valid, 0, dA_prev).any()
        results.append([a.tobytes() for a in (A, dA_prev, *arrays_in(grads))])
    assert results[0] == results[1] == results[2]
    # Examples of three steps alone, without padding.
    short, _ = stage.forward(params, steps[:3, :, [0, 3]], Context(numerics=numerics))
    np.testing.assert_allclose(A[:3, :, [0, 3]], short, rtol=1e-13, atol=1e-14)
    if numerics.exact:
        np.testing.assert_array_equal(A[:3, :, [0, 3]], short)


def test_full_lengths_give_the_same_as_none():
    stage = attention(2)
    params, _ = stage.init(Key(1), (5, 4))
    steps = Key(2).normal((5, 4, 3))
    A, _ = stage.forward(params, steps, EVALUATION)
    full, _ = stage.forward(params, steps, Context(lengths=frozen(np.full(3, 5))))
    np.testing.assert_array_equal(A, full)


@both
def test_parts_and_memory_order_change_no_bit(numerics, monkeypatch):
    stage = attention(2, causal=True)
    params, _ = stage.init(Key(1), (7, 4))
    steps, dA = Key(2).normal((7, 4, 5)), Key(3).normal((7, 4, 5))
    results = []
    for scores, order in ((1, "C"), (300, "F"), (1 << 20, "C")):
        monkeypatch.setattr(MODULE, "_SCORES", scores)
        A, cache = stage.forward(params, steps.copy(order), Context(numerics=numerics))
        dA_prev, grads = stage.backward(params, cache, dA.copy(order))
        assert A.flags.c_contiguous
        assert dA_prev.flags.c_contiguous
        results.append([a.tobytes() for a in (A, dA_prev, *arrays_in(grads))])
    assert results[0] == results[1] == results[2]


@both
def test_large_scores_stay_finite(numerics):
    steps = np.array([1e4, -1e4, 3e4]).reshape(3, 1, 1)
    A, cache = attention(1).forward(PLAIN, steps, Context(numerics=numerics))
    np.testing.assert_allclose(A[:, 0, 0], [3e4, -1e4, 3e4])
    assert np.isfinite(attention(1).backward(PLAIN, cache, np.ones((3, 1, 1)))[0]).all()


def test_attention_of_one_step_keeps_all_laws():
    assert_stage(attention(1), shape_in=(1, 2), examples=3)
    assert_onnx(attention(1), shape_in=(1, 2))


@pytest.mark.slow
def test_a_small_transformer_learns_to_copy():
    # The second half of each sequence repeats the first, which only attention can look up.
    words, half, m = 3, 2, 24
    network = serial(
        embedding(words, 8),
        positions("learned"),
        residual(layer_norm(), attention(2, causal=True)),
        residual(layer_norm(), dense(16), gelu(), dense(8)),
        dense(words),
    )
    optimizer = adam(learning_rate=0.03)

    def batch(i):
        first = Key(3).at(i).integers(words, (half, m)).astype(float)
        ids = np.concatenate([first, first])
        return Batch(ids[:-1], ids[1:])

    step = make_train_step(network, softmax_cross_entropy(), optimizer)
    start = initial_state(network, optimizer, (2 * half - 1,), key=Key(4))
    *_, (state, _) = scan(step, start, map(batch, range(150)))
    test = batch("test")
    right = output_of(network, state, test.X).argmax(axis=1) == test.Y
    assert right[half - 1 :].mean() > 0.99
    assert right[: half - 1].mean() < 0.5  # the first half is random


def test_weights_are_drawn_from_keys_of_their_own():
    params, shape = attention(2, units=6).init(Key(1).at(0), (5, 4))
    assert shape == (5, 4)
    assert params.W_q.shape == (6, 4)
    assert params.W_o.shape == (4, 6)
    assert not np.array_equal(params.W_q, params.W_k)
    assert not any(a.any() for a in attrs.astuple(params)[4:])


REFUSED = {
    "no heads": (lambda: attention(0), "heads is 0, expected an integer of at least 1"),
    "units": (lambda: attention(2, units=-1), "units is -1, expected an integer of at least 1"),
    "causal": (lambda: attention(2, causal="no"), "causal is 'no', expected True or False"),
    "heads": (
        lambda: attention(3).init(Key(0), (5, 4)),
        "3 heads do not divide 4 units: give a number of heads that does, or e.g. units=3",
    ),
    "columns": (
        lambda: attention(1).init(Key(0), (4,)),
        r"examples have shape \(4,\), expected \(T, n\), .* put embedding\(words, units\) before",
    ),
    "images": (lambda: attention(1).init(Key(0), (4, 4, 3)), "expected \\(T, n\\)"),
    "features": (
        lambda: attention(1).forward(PLAIN, np.ones((3, 2, 1)), EVALUATION),
        r"A_prev has shape \(3, 2, 1\), expected \(T, 1, m\): attention was initialized for seq",
    ),
    "precision": (
        lambda: attention(1).forward(PLAIN, np.ones((3, 1, 1), np.float32), EVALUATION),
        "A_prev is float32, but the parameters are float64",
    ),
    "sizes": (
        lambda: attention(1, units=10**12, initializer=zeros()).init(Key(0), (5, 10**3)),
        "have 4000000000000000 weights, more than any machine holds",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
