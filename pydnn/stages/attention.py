"""Self-attention: each step of a sequence takes a weighted mean of all steps.

The steps of all examples are the columns of one matrix (n, N), so the four affine maps are products
of two matrices. In it, the steps of one example are neighbors, and examples of one length lie side
by side. So the scores of each example and head are products of its own columns, read in place, and
padding is not a column at all: it costs nothing and cannot leak.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count, expect_flag, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.memory import empty
from pydnn.parameters import Tree
from pydnn.records import WEIGHTS, FloatArray, IntArray, arrays, freeze
from pydnn.stages.base import Context, Shape, Stage
from pydnn.stages.initializers import Initializer, xavier_normal

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "AttentionCache",
    "AttentionGrads",
    "AttentionParams",
    "Group",
    "attention",
    "attention_backward",
    "attention_forward",
]

_MOST_WEIGHTS = 1 << 48  # 2 PiB of float64: a file may claim any size
_SCORES = 1 << 16  # computed at a time, few enough to stay in cache: 1.3 to 1.7 times faster


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AttentionParams:
    """The weights and biases of the four affine maps.

    Keys have no bias: it would add the same number to all scores of a mean, which changes no share.

    Attributes:
        W_q: Weights of the queries, (units, n).
        W_k: Weights of the keys, (units, n).
        W_v: Weights of the values, (units, n).
        W_o: Weights of the output, (n, units).
        b_q: Biases of the queries, (units, 1).
        b_v: Biases of the values, (units, 1).
        b_o: Biases of the output, (n, 1).
    """

    W_q: FloatArray = attrs.field(metadata=WEIGHTS)
    W_k: FloatArray = attrs.field(metadata=WEIGHTS)
    W_v: FloatArray = attrs.field(metadata=WEIGHTS)
    W_o: FloatArray = attrs.field(metadata=WEIGHTS)
    b_q: FloatArray
    b_v: FloatArray
    b_o: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AttentionGrads:
    """The gradients of the cost, each with the shape of its parameter."""

    dW_q: FloatArray
    dW_k: FloatArray
    dW_v: FloatArray
    dW_o: FloatArray
    db_q: FloatArray
    db_v: FloatArray
    db_o: FloatArray


@attrs.frozen(eq=False)
class Group:
    """The examples of one length.

    Attributes:
        steps: The number of steps of each.
        members: The examples.
        columns: Which columns hold their steps.
    """

    steps: int
    members: slice | IntArray
    columns: slice


@attrs.frozen(eq=False, field_transformer=arrays)
class AttentionCache:
    """What the backward pass needs.

    Attributes:
        X: The valid steps of all examples as columns, (n, N).
        QKV: The queries divided by the root of their size, keys and values, (3 units, N).
        P: The weights of each mean, for each group: (examples, heads, steps with a mean, steps in
            the mean).
        O: The means of all heads, (units, N).
        groups: Which columns belong to which examples.
        shape: The shape of the input, (T, n, m).
        numerics: The arithmetic of the forward pass.
    """

    X: FloatArray
    QKV: FloatArray
    P: tuple[FloatArray, ...]
    O: FloatArray  # noqa: E741 - as in the paper
    groups: tuple[Group, ...]
    shape: tuple[int, int, int]
    numerics: Numerics


def attention_forward(
    params: AttentionParams,
    A_prev: FloatArray,
    context: Context,
    *,
    heads: int,
    causal: bool = False,
) -> tuple[FloatArray, AttentionCache]:
    """Compute self-attention for sequences (T, n, m).

    Args:
        params: The weights and biases.
        A_prev: The input, (T, n, m).
        context: The arithmetic to use, and the lengths of the sequences.
        heads: The number of heads.
        causal: Whether a step takes the mean over itself and earlier steps only.

    Returns:
        The output (T, n, m), and the cache for `attention_backward`.

    Raises:
        BadInput: If A_prev does not have this shape or the dtype of the weights.
    """
    numerics, n = context.numerics, params.W_q.shape[1]
    if A_prev.ndim != 3 or A_prev.shape[1] != n:
        hint = f"attention was initialized for sequences of {n} features"
        expect_shape("A_prev", A_prev, ("T", n, "m"), hint=hint)
    expect_same_dtype("A_prev", A_prev, params.W_q.dtype)
    T, _, m = A_prev.shape
    groups = _groups(T, m, context.lengths)
    X = _columns(A_prev, groups)
    units = len(params.W_q)
    QKV = numerics.matmul(_weights(params), X)
    QKV[:units] += params.b_q
    QKV[2 * units :] += params.b_v
    QKV[:units] *= _scale(units, heads, QKV)
    O = empty((units, X.shape[1]), X.dtype)  # noqa: E741
    P = []
    for group in groups:
        Q, K, V = (_by_head(rows, group, heads) for rows in np.split(QKV, 3))
        means = _by_head(O, group, heads)
        shares = empty((len(Q), heads, group.steps, group.steps), X.dtype)
        for part in _parts(shares):
            S = numerics.matmul(Q[part].swapaxes(2, 3), K[part])
            if causal:
                np.copyto(S, -math.inf, where=_later(group.steps))
            # A shift of all scores of a mean changes no share, and with it exp cannot overflow.
            S -= np.maximum.reduce(S, axis=3, keepdims=True)
            E = numerics.exp(S)
            np.divide(E, numerics.sum(E, axis=3), out=shares[part])
            numerics.matmul(V[part], shares[part].swapaxes(2, 3), out=means[part])
        P.append(freeze(shares))
    Z = numerics.matmul(params.W_o, O)
    Z += params.b_o
    shape = (T, n, m)
    cache = AttentionCache(X, freeze(QKV), tuple(P), freeze(O), groups, shape, numerics)
    return _steps(Z, groups, shape), cache


def attention_backward(
    params: AttentionParams, cache: AttentionCache, dZ: FloatArray
) -> tuple[FloatArray, AttentionGrads]:
    """Compute dA_prev (T, n, m) and the gradients of all parameters from dZ (T, n, m).

    With P = softmax(S) and S = Q^T K for each example and head, where Q is scaled:

        dP = dO^T V      dV = dO P      dS = P (dP - the sum of dP P over the steps averaged)
        dQ = K dS^T      dK = Q dS

    The sum of dP P is that of dO O over the features of a head, which is smaller.
    """
    numerics, groups = cache.numerics, cache.groups
    units, heads = len(params.W_q), cache.P[0].shape[1]
    slopes = _columns(dZ, groups)
    dW_o, db_o = numerics.summed_matmul(slopes, cache.O.T), numerics.sum(slopes, axis=1)
    dO = numerics.matmul(params.W_o.T, slopes)
    dO_O = dO * cache.O
    dQKV = empty(cache.QKV.shape, dO.dtype)
    for group, P in zip(groups, cache.P, strict=True):
        Q, K, V = (_by_head(rows, group, heads) for rows in np.split(cache.QKV, 3))
        dQ, dK, dV = (_by_head(rows, group, heads) for rows in np.split(dQKV, 3))
        d_means = _by_head(dO, group, heads)
        along = numerics.sum(_by_head(dO_O, group, heads), axis=2).swapaxes(2, 3)
        for part in _parts(P):
            dS = numerics.matmul(d_means[part].swapaxes(2, 3), V[part])
            dS -= along[part]
            dS *= P[part]
            numerics.matmul(d_means[part], P[part], out=dV[part])
            numerics.matmul(Q[part], dS, out=dK[part])
            numerics.matmul(K[part], dS.swapaxes(2, 3), out=dQ[part])
    dQKV[:units] *= _scale(units, heads, dQKV)
    dW, db = numerics.summed_matmul(dQKV, cache.X.T), numerics.sum(dQKV, axis=1)
    dX = numerics.matmul(_weights(params).T, dQKV)
    dW_q, dW_k, dW_v = np.split(freeze(dW), 3)
    db_q, _, db_v = np.split(freeze(db), 3)
    grads = AttentionGrads(dW_q, dW_k, dW_v, freeze(dW_o), db_q, db_v, freeze(db_o))
    return _steps(dX, groups, cache.shape), grads


def _weights(params: AttentionParams) -> FloatArray:
    """Return the weights of queries, keys and values, (3 units, n)."""
    return np.concatenate([params.W_q, params.W_k, params.W_v])


def _scale(units: int, heads: int, like: FloatArray) -> np.floating[Any]:
    """Return 1 / sqrt(size of a query), with which scores of random vectors have variance 1."""
    return like.dtype.type(1 / math.sqrt(units // heads))


def _groups(T: int, m: int, lengths: IntArray | None) -> tuple[Group, ...]:
    if lengths is None:
        return (Group(T, slice(None), slice(0, T * m)),)
    groups, start = [], 0
    for steps in np.unique(lengths).tolist():
        members = freeze(np.flatnonzero(lengths == steps))
        groups.append(Group(steps, members, slice(start, start + steps * len(members))))
        start = groups[-1].columns.stop
    return tuple(groups)


def _columns(A: FloatArray, groups: tuple[Group, ...]) -> FloatArray:
    """Return the valid steps of A (T, n, m) as columns (n, N)."""
    n = A.shape[1]
    columns = empty((n, groups[-1].columns.stop), A.dtype)
    for group in groups:
        steps = A[: group.steps, :, group.members].transpose(1, 2, 0)
        columns[:, group.columns].reshape(n, -1, group.steps)[...] = steps
    return freeze(columns)


def _steps(
    columns: FloatArray, groups: tuple[Group, ...], shape: tuple[int, int, int]
) -> FloatArray:
    """Return columns (n, N) as an array (T, n, m) with 0 in the padding."""
    full = len(groups) == 1 and groups[0].steps == shape[0]
    A = empty(shape, columns.dtype) if full else np.zeros(shape, columns.dtype)
    for group in groups:
        steps = columns[:, group.columns].reshape(shape[1], -1, group.steps)
        A[: group.steps, :, group.members] = steps.transpose(2, 0, 1)
    return freeze(A)


def _by_head(rows: FloatArray, group: Group, heads: int) -> FloatArray:
    """Return the columns of a group as a view (examples, heads, size, steps)."""
    size = len(rows) // heads
    columns = rows[:, group.columns].reshape(heads, size, -1, group.steps)
    return columns.transpose(2, 0, 1, 3)


def _parts(scores: FloatArray) -> Iterator[slice]:
    """Yield slices of examples whose scores (examples, heads, steps, steps) fit into the cache."""
    examples = max(1, _SCORES // max(1, math.prod(scores.shape[1:])))
    for start in range(0, len(scores), examples):
        yield slice(start, start + examples)


@functools.lru_cache(maxsize=64)
def _later(steps: int) -> NDArray[np.bool_]:
    """Return whether step j comes after step i, in row i and column j."""
    return freeze(np.triu(np.ones((steps, steps), bool), 1))


@described("stage", drawn_by=["initializer"])
def attention(
    heads: int,
    *,
    units: int | None = None,
    causal: bool = False,
    initializer: Initializer = xavier_normal(),  # noqa: B008 - frozen
) -> Stage[AttentionParams, AttentionCache]:
    """Make self-attention of several heads: sequences (T, n) become (T, n).

    Affine maps give each step a query, a key and a value for each head. At step t, a head takes the
    mean of the values of all steps, weighted by softmax(query of t . keys / sqrt(size)), where size
    is units / heads. An affine map of the means of all heads is the output. With lengths, steps
    beyond the length of a sequence take part in no mean, and their own output is 0.

    Attention does not know the order of steps, see `positions`. For the backward pass it keeps the
    weights of all means, which are heads * T * T numbers for each example.

    Args:
        heads: The number of heads.
        units: The size of the queries, keys and values of all heads together; by default n.
        causal: Whether a step takes the mean over itself and earlier steps only, as a model that
            predicts the next step must.
        initializer: How the four matrices of weights are drawn. The biases start at 0; keys have
            none, since it would change nothing.

    Raises:
        BadInput: If an argument is out of its range. `init` raises it if the heads do not divide
            the units, `forward` for inputs that do not have shape (T, n, m) and the dtype of the
            weights.

    References:
        Vaswani et al., Attention is all you need, 2017, section 3.2.

    Example:
        A block of a transformer for 64 features, and a network of one such block that predicts the
        next of 27 letters:

        >>> block = nn.serial(
        ...     nn.residual(nn.layer_norm(), nn.attention(4, causal=True)),
        ...     nn.residual(nn.layer_norm(), nn.dense(256), nn.gelu(), nn.dense(64)),
        ... )
        >>> network = nn.serial(nn.embedding(27, 64), nn.positions(), block, nn.dense(27))
        >>> params, shape_out = network.init(nn.Key(0), (20,))
        >>> shape_out  # scores of the 27 letters at each of 20 steps
        (20, 27)
    """
    heads = expect_count("heads", heads, hint="give the number of heads, e.g. 4")
    if units is not None:
        units = expect_count("units", units, hint="give the size of all queries together")
    causal = expect_flag("causal", causal)

    def init(key: Key, shape_in: Shape) -> tuple[AttentionParams, Shape]:
        if len(shape_in) != 2:
            raise BadInput(
                f"examples have shape {shape_in}, expected (T, n), sequences of T steps: put "
                "embedding(words, units) before attention, or reshape them first."
            )
        n = shape_in[1]
        size = n if units is None else units
        if size % heads:
            raise BadInput(
                f"{heads} heads do not divide {size} units: give a number of heads that does, or "
                f"e.g. units={heads * max(1, size // heads)}."
            )
        if 4 * size * n > _MOST_WEIGHTS:
            raise BadInput(
                f"{size} units of {n} features have {4 * size * n} weights, more than any machine "
                "holds: give fewer units."
            )
        shapes = {"W_q": (size, n), "W_k": (size, n), "W_v": (size, n), "W_o": (n, size)}
        weights = {name: initializer.draw(key.at(name), shape) for name, shape in shapes.items()}
        # Broadcast zeros take no memory, however many units a file may claim.
        sizes = {"b_q": size, "b_v": size, "b_o": n}
        biases = {name: np.broadcast_to(0.0, (rows, 1)) for name, rows in sizes.items()}
        return AttentionParams(**weights, **biases), shape_in

    def onnx(params: AttentionParams, A_prev: Value, statistics: Tree) -> Value:
        T, units = A_prev.shape[0], len(params.W_q)

        def by_head(rows: Value, *axes: int) -> Value:
            sizes = np.array([0, 0, heads, units // heads])  # 0 keeps a size
            return rows.op("Reshape", sizes).op("Transpose", perm=axes)

        Q, K, V = (A_prev.op("MatMul", W.T) for W in (params.W_q, params.W_k, params.W_v))
        Q = by_head(Q.op("Add", params.b_q[:, 0]), 0, 2, 1, 3).op("Div", math.sqrt(units // heads))
        K = by_head(K, 0, 2, 3, 1)
        V = by_head(V.op("Add", params.b_v[:, 0]), 0, 2, 1, 3)
        S = Q.op("MatMul", K)
        if causal:
            S = cast("Value", np.where(_later(T), -math.inf, cast(Any, S)))
        means = S.op("Softmax", axis=-1).op("MatMul", V).op("Transpose", perm=(0, 2, 1, 3))
        rows = means.op("Reshape", np.array([0, 0, units]))
        return rows.op("MatMul", params.W_o.T).op("Add", params.b_o[:, 0])

    return Stage(
        "attention",
        init,
        functools.partial(attention_forward, heads=heads, causal=causal),
        attention_backward,
        gradients=AttentionGrads,
        lengths="kept",
        onnx=onnx,
    )
