"""The plain recurrent stage: a = tanh(W_x x + W_a a_prev + b) at each step."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pydnn.checks import expect_known
from pydnn.descriptions.builders import described
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, scalar
from pydnn.stages.base import EVALUATION, Context, Stage
from pydnn.stages.initializers import Initializer, orthogonal, xavier_uniform
from pydnn.stages.recurrent import (
    Cell,
    Operator,
    RecurrentCache,
    RecurrentGrads,
    RecurrentParams,
    State,
    Weights,
    backward_over_steps,
    forward_over_steps,
    recurrent_stage,
)

__all__ = ["rnn", "rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward"]

_ACTIVATIONS = ("tanh", "relu")


@functools.cache
def _cell(activation: str) -> Cell:
    expect_known("activation", activation, _ACTIVATIONS)
    is_tanh = activation == "tanh"

    def forward(
        weights: Weights,
        operand: FloatArray,
        kept: tuple[()],
        state: list[FloatArray],
        a: FloatArray,
        numerics: Numerics,
    ) -> None:
        Z = numerics.matmul(weights[0], operand, out=a)
        a[...] = numerics.tanh(Z) if is_tanh else numerics.positive_part(Z)

    def backward(
        weights: Weights,
        operand: FloatArray,
        kept: tuple[()],
        a: FloatArray,
        da: FloatArray,
        dstate: list[FloatArray],
        dZ: FloatArray,
        numerics: Numerics,
    ) -> None:
        if is_tanh:
            np.multiply(a, a, dZ)
            np.subtract(scalar(1, a.dtype), dZ, dZ)
            np.multiply(dZ, da, dZ)
        else:
            np.multiply(da, a > 0, dZ)
        dstate[0][...] = numerics.matmul(weights[1], dZ)

    return Cell(
        "rnn", gates=1, rows=1, kept=lambda n, units: (), forward=forward, backward=backward
    )


def rnn_forward(
    params: RecurrentParams,
    X: FloatArray,
    before: State | None = None,
    context: Context = EVALUATION,
    *,
    reverse: bool = False,
    activation: str = "tanh",
) -> tuple[FloatArray, RecurrentCache]:
    """Compute a = tanh(W_x x + W_a a_prev + b) at each step of sequences.

    Args:
        params: Weights W_x (units, n) and W_a (units, units), and biases b (units, 1).
        X: Inputs, shape (T, n, m), with the dtype of W_x.
        before: The state a (units, m) before the first step; None for 0.
        context: The arithmetic, and the lengths of the sequences if they are unequal.
        reverse: Whether to go from the last valid step of each sequence to the first.
        activation: "tanh" or "relu".

    Returns:
        Outputs A, shape (T, units, m), with 0 in the padding; and the cache for `rnn_backward`,
        whose field `after` is the state after the last valid step of each sequence.

    Raises:
        BadInput: If shapes or dtypes do not fit.

    Example:
        >>> from pydnn.stages.recurrent import RecurrentParams, State
        >>> from pydnn.stages.rnn import rnn_forward
        >>> params = RecurrentParams(W_x=[[1.0]], W_a=[[-1.0]], b=[[0.5]])
        >>> A, cache = rnn_forward(params, np.array([[[1.0]], [[0.0]]]), State([[1.0]]))
        >>> A.ravel().round(4)  # tanh(1 - 1 + 0.5) and tanh(0 - 0.4621 + 0.5)
        array([0.4621, 0.0379])
    """
    cell = _cell(activation)
    return forward_over_steps(cell, params, X, before, context, reverse=reverse)


def rnn_backward(
    params: RecurrentParams,
    cache: RecurrentCache,
    dA: FloatArray | None,
    after: State | None = None,
    *,
    activation: str = "tanh",
) -> tuple[FloatArray, State, RecurrentGrads]:
    """Compute the gradients for `rnn_forward`.

    Args:
        params: The parameters of the forward pass.
        cache: The cache of the forward pass.
        dA: The gradient of the outputs, (T, units, m), of which padding is ignored; None for 0.
        after: The gradient of the state after the last valid steps; None for 0.
        activation: The activation of the forward pass.

    Returns:
        dX (T, n, m); the gradient of the state before the first step; and those of the parameters.

    Example:
        >>> from pydnn.stages.recurrent import RecurrentParams
        >>> from pydnn.stages.rnn import rnn_backward, rnn_forward
        >>> params = RecurrentParams(W_x=[[2.0]], W_a=[[1.0]], b=[[0.0]])
        >>> A, cache = rnn_forward(params, np.zeros((1, 1, 1)))
        >>> dX, before, grads = rnn_backward(params, cache, np.ones((1, 1, 1)))
        >>> dX, before.a, grads.db
        (array([[[2.]]]), array([[1.]]), array([[1.]]))
    """
    return backward_over_steps(_cell(activation), params, cache, dA, after)


def rnn_cell_forward(
    params: RecurrentParams,
    x: FloatArray,
    before: State | None = None,
    context: Context = EVALUATION,
    *,
    activation: str = "tanh",
) -> tuple[State, RecurrentCache]:
    """Compute one step: the state after the input x (n, m).

    Example:
        >>> from pydnn.stages.recurrent import RecurrentParams, State
        >>> from pydnn.stages.rnn import rnn_cell_forward
        >>> params = RecurrentParams(W_x=[[1.0]], W_a=[[-1.0]], b=[[0.5]])
        >>> after, cache = rnn_cell_forward(params, np.array([[1.0]]), State([[1.0]]))
        >>> after.a.round(4)
        array([[0.4621]])
    """
    _, cache = rnn_forward(params, x[np.newaxis], before, context, activation=activation)
    return cache.after, cache


def rnn_cell_backward(
    params: RecurrentParams, cache: RecurrentCache, after: State, *, activation: str = "tanh"
) -> tuple[FloatArray, State, RecurrentGrads]:
    """Compute dx (n, m), and the gradients of the state before a step and of the parameters."""
    dX, before, grads = rnn_backward(params, cache, None, after, activation=activation)
    return dX[0], before, grads


@described("stage", drawn_by=["initializer", "recurrent_initializer"])
def rnn(
    units: int,
    *,
    output: str = "all",
    reverse: bool = False,
    initial: str = "zero",
    examples: int | None = None,
    activation: str = "tanh",
    initializer: Initializer = xavier_uniform(),  # noqa: B008 - frozen
    recurrent_initializer: Initializer = orthogonal(),  # noqa: B008 - frozen
) -> Stage[Any, RecurrentCache]:
    """Make a plain recurrent layer: a = tanh(W_x x + W_a a_prev + b) at each step.

    It takes sequences (T, n, m) of any number T of steps, and returns its state a after each step,
    or after the last one. Sequences of unequal length need `Batch.lengths`: padded steps are
    skipped.

    With initial="carried", training continues with the state at the end of the batch before, while
    no gradient goes back into it: this is truncated backpropagation through time, if consecutive
    windows of long sequences are consecutive batches. The state is part of `TrainState`. Outside of
    training, the state starts at 0.

    Args:
        units: Number of units, 1 or more.
        output: "all" for the state after each step, shape (T, units, m), or "last" for that after
            the last valid step, shape (units, m).
        reverse: Whether to go from the last valid step of each sequence to the first.
        initial: The state before the first step: "zero", "learned" as a parameter a_0, or "carried"
            from the batch before.
        examples: The number of examples in every batch, for initial="carried" only.
        activation: "tanh" or "relu".
        initializer: How the weights W_x (units, n) of the input are drawn.
        recurrent_initializer: How the weights W_a (units, units) of the state are drawn; the biases
            start at 0.

    Raises:
        BadInput: If an option is wrong, or the options do not fit each other. Its functions raise
            it for inputs that do not have shape (T, n, m) and the dtype of the weights.

    References:
        Elman, Finding structure in time, 1990; Williams and Peng, An efficient gradient-based
        algorithm for on-line training of recurrent network trajectories, 1990, for truncation.

    Example:
        >>> stage = nn.rnn(3)
        >>> params, shape_out = stage.init(nn.Key(0), (5, 2))
        >>> A, cache = stage.forward(params, np.ones((5, 2, 4)), nn.Context())
        >>> shape_out, A.shape
        ((5, 3), (5, 3, 4))

        A long sequence, in windows whose state is carried on:

        >>> carried = nn.rnn(3, initial="carried", examples=4)
        >>> X, state, outputs = np.ones((6, 2, 4)), carried.statistics.init(params), []
        >>> for window in np.split(X, 3):
        ...     context = nn.Context(training=True, statistics=state)
        ...     A, cache = carried.forward(params, window, context)
        ...     state = carried.statistics.absorb(state, cache)
        ...     outputs.append(A)
        >>> whole, _ = stage.forward(params, X, nn.Context())
        >>> np.array_equal(np.concatenate(outputs), whole)
        True
    """

    def onnx(params: Any) -> Operator:
        b = params.b[:, 0]
        arrays = [params.W_x, params.W_a, np.concatenate([b, np.zeros_like(b)])]
        return "RNN", arrays, {"activations": (activation.capitalize(),)}

    return recurrent_stage(
        _cell(activation),
        units,
        output=output,
        reverse=reverse,
        initial=initial,
        examples=examples,
        initializer=initializer,
        recurrent_initializer=recurrent_initializer,
        biases={"b": [0.0]},
        onnx=onnx,
    )
