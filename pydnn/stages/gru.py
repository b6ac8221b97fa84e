"""The gated recurrent unit: a = z a_prev + (1 - z) h, where a gate z keeps a part of the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known, expect_shape
from pydnn.descriptions.builders import described
from pydnn.numerics import Numerics
from pydnn.records import FloatArray, arrays, scalar
from pydnn.stages.base import EVALUATION, Context, Stage
from pydnn.stages.initializers import Initializer, orthogonal, xavier_uniform
from pydnn.stages.recurrent import (
    Cell,
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
    joined,
    recurrent_stage,
    split,
)

__all__ = [
    "GruGrads",
    "GruLearnedGrads",
    "GruLearnedParams",
    "GruParams",
    "gru",
    "gru_backward",
    "gru_cell_backward",
    "gru_cell_forward",
    "gru_forward",
]

_RESETS = ("after", "before")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class GruParams(RecurrentParams):
    """As `RecurrentParams`, and a bias b_a (units, 1), which the reset gate multiplies, too."""

    b_a: FloatArray

    def __attrs_post_init__(self) -> None:
        RecurrentParams.__attrs_post_init__(self)
        shape = (self.W_a.shape[1], 1)
        expect_shape("b_a", self.b_a, shape, hint="give one bias per unit")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class GruGrads(RecurrentGrads):
    """Gradients of the parameters in `GruParams`; db_a is (units, 1)."""

    db_a: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class GruLearnedParams(GruParams):
    """As `GruParams`, and the learned state before the first step, a_0 (units, 1)."""

    a_0: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class GruLearnedGrads(GruGrads):
    """As `GruGrads`, and the gradient da_0 (units, 1)."""

    da_0: FloatArray


# Reset after the product: h = tanh(W_x x + b + r (W_a a_prev + b_a)), with the rows of h. The kept
# array holds h, z, r and the product W_a a_prev + b_a of the rows of h, one below the other, so
# that the gradients of the first three go back to x, and those of the last three to a_prev.


def _weights_after(params: GruParams) -> Weights:
    units = params.W_a.shape[1]
    z_and_r, h = np.s_[: 2 * units], np.s_[2 * units :]
    return (
        joined(params)[z_and_r],
        np.concatenate([params.W_x[h], params.b[h]], axis=1),
        np.concatenate([params.b_a, params.W_a[h]], axis=1),
    )


def _forward_after(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray],
    state: list[FloatArray],
    a: FloatArray,
    numerics: Numerics,
) -> None:
    (gates,), (units, n) = kept, (len(a), weights[1].shape[1] - 1)
    h, z, r, product = blocks(gates, units)
    z_and_r = gates[units : 3 * units]
    numerics.matmul(weights[0], operand, out=z_and_r)
    numerics.gates(z_and_r, 2 * units, out=z_and_r)
    numerics.matmul(weights[1], operand[: n + 1], out=h)
    numerics.matmul(weights[2], operand[n:], out=product)
    np.multiply(r, product, a)
    np.add(h, a, h)
    numerics.gates(h, 0, out=h)
    _mixed(z, h, state[0], a)


def _mixed(z: FloatArray, h: FloatArray, before: FloatArray, a: FloatArray) -> None:
    """Fill `a` with z before + (1 - z) h."""
    np.subtract(before, h, a)
    np.multiply(z, a, a)
    np.add(h, a, a)


def _backward_after(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray],
    a: FloatArray,
    da: FloatArray,
    dstate: list[FloatArray],
    dZ: FloatArray,
    numerics: Numerics,
) -> None:
    (gates,), units = kept, len(a)
    h, z, r, product = blocks(gates, units)
    dh, _, dr, dproduct = blocks(dZ, units)
    _through_gates(gates[units : 3 * units], h, z, operand, da, dh, dZ[units : 3 * units])
    np.multiply(dr, product, dr)
    np.multiply(dr, dh, dr)
    np.multiply(dh, r, dproduct)
    np.multiply(da, z, da)
    np.add(numerics.matmul(weights[1], dZ[units:]), da, dstate[0])


def _through_gates(
    sigmoids: FloatArray,
    h: FloatArray,
    z: FloatArray,
    operand: FloatArray,
    da: FloatArray,
    dh: FloatArray,
    dsigmoids: FloatArray,
) -> None:
    """Fill dh and dz with gradients of pre-activations, and dr with the slope r (1 - r) of r."""
    one, units = scalar(1, h.dtype), len(h)
    before, dz = operand[-units:], dsigmoids[:units]
    np.subtract(one, sigmoids, dsigmoids)
    np.multiply(dsigmoids, sigmoids, dsigmoids)
    np.subtract(before, h, dh)
    np.multiply(dz, dh, dz)
    np.multiply(dz, da, dz)
    np.multiply(h, h, dh)
    np.subtract(one, dh, dh)
    np.multiply(dh, da, dh)
    np.multiply(dh, one - z, dh)


def _gradients_after(
    product: Callable[..., FloatArray], n: int, units: int
) -> dict[str, FloatArray]:
    blocks = [np.s_[k * units : (k + 1) * units] for k in range(4)]
    z_and_r = product(np.s_[units : 3 * units], np.s_[:])
    h = product(blocks[0], np.s_[: n + 1])
    recurrent = product(blocks[3], np.s_[n:])
    return {
        "dW_x": np.concatenate([z_and_r[:, :n], h[:, :n]]),
        "dW_a": np.concatenate([z_and_r[:, n + 1 :], recurrent[:, 1:]]),
        "db": np.concatenate([z_and_r[:, n : n + 1], h[:, n:]]),
        "db_a": recurrent[:, :1],
    }


# Reset before the product: h = tanh(W_x x + W_a (r a_prev) + b), with the rows of h. The kept
# arrays hold h, z and r, and the operand [x; 1; r a_prev].


def _weights_before(params: RecurrentParams) -> Weights:
    weights, units = joined(params), params.W_a.shape[1]
    return weights[: 2 * units], weights[2 * units :]


def _forward_before(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray, FloatArray],
    state: list[FloatArray],
    a: FloatArray,
    numerics: Numerics,
) -> None:
    (gates, reset), units = kept, len(a)
    h, z, r = blocks(gates, units)
    z_and_r = gates[units:]
    numerics.matmul(weights[0], operand, out=z_and_r)
    numerics.gates(z_and_r, 2 * units, out=z_and_r)
    reset[:-units] = operand[:-units]
    np.multiply(r, state[0], reset[-units:])
    numerics.matmul(weights[1], reset, out=h)
    numerics.gates(h, 0, out=h)
    _mixed(z, h, state[0], a)


def _backward_before(
    weights: Weights,
    operand: FloatArray,
    kept: tuple[FloatArray, FloatArray],
    a: FloatArray,
    da: FloatArray,
    dstate: list[FloatArray],
    dZ: FloatArray,
    numerics: Numerics,
) -> None:
    (gates, _), units = kept, len(a)
    h, z, r = blocks(gates, units)
    dh, _, dr = blocks(dZ, units)
    _through_gates(gates[units:], h, z, operand, da, dh, dZ[units:])
    dreset = numerics.matmul(weights[2], dh)
    np.multiply(dr, operand[-units:], dr)
    np.multiply(dr, dreset, dr)
    np.multiply(da, z, da)
    np.multiply(dreset, r, dreset)
    np.add(da, dreset, da)
    np.add(numerics.matmul(weights[1], dZ[units:]), da, dstate[0])


def _gradients_before(
    product: Callable[..., FloatArray], n: int, units: int
) -> dict[str, FloatArray]:
    z_and_r = product(np.s_[units:], np.s_[:])
    h = product(np.s_[:units], np.s_[:], 2)
    return split(np.concatenate([z_and_r, h]), n)


def _weights_back_after(params: GruParams) -> Weights:
    return _as_kept(params.W_x), params.W_a.T


def _weights_back_before(params: RecurrentParams) -> Weights:
    units = params.W_a.shape[1]
    return _as_kept(params.W_x), params.W_a[: 2 * units].T, params.W_a[2 * units :].T


def _as_kept(W_x: FloatArray) -> FloatArray:
    """Return the transpose of W_x with h first, as in the kept gates."""
    return np.roll(W_x, len(W_x) // 3, axis=0).T


_CELLS = {
    "after": Cell(
        "gru",
        gates=3,
        rows=4,
        kept=lambda n, units: (4 * units,),
        forward=_forward_after,
        backward=_backward_after,
        weights=_weights_after,
        weights_back=_weights_back_after,
        gradients=_gradients_after,
        records=Records(GruParams, GruGrads),
        learned=Records(GruLearnedParams, GruLearnedGrads),
    ),
    "before": Cell(
        "gru",
        gates=3,
        rows=3,
        kept=lambda n, units: (3 * units, n + 1 + units),
        forward=_forward_before,
        backward=_backward_before,
        weights=_weights_before,
        weights_back=_weights_back_before,
        gradients=_gradients_before,
    ),
}


def _cell(reset: str) -> Cell:
    expect_known("reset", reset, _RESETS)
    return _CELLS[reset]


def gru_forward(
    params: RecurrentParams,
    X: FloatArray,
    before: State | None = None,
    context: Context = EVALUATION,
    *,
    reverse: bool = False,
    reset: str = "after",
) -> tuple[FloatArray, RecurrentCache]:
    """Compute a = z a_prev + (1 - z) h at each step of sequences.

    The gates z and r are the logistic function of their rows of W_x x + W_a a_prev + b. With their
    own rows, h = tanh(W_x x + b + r (W_a a_prev + b_a)), or tanh(W_x x + b + W_a (r a_prev)) with
    reset="before".

    Args:
        params: Weights W_x (3 units, n) and W_a (3 units, units), and biases b (3 units, 1), with
            the rows of z, r and h in this order; `GruParams` with reset="after".
        X: Inputs, shape (T, n, m), with the dtype of W_x.
        before: The state a (units, m) before the first step; None for 0.
        context: The arithmetic, and the lengths of the sequences if they are unequal.
        reverse: Whether to go from the last valid step of each sequence to the first.
        reset: Whether the gate r multiplies the product with W_a ("after") or a_prev ("before").

    Returns:
        Outputs A, shape (T, units, m), with 0 in the padding; and the cache for `gru_backward`,
        whose field `after` is the state after the last valid step of each sequence.

    Raises:
        BadInput: If shapes or dtypes do not fit, or `reset` is neither of these.

    Example:
        >>> from pydnn.stages.gru import GruParams, gru_forward
        >>> from pydnn.stages.recurrent import State
        >>> params = GruParams(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros((3, 1)), [[2.0]])
        >>> A, cache = gru_forward(params, np.ones((1, 1, 1)), State([[1.0]]))
        >>> A.round(4)  # z = r = 0.5, h = tanh(0.5 * 2), and a = 0.5 * 1 + 0.5 * 0.7616
        array([[[0.8808]]])
    """
    cell = _cell(reset)
    if isinstance(params, GruParams) != (reset == "after"):
        expected = cell.records.params.__name__
        raise BadInput(
            f"parameters are {type(params).__name__}, expected {expected} for reset {reset!r}: "
            "give b_a for reset 'after' alone."
        )
    return forward_over_steps(cell, params, X, before, context, reverse=reverse)


def gru_backward(
    params: RecurrentParams,
    cache: RecurrentCache,
    dA: FloatArray | None,
    after: State | None = None,
    *,
    reset: str = "after",
) -> tuple[FloatArray, State, RecurrentGrads]:
    """Compute the gradients for `gru_forward`.

    Args:
        params: The parameters of the forward pass.
        cache: The cache of the forward pass.
        dA: The gradient of the outputs, (T, units, m), of which padding is ignored; None for 0.
        after: The gradient of the state after the last valid steps; None for 0.
        reset: The `reset` of the forward pass.

    Returns:
        dX (T, n, m); the gradient of the state before the first step; and those of the parameters.

    Example:
        >>> from pydnn.stages.gru import GruParams, gru_backward, gru_forward
        >>> params = GruParams(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros((3, 1)), [[0.0]])
        >>> A, cache = gru_forward(params, np.ones((1, 1, 1)))
        >>> dX, before, grads = gru_backward(params, cache, np.ones((1, 1, 1)))
        >>> before.a, grads.db.ravel()  # through z, and through (1 - z) h
        (array([[0.5]]), array([0. , 0. , 0.5]))
    """
    return backward_over_steps(_cell(reset), params, cache, dA, after)


def gru_cell_forward(
    params: RecurrentParams,
    x: FloatArray,
    before: State | None = None,
    context: Context = EVALUATION,
    *,
    reset: str = "after",
) -> tuple[State, RecurrentCache]:
    """Compute one step: the state after the input x (n, m).

    Example:
        >>> from pydnn.stages.gru import GruParams, gru_cell_forward
        >>> from pydnn.stages.recurrent import State
        >>> params = GruParams(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros((3, 1)), [[2.0]])
        >>> after, cache = gru_cell_forward(params, np.ones((1, 1)), State([[1.0]]))
        >>> after.a.round(4)
        array([[0.8808]])
    """
    _, cache = gru_forward(params, x[np.newaxis], before, context, reset=reset)
    return cache.after, cache


def gru_cell_backward(
    params: RecurrentParams, cache: RecurrentCache, after: State, *, reset: str = "after"
) -> tuple[FloatArray, State, RecurrentGrads]:
    """Compute dx (n, m), and the gradients of the state before a step and of the parameters."""
    dX, before, grads = gru_backward(params, cache, None, after, reset=reset)
    return dX[0], before, grads


@described("stage", drawn_by=["initializer", "recurrent_initializer"])
def gru(
    units: int,
    *,
    output: str = "all",
    reverse: bool = False,
    initial: str = "zero",
    examples: int | None = None,
    reset: str = "after",
    initializer: Initializer = xavier_uniform(),  # noqa: B008 - frozen
    recurrent_initializer: Initializer = orthogonal(),  # noqa: B008 - frozen
) -> Stage[Any, RecurrentCache]:
    """Make a layer of gated recurrent units: a = z a_prev + (1 - z) h at each step.

    The gates z and r and the candidate h each have weights of their own for the input x and for the
    state a_prev. The rows of the parameters W_x, W_a and b hold z, r and h in this order. See
    `gru_forward` for the formulas. Everything else is as in `rnn`: lengths, reverse and the state.

    Args:
        units: Number of units, 1 or more.
        output: "all" for the state after each step, shape (T, units, m), or "last" for that after
            the last valid step, shape (units, m).
        reverse: Whether to go from the last valid step of each sequence to the first.
        initial: The state before the first step: "zero", "learned" as a parameter a_0, or "carried"
            from the batch before.
        examples: The number of examples in every batch, for initial="carried" only.
        reset: Whether the gate r multiplies the product of W_a and the state ("after", with a bias
            b_a of its own, as in PyTorch and Keras), or the state before the product ("before", as
            in the paper).
        initializer: How the weights (units, n) of the input are drawn, for each gate.
        recurrent_initializer: How the weights (units, units) of the state are drawn, for each
            gate; the biases start at 0.

    Raises:
        BadInput: If an option is wrong, or the options do not fit each other. Its functions raise
            it for inputs that do not have shape (T, n, m) and the dtype of the weights.

    References:
        Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
        machine translation, 2014, for reset="before".

    Example:
        >>> stage = nn.gru(3, output="last")
        >>> params, shape_out = stage.init(nn.Key(0), (5, 2))
        >>> A, cache = stage.forward(params, np.ones((5, 2, 4)), nn.Context())
        >>> params.W_x.shape, A.shape
        ((9, 2), (3, 4))
    """
    is_after = reset == "after"

    def onnx(params: Any) -> Operator:
        b, units = params.b[:, 0], params.W_a.shape[1]
        b_a = params.b_a[:, 0] if is_after else np.zeros_like(b[:units])
        b = np.concatenate([b, np.zeros_like(b[units:]), b_a])
        return "GRU", [params.W_x, params.W_a, b], {"linear_before_reset": int(is_after)}

    return recurrent_stage(
        _cell(reset),
        units,
        output=output,
        reverse=reverse,
        initial=initial,
        examples=examples,
        initializer=initializer,
        recurrent_initializer=recurrent_initializer,
        biases={"b": [0.0] * 3} | ({"b_a": [0.0]} if is_after else {}),
        onnx=onnx,
    )
