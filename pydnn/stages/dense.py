"""The dense stage Z = W A_prev + b: its records, its forward, and its backward directly below.

Examples may be columns (n_in, m), or sequences (T, n_in, m), which meet the same W at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.engines import adds_bias
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.parameters import Tree
from pydnn.records import (
    WEIGHTS,
    FloatArray,
    IntArray,
    arrays,
    contiguous,
    freeze,
    maker_of,
    readonly,
)
from pydnn.sequences import columns_of_steps, expect_features_of_steps, steps_of_columns
from pydnn.stages.base import EVALUATION, Context, Shape, Stage
from pydnn.stages.initializers import Initializer, he_normal

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "DenseCache",
    "DenseGrads",
    "DenseParams",
    "DenseStepsCache",
    "dense",
    "dense_backward",
    "dense_backward_into",
    "dense_forward",
    "dense_onnx",
]

_MOST_WEIGHTS = 1 << 48  # 2 PiB of float64: a file may claim any size


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DenseParams:
    """Weights W (n_out, n_in) and bias b (n_out, 1), which broadcasts over examples.

    Raises:
        BadInput: If W is not a matrix, or b does not have one row per row of W.
    """

    W: FloatArray = attrs.field(metadata=WEIGHTS)
    b: FloatArray

    def __attrs_post_init__(self) -> None:
        if self.b.shape != (*self.W.shape[:1], 1) or self.W.ndim != 2:
            expect_shape("W", self.W, ("n_out", "n_in"), hint="give one row of weights per unit")
            expect_shape("b", self.b, (len(self.W), 1), hint="give one bias per row of W")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DenseGrads:
    """Gradients dW (n_out, n_in) and db (n_out, 1) of the cost."""

    dW: FloatArray
    db: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DenseCache:
    """What the backward pass needs: A_prev, and the arithmetic of the forward pass."""

    A_prev: FloatArray
    numerics: Numerics


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DenseStepsCache(DenseCache):
    """The cache of sequences: A_prev (T, n_in, m), or its valid steps as columns (n_in, N).

    Attributes:
        lengths: The number of valid steps of each sequence; None if all steps are valid.
    """

    lengths: IntArray | None = attrs.field(default=None, eq=False)


_cache = maker_of(DenseCache)  # saves 0.2 us of the 4 us that a small forward pass takes


def _product(
    params: DenseParams, A_prev: FloatArray, context: Context
) -> tuple[FloatArray, FloatArray, DenseCache]:
    """Return W A_prev as a new array, the bias to add to it, and the cache."""
    numerics, W = context.numerics, params.W
    if context.lengths is not None:
        expect_features_of_steps("dense", A_prev)
    if A_prev.ndim != 2 or len(A_prev) != W.shape[1]:
        n_in = W.shape[1]
        hint = "put the features of an example in a column, e.g. pass X.T"
        if A_prev.ndim == 2 and len(A_prev) > n_in != A_prev.shape[1]:  # X.T does not fit either
            hint = (
                "give the features that the parameters were trained on, or first lift the "
                "parameters of a rotated job with job.inputs.lift(…)"
            )
        expect_shape("A_prev", A_prev, (n_in, "m"), hint=hint)
    # Native dtypes are singletons, so `is` settles the usual case without a comparison.
    if A_prev.dtype is not W.dtype:
        expect_same_dtype("A_prev", A_prev, W.dtype)
    P = numerics.matmul(W, A_prev)
    if A_prev.flags.writeable:
        A_prev = readonly(A_prev)
    return P, params.b, _cache(A_prev, numerics)


@adds_bias(_product)
def dense_forward(
    params: DenseParams, A_prev: FloatArray, context: Context = EVALUATION
) -> tuple[FloatArray, DenseCache]:
    """Compute Z = W A_prev + b for a batch.

    Args:
        params: Weights W (n_out, n_in) and bias b (n_out, 1).
        A_prev: Inputs, shape (n_in, m), or (T, n_in, m) for sequences, with the dtype of W.
        context: The arithmetic to use.

    Returns:
        Pre-activations Z, shape (n_out, m) or (T, n_out, m), and the cache for `dense_backward`.

    Raises:
        BadInput: If A_prev does not have n_in rows, or its dtype is not that of W.

    Example:
        >>> from pydnn.stages.dense import DenseParams, dense_forward
        >>> params = DenseParams(W=[[1.0, 2.0]], b=[[0.5]])
        >>> Z, cache = dense_forward(params, np.array([[3.0], [4.0]]))
        >>> Z
        array([[11.5]])
    """
    if A_prev.ndim == 3:
        return _forward_of_steps(params, A_prev, context)
    Z, b, cache = _product(params, A_prev, context)
    Z += b
    return freeze(Z), cache


def dense_backward(
    params: DenseParams, cache: DenseCache, dZ: FloatArray
) -> tuple[FloatArray, DenseGrads]:
    """Compute dA_prev and the gradients dW and db from dZ, which have the shapes of A_prev and Z.

    Example:
        >>> from pydnn.stages.dense import DenseParams, dense_backward, dense_forward
        >>> params = DenseParams(W=[[1.0, 2.0]], b=[[0.5]])
        >>> Z, cache = dense_forward(params, np.array([[3.0], [4.0]]))
        >>> dA_prev, grads = dense_backward(params, cache, np.array([[1.0]]))
        >>> grads.dW
        array([[3., 4.]])
    """
    # No division by m: the loss owns the mean, so dZ arrives already scaled.
    numerics = cache.numerics
    if dZ.ndim == 3:
        assert isinstance(cache, DenseStepsCache)
        dW, db = (np.empty(a.shape, a.dtype) for a in (params.W, params.b))
        dA_prev = _backward_of_steps(params, cache, dZ, (dW, db), True)
        assert dA_prev is not None
        return dA_prev, DenseGrads(freeze(dW), freeze(db))
    dW, db = numerics.matmul(dZ, cache.A_prev.T), numerics.sum(dZ, axis=1)
    return freeze(numerics.matmul(params.W.T, dZ)), DenseGrads(freeze(dW), freeze(db))


def dense_backward_into(
    params: DenseParams,
    cache: DenseCache,
    dZ: FloatArray,
    out: tuple[FloatArray, FloatArray],
    needs_dA_prev: bool,
) -> FloatArray | None:
    """Do the same as `dense_backward`, but write dW and db into the arrays of `out`.

    Returns:
        dA_prev, or None if `needs_dA_prev` is False, which saves the first layer of a network one
        of its three products.
    """
    numerics = cache.numerics
    if dZ.ndim == 3:
        assert isinstance(cache, DenseStepsCache)
        return _backward_of_steps(params, cache, dZ, out, needs_dA_prev)
    numerics.matmul(dZ, cache.A_prev.T, out=out[0])
    numerics.sum(dZ, axis=1, out=out[1])
    return freeze(numerics.matmul(params.W.T, dZ)) if needs_dA_prev else None


def _forward_of_steps(
    params: DenseParams, A_prev: FloatArray, context: Context
) -> tuple[FloatArray, DenseCache]:
    numerics, W = context.numerics, params.W
    if A_prev.shape[1] != W.shape[1]:
        hint = "put the features of a step on the axis before the examples"
        expect_shape("A_prev", A_prev, ("T", W.shape[1], "m"), hint=hint)
    expect_same_dtype("A_prev", A_prev, W.dtype)
    lengths = context.lengths
    if lengths is not None:  # each valid step becomes an example of its own
        alone = attrs.evolve(context, lengths=None)
        Z, cache = dense_forward(params, freeze(columns_of_steps(A_prev, lengths)), alone)
        shape = (len(A_prev), len(W), A_prev.shape[2])
        steps = freeze(steps_of_columns(Z, shape, lengths))
        return steps, DenseStepsCache(cache.A_prev, numerics, lengths)
    # BLAS takes each step as it is if its examples lie one after the other.
    A_prev = contiguous(A_prev)
    Z = numerics.matmul(W, A_prev)
    Z += params.b
    return freeze(Z), DenseStepsCache(A_prev, numerics)


def _backward_of_steps(
    params: DenseParams,
    cache: DenseStepsCache,
    dZ: FloatArray,
    out: tuple[FloatArray, FloatArray],
    needs_dA_prev: bool,
) -> FloatArray | None:
    numerics, lengths = cache.numerics, cache.lengths
    if lengths is not None:
        columns = freeze(columns_of_steps(dZ, lengths))
        dA_prev = dense_backward_into(params, cache, columns, out, needs_dA_prev)
        shape = (len(dZ), params.W.shape[1], dZ.shape[2])
        return None if dA_prev is None else freeze(steps_of_columns(dA_prev, shape, lengths))
    dZ = contiguous(dZ)
    numerics.summed_matmul(dZ, cache.A_prev.swapaxes(1, 2), out=out[0])
    numerics.sum(dZ, axis=(0, 2), out=out[1][np.newaxis])
    return freeze(numerics.matmul(params.W.T, dZ)) if needs_dA_prev else None


def dense_onnx(params: DenseParams, A_prev: Value, statistics: Tree) -> Value:
    """Write the affine map as operators of ONNX, with examples along the first axis."""
    if len(A_prev.shape) == 2:
        return A_prev.op("MatMul", params.W.T).op("Add", params.b[:, 0])
    return A_prev.op("Gemm", params.W, params.b[:, 0], transB=1)


@described("stage", drawn_by=["initializer"])
def dense(units: int, *, initializer: Initializer = he_normal()) -> Stage[DenseParams, DenseCache]:  # noqa: B008 - frozen
    """Make a fully connected layer Z = W A_prev + b of `units` units.

    Sequences (T, n_in) become (T, units), with the same W and b at every step, and T may differ
    from batch to batch. Steps beyond the length of a sequence become 0.

    Args:
        units: Number of outputs n_out, 1 or more.
        initializer: How the weights W (n_out, n_in) are drawn; the biases start at 0.

    Raises:
        BadInput: If `units` is not a whole number above 0. Its functions raise it for inputs that
            do not have shape (n_in, m) or (T, n_in, m), and the dtype of W.

    Example:
        >>> params, shape_out = nn.dense(20, initializer=nn.xavier_normal()).init(nn.Key(0), (64,))
        >>> params
        DenseParams(W=float64 (20, 64), b=float64 (20, 1))
    """
    units = expect_count("units", units, hint="give the layer one unit or more")

    def init(key: Key, shape_in: Shape) -> tuple[DenseParams, Shape]:
        if len(shape_in) not in (1, 2):
            raise BadInput(
                f"examples have shape {shape_in}, expected (n_in,), or (T, n_in) for sequences: "
                f"flatten them first, or use conv({units}, 1) for a dense layer at each place."
            )
        *steps, n_in = shape_in
        if units * n_in > _MOST_WEIGHTS:
            raise BadInput(
                f"{units} units of {n_in} inputs have {units * n_in} weights, "
                "more than any machine holds: give fewer units."
            )
        # A broadcast 0 takes no memory, however many units a file may claim.
        W = initializer.draw(key.at("W"), (units, n_in))
        return DenseParams(W, np.broadcast_to(0.0, (units, 1))), (*steps, units)

    return Stage(
        "dense",
        init,
        dense_forward,
        dense_backward,
        backward_into=dense_backward_into,
        affine=True,
        lengths="kept",
        gradients=DenseGrads,
        onnx=dense_onnx,
    )
