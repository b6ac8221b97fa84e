"""Compare recurrent stages with PyTorch's, in float64, over a table of options."""

import itertools

import numpy as np
import pytest

from pydnn import Context, Key, bidirectional, gru, lstm, rnn
from pydnn.parameters import layout_of, leaves
from pydnn.stages.gru import gru_backward, gru_forward
from pydnn.stages.lstm import LstmState, lstm_backward, lstm_forward
from pydnn.stages.recurrent import State
from pydnn.stages.rnn import rnn_backward, rnn_forward

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")

N, UNITS, T, M = 3, 4, 6, 5
LENGTHS = np.array([3, 6, 1, 4, 4])
# PyTorch's order of the gates, as numbers of blocks of rows in ours. PyTorch has i, f, g and o.
KINDS = {
    "rnn": (rnn, torch.nn.RNN, {}, {}, [0], rnn_forward, rnn_backward),
    "rnn, relu": (
        rnn, torch.nn.RNN, {"activation": "relu"}, {"nonlinearity": "relu"}, [0],
        rnn_forward, rnn_backward,
    ),
    "gru": (gru, torch.nn.GRU, {}, {}, [1, 0, 2], gru_forward, gru_backward),
    "lstm": (lstm, torch.nn.LSTM, {}, {}, [0, 1, 3, 2], lstm_forward, lstm_backward),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def drawn(kind, stage, T=T, N=N, M=M):
    key = Key(3).at(kind)
    params, shape_out = stage.init(key, (T, N))
    layout = layout_of(params)
    params = layout.packed(key.at("params").normal(layout.size) / 2).tree
    X = key.at("X").normal((T, N, M))
    return params, X, key.at("dA").normal((*shape_out, M))


def in_their_order(rows, order):
    blocks = np.split(np.array(rows), len(order))
    return np.concatenate([blocks[i] for i in order])


def set_weights(module, params, order, suffix=""):
    units = params.W_a.shape[1]
    biases = np.zeros_like(params.b)
    if hasattr(params, "b_a"):
        biases[-units:] = params.b_a
    ours = {"weight_ih_l0": params.W_x, "weight_hh_l0": params.W_a, "bias_ih_l0": params.b[:, 0],
            "bias_hh_l0": biases[:, 0]}  # fmt: skip
    for name, rows in ours.items():
        getattr(module, name + suffix).data = torch.tensor(in_their_order(rows, order))


def agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


def agree_in_gradients(grads, module, order, suffix=""):
    agree(in_their_order(grads.dW_x, order), getattr(module, "weight_ih_l0" + suffix).grad)
    agree(in_their_order(grads.dW_a, order), getattr(module, "weight_hh_l0" + suffix).grad)
    agree(in_their_order(grads.db, order)[:, 0], getattr(module, "bias_ih_l0" + suffix).grad)
    if hasattr(grads, "db_a"):
        units = grads.dW_a.shape[1]
        agree(grads.db_a[:, 0], getattr(module, "bias_hh_l0" + suffix).grad[-units:])


def module_of(kind, units=UNITS, n=N, **options):
    _, theirs, _, their_options, *_ = KINDS[kind]
    return theirs(n, units, dtype=torch.float64, **their_options, **options)


def run_theirs(module, X, lengths, state=None):
    """Outputs (T, features, m), as a tensor, and their last states."""
    packed = rows = torch.tensor(X.transpose(0, 2, 1).copy(), requires_grad=True)
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            rows, torch.tensor(lengths), enforce_sorted=False
        )
    A, last = module(packed, state) if state is not None else module(packed)
    if lengths is not None:
        A, _ = torch.nn.utils.rnn.pad_packed_sequence(A, total_length=len(X))
    return rows, A.permute(0, 2, 1), last


@every_kind
@pytest.mark.parametrize("output", ["all", "last"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "unequal"])
def test_one_direction_agrees(kind, output, lengths):
    builder, _, options, _, order, *_ = KINDS[kind]
    stage = builder(UNITS, output=output, **options)
    params, X, dA = drawn(kind, stage)
    A, cache = stage.forward(params, X, Context(lengths=lengths))
    dX, grads = stage.backward(params, cache, dA)

    module = module_of(kind)
    set_weights(module, params, order)
    rows, theirs, last = run_theirs(module, X, lengths)
    if output == "last":
        theirs = (last[0] if isinstance(last, tuple) else last)[0].T
    agree(A, theirs)
    theirs.backward(torch.tensor(dA))
    agree(dX, rows.grad.permute(0, 2, 1))
    agree_in_gradients(grads, module, order)


@every_kind
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "unequal"])
def test_both_directions_agree(kind, lengths):
    builder, _, options, _, order, *_ = KINDS[kind]
    stage = bidirectional(builder(UNITS, **options))
    params, X, dA = drawn(kind, stage)
    A, cache = stage.forward(params, X, Context(lengths=lengths))
    dX, grads = stage.backward(params, cache, dA)

    module = module_of(kind, bidirectional=True)
    for tree, suffix in zip(params, ("", "_reverse"), strict=True):
        set_weights(module, tree, order, suffix)
    rows, theirs, _ = run_theirs(module, X, lengths)
    agree(A, theirs)
    theirs.backward(torch.tensor(dA))
    agree(dX, rows.grad.permute(0, 2, 1))
    for tree, suffix in zip(grads, ("", "_reverse"), strict=True):
        agree_in_gradients(tree, module, order, suffix)


@every_kind
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "unequal"])
def test_given_states_and_gradients_of_last_states_agree(kind, lengths):
    builder, _, options, _, order, forward, backward = KINDS[kind]
    params, X, dA = drawn(kind, builder(UNITS, **options))
    names = ["a", "c"] if kind == "lstm" else ["a"]
    record = LstmState if kind == "lstm" else State
    before = record(*[Key(4).at("before", name).normal((UNITS, M)) for name in names])
    dafter = record(*[Key(4).at("after", name).normal((UNITS, M)) for name in names])
    _, cache = forward(params, X, before, Context(lengths=lengths), **options)
    dX, dbefore, grads = backward(params, cache, dA, dafter, **options)

    module = module_of(kind)
    set_weights(module, params, order)
    states = [torch.tensor(s.T[np.newaxis].copy(), requires_grad=True) for s in leaves(before)]
    given = tuple(states) if kind == "lstm" else states[0]
    rows, theirs, last = run_theirs(module, X, lengths, given)
    last = last if isinstance(last, tuple) else (last,)
    for ours, their in zip(leaves(cache.after), last, strict=True):
        agree(ours, their[0].T)
    cost = (theirs * torch.tensor(dA)).sum()
    for weight, their in zip(leaves(dafter), last, strict=True):
        cost = cost + (their[0].T * torch.tensor(weight)).sum()
    cost.backward()
    agree(dX, rows.grad.permute(0, 2, 1))
    agree_in_gradients(grads, module, order)
    for ours, their in zip(leaves(dbefore), states, strict=True):
        agree(ours, their.grad[0].T)


SHAPES = list(itertools.product(KINDS, [(1, 1, 1, 1), (1, 3, 2, 4), (7, 2, 1, 1), (5, 1, 3, 2)]))


@pytest.mark.parametrize(("kind", "shape"), SHAPES)
def test_odd_shapes_agree(kind, shape):
    T, n, units, m = shape
    builder, _, options, _, order, *_ = KINDS[kind]
    stage = builder(units, **options)
    params, X, dA = drawn(kind, stage, T, n, m)
    A, cache = stage.forward(params, X, Context())
    dX, grads = stage.backward(params, cache, dA)
    module = module_of(kind, units, n)
    set_weights(module, params, order)
    rows, theirs, _ = run_theirs(module, X, None)
    agree(A, theirs)
    theirs.backward(torch.tensor(dA))
    agree(dX, rows.grad.permute(0, 2, 1))
    agree_in_gradients(grads, module, order)
