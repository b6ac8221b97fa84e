"""Long short-term memory: a recurrent stage whose gates protect a memory c over many steps."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from pydnn.checks import expect_real
from pydnn.descriptions.builders import described
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, arrays, scalar
from pydnn.stages.base import EVALUATION, Context, Stage
from pydnn.stages.initializers import Initializer, orthogonal, xavier_uniform
from pydnn.stages.recurrent import (
    Cell,
    LearnedGrads,
    LearnedParams,
    Operator,
    Records,
    RecurrentCache,
    RecurrentGrads,
    RecurrentParams,
    State,
    Weights,
    backward_over_steps,
    blocks,
    forward_over_steps,
    recurrent_stage,
)

__all__ = ["LstmState", "lstm", "lstm_backward", "lstm_cell_backward", "lstm_cell_forward",
           "lstm_forward"]  # fmt: skip


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LstmState(State):
    """The state of an lstm between two steps: its output a and its memory c, both (units, m)."""

    c: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LstmLearnedParams(LearnedParams):
    """As `RecurrentParams`, and the learned state before the first step, a_0 and c_0 (units, 1)."""

    c_0: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LstmLearnedGrads(LearnedGrads):
    """Gradients of the parameters in `LstmLearnedParams`; dc_0 is (units, 1)."""

    dc_0: FloatArray


def _forward(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray, FloatArray, FloatArray],
    state: list[FloatArray],
    a: FloatArray,
    numerics: Numerics,
) -> None:
    gates, c_before, tanh_c = kept
    c, units = state[1], len(a)
    numerics.matmul(weights[0], operand, out=gates)
    numerics.gates(gates, 3 * units, out=gates)
    i, f, o, g = blocks(gates, units)
    c_before[...] = c
    np.multiply(f, c_before, tanh_c)
    np.multiply(i, g, a)
    np.add(tanh_c, a, tanh_c)
    c[...] = tanh_c
    numerics.gates(tanh_c, 0, out=tanh_c)
    np.multiply(o, tanh_c, a)


def _backward(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray, FloatArray, FloatArray],
    a: FloatArray,
    da: FloatArray,
    dstate: list[FloatArray],
    dZ: FloatArray,
    numerics: Numerics,
) -> None:
    gates, c_before, tanh_c = kept
    dc, units, one = dstate[1], len(a), scalar(1, a.dtype)
    i, f, o, g = blocks(gates, units)
    di, df, do, dg = blocks(dZ, units)
    sigmoids, slopes = gates[: 3 * units], dZ[: 3 * units]
    np.subtract(one, sigmoids, slopes)
    np.multiply(slopes, sigmoids, slopes)
    # Through a = o tanh(c); the slope of tanh at c is 1 - tanh(c)**2.
    np.multiply(do, tanh_c, do)
    np.multiply(do, da, do)
    np.multiply(da, o, da)
    np.multiply(tanh_c, tanh_c, dg)  # dg is free until the end
    np.subtract(one, dg, dg)
    np.multiply(da, dg, da)
    np.add(dc, da, dc)
    # Through c = f c_before + i g
    np.multiply(g, g, dg)
    np.subtract(one, dg, dg)
    np.multiply(dg, i, dg)
    np.multiply(dg, dc, dg)
    np.multiply(di, g, di)
    np.multiply(di, dc, di)
    np.multiply(df, c_before, df)
    np.multiply(df, dc, df)
    np.multiply(dc, f, dc)
    dstate[0][...] = numerics.matmul(weights[1], dZ)


_CELL = Cell(
    "lstm",
    gates=4,
    rows=4,
    kept=lambda n, units: (4 * units, units, units),
    forward=_forward,
    backward=_backward,
    state=LstmState,
    learned=Records(LstmLearnedParams, LstmLearnedGrads),
)


def lstm_forward(
    params: RecurrentParams,
    X: FloatArray,
    before: LstmState | None = None,
    context: Context = EVALUATION,
    *,
    reverse: bool = False,
) -> tuple[FloatArray, RecurrentCache]:
    """Compute the outputs of an lstm at each step of sequences.

    Z = W_x x + W_a a_prev + b has rows for the gates i, f and o and for the candidate g. The gates
    are the logistic function of their rows, and g is the tanh of its rows. Then c = f c_prev + i g,
    and a = o tanh(c).

    Args:
        params: Weights W_x (4 units, n) and W_a (4 units, units), and biases b (4 units, 1), with
            the rows of i, f, o and g in this order.
        X: Inputs, shape (T, n, m), with the dtype of W_x.
        before: The state, a and c (units, m), before the first step; None for 0.
        context: The arithmetic, and the lengths of the sequences if they are unequal.
        reverse: Whether to go from the last valid step of each sequence to the first.

    Returns:
        Outputs A, shape (T, units, m), with 0 in the padding; and the cache for `lstm_backward`,
        whose field `after` is the state after the last valid step of each sequence.

    Raises:
        BadInput: If shapes or dtypes do not fit.

    Example:
        >>> from pydnn.stages.lstm import LstmState, lstm_forward
        >>> from pydnn.stages.recurrent import RecurrentParams
        >>> params = RecurrentParams(np.zeros((4, 1)), np.zeros((4, 1)), np.zeros((4, 1)))
        >>> A, cache = lstm_forward(params, np.ones((1, 1, 1)), LstmState([[0.0]], [[1.0]]))
        >>> cache.after.c, A.round(4)  # c = 0.5 * 1 + 0.5 * 0, and a = 0.5 * tanh(0.5)
        (array([[0.5]]), array([[[0.2311]]]))
    """
    return forward_over_steps(_CELL, params, X, before, context, reverse=reverse)


def lstm_backward(
    params: RecurrentParams,
    cache: RecurrentCache,
    dA: FloatArray | None,
    after: LstmState | None = None,
) -> tuple[FloatArray, LstmState, RecurrentGrads]:
    """Compute the gradients for `lstm_forward`.

    Args:
        params: The parameters of the forward pass.
        cache: The cache of the forward pass.
        dA: The gradient of the outputs, (T, units, m), of which padding is ignored; None for 0.
        after: The gradient of the state after the last valid steps; None for 0.

    Returns:
        dX (T, n, m); the gradient of the state before the first step; and those of the parameters.

    Example:
        >>> from pydnn.stages.lstm import lstm_backward, lstm_forward
        >>> from pydnn.stages.recurrent import RecurrentParams
        >>> params = RecurrentParams(np.zeros((4, 1)), np.zeros((4, 1)), np.zeros((4, 1)))
        >>> A, cache = lstm_forward(params, np.ones((1, 1, 1)))
        >>> dX, before, grads = lstm_backward(params, cache, np.ones((1, 1, 1)))
        >>> grads.db.ravel()  # i, f and o do not matter, since g and c are 0
        array([0.  , 0.  , 0.  , 0.25])
    """
    return backward_over_steps(_CELL, params, cache, dA, after)


def lstm_cell_forward(
    params: RecurrentParams,
    x: FloatArray,
    before: LstmState | None = None,
    context: Context = EVALUATION,
) -> tuple[LstmState, RecurrentCache]:
    """Compute one step: the state after the input x (n, m).

    Example:
        >>> from pydnn.stages.lstm import LstmState, lstm_cell_forward
        >>> from pydnn.stages.recurrent import RecurrentParams
        >>> params = RecurrentParams(np.zeros((4, 1)), np.zeros((4, 1)), np.zeros((4, 1)))
        >>> after, cache = lstm_cell_forward(params, np.ones((1, 1)), LstmState([[0.0]], [[1.0]]))
        >>> after.c
        array([[0.5]])
    """
    _, cache = lstm_forward(params, x[np.newaxis], before, context)
    return cache.after, cache


def lstm_cell_backward(
    params: RecurrentParams, cache: RecurrentCache, after: LstmState
) -> tuple[FloatArray, LstmState, RecurrentGrads]:
    """Compute dx (n, m), and the gradients of the state before a step and of the parameters."""
    dX, before, grads = lstm_backward(params, cache, None, after)
    return dX[0], before, grads


@described("stage", drawn_by=["initializer", "recurrent_initializer"])
def lstm(
    units: int,
    *,
    output: str = "all",
    reverse: bool = False,
    initial: str = "zero",
    examples: int | None = None,
    forget_bias: float = 1.0,
    initializer: Initializer = xavier_uniform(),  # noqa: B008 - frozen
    recurrent_initializer: Initializer = orthogonal(),  # noqa: B008 - frozen
) -> Stage[Any, RecurrentCache]:
    """Make a layer with long short-term memory: c = f c_prev + i g and a = o tanh(c) at each step.

    The gates i, f and o and the candidate g each have weights of their own for the input x and for
    the output a_prev of the step before. The rows of the parameters W_x, W_a and b hold i, f, o
    and g in this order. Everything else is as in `rnn`: lengths, reverse, and the state, which is
    a and c here.

    Args:
        units: Number of units, 1 or more.
        output: "all" for a after each step, shape (T, units, m), or "last" for that after the last
            valid step, shape (units, m).
        reverse: Whether to go from the last valid step of each sequence to the first.
        initial: The state before the first step: "zero", "learned" as parameters a_0 and c_0, or
            "carried" from the batch before.
        examples: The number of examples in every batch, for initial="carried" only.
        forget_bias: First bias of the gate f. With 1, the memory starts to fade slowly.
        initializer: How the weights (units, n) of the input are drawn, for each gate.
        recurrent_initializer: How the weights (units, units) of a are drawn, for each gate.

    Raises:
        BadInput: If an option is wrong, or the options do not fit each other. Its functions raise
            it for inputs that do not have shape (T, n, m) and the dtype of the weights.

    References:
        Hochreiter and Schmidhuber, Long short-term memory, 1997; Gers, Schmidhuber and Cummins,
        Learning to forget, 2000, for the gate f; Jozefowicz, Zaremba and Sutskever, An empirical
        exploration of recurrent network architectures, 2015, for its first bias.

    Example:
        >>> stage = nn.lstm(3, output="last")
        >>> params, shape_out = stage.init(nn.Key(0), (5, 2))
        >>> A, cache = stage.forward(params, np.ones((5, 2, 4)), nn.Context())
        >>> params.W_x.shape, A.shape
        ((12, 2), (3, 4))
    """
    hint = "give the first bias of the forget gate, e.g. 1.0"
    forget_bias = expect_real("forget_bias", forget_bias, hint=hint)

    def onnx(params: Any) -> Operator:
        def in_order(rows: FloatArray) -> FloatArray:
            i, f, o, g = blocks(rows, len(rows) // 4)
            return np.concatenate([i, o, f, g])

        b = in_order(params.b)[:, 0]
        b = np.concatenate([b, np.zeros_like(b)])
        return "LSTM", [in_order(params.W_x), in_order(params.W_a), b], {}

    return recurrent_stage(
        _CELL,
        units,
        output=output,
        reverse=reverse,
        initial=initial,
        examples=examples,
        initializer=initializer,
        recurrent_initializer=recurrent_initializer,
        biases={"b": [0.0, forget_bias, 0.0, 0.0]},
        onnx=onnx,
    )
