"""Recurrent stages give the numbers that a course publishes with its exercises.

Its arrays are (n_x, m, T), its weights of an LSTM are W on a over x, in the order f, i, o, c, and
all numbers come from one legacy stream. Of its two tables for the backward pass of an LSTM, that of
2021 is right; the gradients of earlier ones do not go from step to step.
"""

import numpy as np

from pydnn.stages.lstm import LstmState, lstm_backward, lstm_forward
from pydnn.stages.recurrent import RecurrentParams, State
from pydnn.stages.rnn import rnn_backward, rnn_forward


def time_first(array):
    return np.ascontiguousarray(np.moveaxis(array, 2, 0))


def near(ours, published):
    np.testing.assert_allclose(np.ravel(ours), published, rtol=0, atol=6e-9)


def test_rnn_forward():
    draw = np.random.RandomState(1).randn
    x, a_0, W_a, W_x, _, b = (
        draw(*shape) for shape in ((3, 10, 4), (5, 10), (5, 5), (5, 3), (2, 5), (5, 1))
    )
    A, _ = rnn_forward(RecurrentParams(W_x, W_a, b), time_first(x), State(a_0))
    near(A[:, 4, 1], [-0.99999375, 0.77911235, -0.99861469, -0.99833267])


def test_rnn_backward():
    draw = np.random.RandomState(1).randn
    x, a_0, W_x, W_a, _, b, _, dA = (
        draw(*shape)
        for shape in ((3, 10, 4), (5, 10), (5, 3), (5, 5), (2, 5), (5, 1), (2, 1), (5, 10, 4))
    )
    params = RecurrentParams(W_x, W_a, b)
    _, cache = rnn_forward(params, time_first(x), State(a_0))
    dX, before, grads = rnn_backward(params, cache, time_first(dA))
    near(dX[:, 1, 2], [-2.07101689, -0.59255627, 0.02466855, 0.01483317])
    near(before.a[2, 3], -0.314942375127)
    near(grads.dW_x[3, 1], 11.2641044965)
    near(grads.dW_a[1, 2], 2.30333312658)
    near(grads.db[4], -0.74747722)


def test_lstm():
    draw = np.random.RandomState(1).randn
    x, a_0 = draw(3, 10, 7), draw(5, 10)
    gates = {gate: (draw(5, 8), draw(5, 1)) for gate in "fioc"}
    W, b = (np.concatenate([gates[gate][k] for gate in "ifoc"]) for k in (0, 1))
    params, before = RecurrentParams(W[:, 5:], W[:, :5], b), LstmState(a_0, 0 * a_0)
    A, _ = lstm_forward(params, time_first(x), before)
    near(A[6, 4, 3], 0.172117767533)

    # The exercise goes back over the first 4 of 7 steps.
    _, cache = lstm_forward(params, time_first(x)[:4], before)
    dX, dbefore, grads = lstm_backward(params, cache, time_first(draw(5, 10, 4)))
    near(dX[:, 1, 2], [0.00218254, 0.28205375, -0.48292508, -0.43281115])
    near(dbefore.a[2, 3], 0.312770310257)
    dW_i, dW_f, dW_o, _ = np.split(grads.dW_a, 4)
    near(dW_f[3, 1], -0.0809802310938)
    near(dW_i[1, 2], 0.40512433093)
    near(dW_o[1, 2], 0.038948775763)
    near(grads.db[[9, 4, 19, 14]], [-0.15745657, -0.50848333, -0.42510818, -0.17958196])
