"""Check weights of PyTorch's recurrent layers against its formulas, written out step by step."""

import numpy as np
import pytest
from helpers import frozen

import pydnn as nn
from pydnn import BadInput, Context, Key
from pydnn.interop.weights import load_weights

T, n, units, m = 5, 3, 4, 2
X = frozen(Key(3).normal((T, n, m)))
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
BUILDERS = {"rnn": nn.rnn, "gru": nn.gru, "lstm": nn.lstm}


def state_of(kind, layer, inputs, *, prefix="rnn.", biases=True):
    """What `state_dict` of PyTorch has for one layer and direction, e.g. for "l0_reverse"."""
    rows, key = GATES[kind] * units, Key(7).at(kind, layer)
    shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, units)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if biases else {}
    return {f"{prefix}{name}_{layer}": key.at(name).normal(shapes[name]) for name in shapes}


def sigmoid(Z):
    return 1 / (1 + np.exp(-Z))


def as_pytorch_says(kind, state, X, layer="l0", prefix="rnn."):
    """The formulas in the documentation of torch.nn.RNN, GRU and LSTM."""
    W_i, W_h, b_i, b_h = (state[f"{prefix}{name}_{layer}"] for name in
                          ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
    h, c, outputs = np.zeros((units, m)), np.zeros((units, m)), []
    for x in X[::-1] if layer.endswith("reverse") else X:
        from_x, from_h = W_i @ x + b_i[:, np.newaxis], W_h @ h + b_h[:, np.newaxis]
        xs, hs = (np.split(rows, GATES[kind]) for rows in (from_x, from_h))
        if kind == "rnn":
            h = np.tanh(from_x + from_h)
        elif kind == "gru":
            r, z = sigmoid(xs[0] + hs[0]), sigmoid(xs[1] + hs[1])
            h = (1 - z) * np.tanh(xs[2] + r * hs[2]) + z * h
        else:
            i, f, g, o = (x + h for x, h in zip(xs, hs, strict=True))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs[::-1] if layer.endswith("reverse") else outputs)


def outputs_of(network, state, X=X):
    weights = load_weights(network, state, shape_in=X.shape[:-1], on_table=None)
    params = weights.parameters.tree
    return network.forward(params, X, Context())[0]


@pytest.mark.parametrize("kind", GATES)
def test_one_layer_computes_what_pytorch_does(kind):
    state = state_of(kind, "l0", n)
    A = outputs_of(nn.serial(BUILDERS[kind](units)), state)
    np.testing.assert_allclose(A, as_pytorch_says(kind, state, X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", GATES)
def test_layers_and_directions_come_in_the_order_of_the_computation(kind):
    directions = ("l0", "l0_reverse")
    state = {}
    for layer in directions:
        state |= state_of(kind, layer, n)
    for layer in ("l1", "l1_reverse"):
        state |= state_of(kind, layer, 2 * units)
    below = np.concatenate([as_pytorch_says(kind, state, X, d) for d in directions], axis=1)
    above = [as_pytorch_says(kind, state, below, d) for d in ("l1", "l1_reverse")]
    build = BUILDERS[kind]
    network = nn.serial(nn.bidirectional(build(units)), nn.bidirectional(build(units)))
    A = outputs_of(network, state)
    np.testing.assert_allclose(A, np.concatenate(above, axis=1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_a_file_of_a_model_of_letters_is_read(tmp_path, form):
    words = 7
    state = {"letters.weight": Key(1).normal((words, n)), **state_of("gru", "l0", n)}
    state |= {"out.weight": Key(2).normal((words, units)), "out.bias": Key(4).normal((words,))}
    path = tmp_path / f"model.{form}"
    if form == "npz":
        np.savez(path, **state)
    else:
        pytest.importorskip("safetensors.numpy").save_file(state, path)
    network = nn.serial(nn.embedding(words, n), nn.gru(units, output="last"), nn.dense(words))
    ids = np.array([[0, 3], [6, 1], [2, 2]])
    A = outputs_of(network, path, ids)
    hidden = as_pytorch_says("gru", state, state["letters.weight"][ids].swapaxes(1, 2))[-1]
    expected = state["out.weight"] @ hidden + state["out.bias"][:, np.newaxis]
    np.testing.assert_allclose(A, expected, rtol=1e-12, atol=1e-13)


def test_a_cell_and_a_layer_without_biases_are_read():
    cell = {name.removeprefix("rnn.").removesuffix("_l0"): array
            for name, array in state_of("lstm", "l0", n, biases=False).items()}  # fmt: skip
    weights = load_weights(nn.lstm(units), cell, shape_in=(T, n), on_table=None)
    assert not weights.parameters["b"].any()
    np.testing.assert_array_equal(weights.parameters["W_x"][8:12], cell["weight_ih"][12:])  # o


def test_the_table_names_both_biases_and_dtypes_are_kept():
    state = {k: v.astype(np.float32) for k, v in state_of("gru", "l0", n).items()}
    weights = load_weights(nn.gru(units), state, shape_in=(T, n), on_table=None)
    assert weights.parameters.vector.dtype == np.float32
    assert [row[0] for row in weights.table] == [
        "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0 + rnn.bias_hh_l0", "rnn.bias_hh_l0",
    ]  # fmt: skip


STATE = state_of("lstm", "l0", n)
REFUSED = {
    "another cell": (nn.gru(units), STATE, r"rnn.weight_ih_l0 of the source has shape \(16, 3\)"),
    "other units": (nn.lstm(3), STATE, r"rnn.weight_ih_l0 of the source has shape \(16, 3\)"),
    "a projection": (
        nn.lstm(units), STATE | {"rnn.weight_hr_l0": np.ones((2, 4))}, "rnn.weight_hr_l0",
    ),
    "recurrent weights of other units": (
        nn.lstm(units), STATE | {"rnn.weight_hh_l0": np.ones((16, 3))}, "of an RNN, a GRU or",
    ),
    "one bias": (
        nn.lstm(units), {k: v for k, v in STATE.items() if "bias_hh" not in k}, "both biases",
    ),
    "integers": (
        nn.lstm(units), {k: v.astype(int) for k, v in STATE.items()}, "holds int64, expected float",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("network", "state", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(network, state, message):
    with pytest.raises(BadInput, match=message) as refusal:
        load_weights(network, state, shape_in=(T, n), on_table=None)
    assert "\n" not in str(refusal.value)
