"""Pools: the largest number or the mean of each channel, in windows or over all places.

A window's numbers are never gathered: one call of NumPy takes one place of all windows at once, as
a strided slice, whose numbers of all channels and examples lie one after the other. That is 9 to 38
times as fast as a reduction of sliding windows. The work is cut into blocks of rows that stay in
cache, and no block changes a bit.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_flag
from pydnn.descriptions.builders import described
from pydnn.engines import in_use
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.memory import empty
from pydnn.parameters import NO_PARAMS, Tree
from pydnn.records import AnyDType, FloatArray, IntArray, arrays, contiguous, freeze
from pydnn.sequences import valid_steps
from pydnn.stages.base import Context, Shape, Stage
from pydnn.stages.windows import Padding, PerAxis, WindowedAxis, Windows, expect_places

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "AveragePoolCache",
    "MaxPoolCache",
    "average_pool",
    "global_average_pool",
    "global_max_pool",
    "max_pool",
]

# Bytes of a block of outputs. With smaller blocks, calls cost more than the cache saves.
_BLOCK = 1 << 19
_FEW_PLACES = 64  # of a window; the places of larger ones are not kept
Axes = tuple[WindowedAxis, ...]
Places = tuple[slice, ...]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class MaxPoolCache:
    """What the backward pass of a maximum needs.

    Attributes:
        A_prev: The input, in C order; minus infinity instead of padding that was left out.
        A: The output.
        axes: The windows along each axis.
    """

    A_prev: FloatArray
    A: FloatArray
    axes: Axes


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class AveragePoolCache:
    """What the backward pass of a mean needs.

    Attributes:
        count: The number of numbers in each mean, in a shape that broadcasts to the output.
        axes: The windows along each axis.
    """

    count: FloatArray
    axes: Axes


@described("stage")
def max_pool(
    size: PerAxis, *, stride: PerAxis | None = None, padding: Padding = "valid"
) -> Stage[tuple[()], MaxPoolCache]:
    """Take the largest number of each window, channel by channel, of images or sequences.

    Images (H, W, C) have windows of rows and columns, and sequences (T, C) windows of steps.
    Padding is never the largest number, and a window that holds a NaN gives NaN.

    The gradient of a window goes to the first place of its largest number in reading order: row by
    row, from left to right. Several places often share the largest number, since relu makes
    zeros of all negative ones. The maximum has no derivative there, so `pydnn.testing` checks
    gradients beside such places. PyTorch and ONNX choose the first place too.

    Args:
        size: Number of places that a window covers: a number for all axes, or a list with one for
            each axis.
        stride: Places from the start of one window to the start of the next, in the same form. By
            default it is the size, so that windows neither overlap nor leave gaps.
        padding: "valid" uses the places of the input alone, and leaves out those at the end that
            fill no window. "same" gives ceil(length / stride) places of output. A number of places
            is for every side, and a list has a number or a pair (before, after) for each axis.

    Raises:
        BadInput: If an option has another form. `init` raises it if the examples are neither images
            nor sequences, a window is larger than the padded example, or padding is as large as a
            window. Sequences of unequal length are refused, since a window may reach from valid
            steps into padding; `global_max_pool` takes them.

    Example:
        >>> A_prev = np.array([1.0, 5.0, 2.0, 3.0]).reshape(4, 1, 1)
        >>> A, cache = nn.max_pool(2).forward((), A_prev, nn.Context())
        >>> A.ravel()
        array([5., 3.])
        >>> dA_prev, _ = nn.max_pool(2).backward((), cache, np.array([10.0, 20.0]).reshape(2, 1, 1))
        >>> dA_prev.ravel()
        array([ 0., 10.,  0., 20.])
    """
    windows = Windows.of(size, stride=size if stride is None else stride, padding=padding)

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, MaxPoolCache]:
        axes = _pools(windows, A_prev.shape[:-1])
        X = contiguous(A_prev)
        A = _combined(np.maximum, X, axes, -math.inf)
        A = _with_plain_zeros(A, context.numerics)
        return A, MaxPoolCache(X, A, axes)

    def backward(
        params: tuple[()], cache: MaxPoolCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return _to_first_maximum(cache, dA), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        return _pool_onnx("MaxPool", windows, A_prev, {})

    return Stage("max_pool", _init_of(windows), forward, backward, onnx=onnx)


@described("stage")
def average_pool(
    size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> Stage[tuple[()], AveragePoolCache]:
    """Take the mean of each window, channel by channel, of images or sequences.

    Args:
        size: Number of places that a window covers: a number for all axes, or a list with one for
            each axis.
        stride: Places from the start of one window to the start of the next, in the same form. By
            default it is the size, so that windows neither overlap nor leave gaps.
        padding: "valid" uses the places of the input alone, and leaves out those at the end that
            fill no window. "same" gives ceil(length / stride) places of output. A number of places
            is for every side, and a list has a number or a pair (before, after) for each axis.
        count_padding: Whether places of padding count as zeros in the mean; by default the mean is
            that of the places inside the input.

    Raises:
        BadInput: As `max_pool` does. `global_average_pool` takes sequences of unequal length.

    Example:
        >>> A_prev = np.array([1.0, 5.0, 2.0]).reshape(3, 1, 1)
        >>> A, _ = nn.average_pool(2, padding="same").forward((), A_prev, nn.Context())
        >>> A.ravel()
        array([3., 2.])
    """
    windows = Windows.of(size, stride=size if stride is None else stride, padding=padding)
    count_padding = expect_flag("count_padding", count_padding)

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, AveragePoolCache]:
        axes = _pools(windows, A_prev.shape[:-1])
        A = _combined(np.add, contiguous(A_prev), axes, 0.0)
        count = _counts(axes, count_padding).astype(A_prev.dtype)
        A /= count
        return freeze(A), AveragePoolCache(freeze(count), axes)

    def backward(
        params: tuple[()], cache: AveragePoolCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return _spread(dA / cache.count, cache.axes), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        counted = {"count_include_pad": int(count_padding)}
        return _pool_onnx("AveragePool", windows, A_prev, counted)

    return Stage("average_pool", _init_of(windows), forward, backward, onnx=onnx)


@described("stage")
def global_average_pool() -> Stage[tuple[()], AveragePoolCache]:
    """Take the mean of each channel over all places of an image, or all steps of a sequence.

    An image (H, W, C) or a sequence (T, C) becomes a column (C,). Of a sequence in a batch with
    lengths, the valid steps alone count.

    Raises:
        BadInput: If the examples are neither images nor sequences.

    Example:
        >>> steps = np.array([[1.0, 1.0], [3.0, 3.0], [9.0, 5.0]]).reshape(3, 1, 2)
        >>> context = nn.Context(lengths=np.array([2, 3]))  # the first sequence has two steps
        >>> nn.global_average_pool().forward((), steps, context)[0]
        array([[2., 3.]])
    """

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, AveragePoolCache]:
        places, X = _all_places(A_prev, context.lengths, 0.0)
        if A_prev.ndim == 3:
            # Step by step, so that padding after the last valid step changes no bit.
            A = X[0] + np.zeros(1, X.dtype)
            for step in X[1:]:
                A += step
        else:
            A = context.numerics.sum(X, axis=0)[0]
        if context.lengths is None:
            count = np.array(math.prod(A_prev.shape[:-2]), A_prev.dtype)
        else:
            count = context.lengths.astype(A_prev.dtype)
        A /= count
        return freeze(A), AveragePoolCache(freeze(count), places)

    def backward(
        params: tuple[()], cache: AveragePoolCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        shape = tuple(axis.length for axis in cache.axes)
        dA_prev = empty((*shape, *dA.shape), dA.dtype)
        dA_prev[...] = dA / cache.count
        if cache.count.ndim:  # the lengths
            valid = valid_steps(cache.count.astype(np.int64), shape[0])
            dA_prev *= valid[:, np.newaxis]
        return freeze(dA_prev), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        return _global_onnx("ReduceMean", A_prev)

    return Stage("global_average_pool", _init_global, forward, backward, lengths="ended", onnx=onnx)


@described("stage")
def global_max_pool() -> Stage[tuple[()], MaxPoolCache]:
    """Take the largest number of each channel over all places of an image, or steps of a sequence.

    An image (H, W, C) or a sequence (T, C) becomes a column (C,). Of a sequence in a batch with
    lengths, the valid steps alone count. The gradient goes to the first place of the largest number
    in reading order, see `max_pool`.

    Raises:
        BadInput: If the examples are neither images nor sequences.

    Example:
        >>> steps = np.array([[1.0, 1.0], [3.0, 3.0], [9.0, 5.0]]).reshape(3, 1, 2)
        >>> context = nn.Context(lengths=np.array([2, 3]))  # the first sequence has two steps
        >>> nn.global_max_pool().forward((), steps, context)[0]
        array([[3., 5.]])
    """

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, MaxPoolCache]:
        places, X = _all_places(A_prev, context.lengths, -math.inf)
        A = _with_plain_zeros(np.maximum.reduce(X, axis=0), context.numerics)
        return A, MaxPoolCache(X.reshape(A_prev.shape), A, places)

    def backward(
        params: tuple[()], cache: MaxPoolCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        X = cache.A_prev
        here = cache.A == X
        left = np.ones(cache.A.shape, bool)  # the maxima whose place is still to come
        for place in here.reshape(-1, *left.shape):
            place &= left
            left ^= place
        return freeze(_chosen(dA, here, empty(X.shape, dA.dtype))), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        return _global_onnx("ReduceMax", A_prev)

    return Stage("global_max_pool", _init_global, forward, backward, lengths="ended", onnx=onnx)


def _pools(windows: Windows, shape_in: Shape) -> Axes:
    """Return the windows along each axis, and refuse windows that hold padding alone."""
    axes = windows.over(shape_in, has_kernel=False)
    for i, axis in enumerate(axes):
        if max(axis.before, axis.after) >= axis.size:
            raise BadInput(
                f"padding of {axis.before} + {axis.after} along axis {i} is not smaller than the "
                f"windows of {axis.size}, some of which would hold nothing else: give less padding."
            )
    return axes


def _init_of(windows: Windows) -> Callable[[Key, Shape], tuple[tuple[()], Shape]]:
    def init(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
        axes = _pools(windows, shape_in)
        return NO_PARAMS, (*(axis.count for axis in axes), shape_in[-1])

    return init


def _init_global(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
    expect_places(shape_in)
    return NO_PARAMS, tuple(shape_in[-1:])


def _all_places(
    A_prev: FloatArray, lengths: IntArray | None, padding: float
) -> tuple[Axes, FloatArray]:
    """Return one window over all places, and the input as (places, C, m).

    Steps beyond the length of a sequence hold the number `padding`.
    """
    expect_places(A_prev.shape[:-1])
    axes = tuple(WindowedAxis(n, n) for n in A_prev.shape[:-2])
    X = contiguous(A_prev)
    if lengths is not None:
        if len(axes) > 1:
            raise BadInput(
                "images got lengths, expected them for sequences (T, C) alone: leave them out."
            )
        valid = valid_steps(lengths, len(X))[:, np.newaxis]
        X = freeze(np.where(valid, X, X.dtype.type(padding)))
    return axes, X.reshape(-1, *X.shape[-2:])


def _with_plain_zeros(A: FloatArray, numerics: Numerics) -> FloatArray:
    # Processors differ in whether the maximum of -0.0 and 0.0 is -0.0; adding 0.0 gives 0.0.
    return freeze(np.add(A, A.dtype.type(0), out=A) if numerics.exact else A)


Move = tuple[Places, Places, Places]


def _blocks(axes: Axes, row: int) -> Iterable[tuple[slice, list[Move]]]:
    """Return blocks of rows of windows, from the last one to the first.

    Args:
        axes: The windows along each axis.
        row: Bytes of one row of outputs.

    Returns:
        For each block, its rows; and for each place of a window, in reading order, the windows of
        the block that have it inside the input, the same counted from the block's first row, and
        these places of the input.
    """
    few = math.prod(axis.size for axis in axes) <= _FEW_PLACES
    rows = max(1, _BLOCK // max(1, row))
    return _kept_blocks(axes, rows) if few else _made_blocks(axes, rows)


@functools.lru_cache(maxsize=64)
def _kept_blocks(axes: Axes, rows: int) -> list[tuple[slice, list[Move]]]:
    return list(_made_blocks(axes, rows))


def _made_blocks(axes: Axes, rows: int) -> Iterator[tuple[slice, list[Move]]]:
    first, *others = axes
    within = [
        [found for offset in range(axis.size) if (found := axis.places(offset))] for axis in others
    ]
    for start in reversed(range(0, first.count, rows)):
        stop = min(start + rows, first.count)
        along = [
            found for offset in range(first.size) if (found := first.places(offset, start, stop))
        ]
        moves = []
        for pairs in itertools.product(along, *within):
            windows, places = (tuple(each) for each in zip(*pairs, strict=True))
            inside = slice(windows[0].start - start, windows[0].stop - start)
            moves.append((windows, (inside, *windows[1:]), places))
        yield slice(start, stop), moves


def _combined(combine: np.ufunc, X: FloatArray, axes: Axes, start: float) -> FloatArray:
    """Return the maximum or the sum of each window, taken from `start` in reading order."""
    result = empty((*(axis.count for axis in axes), *X.shape[-2:]), X.dtype)
    padded = any(axis.before or axis.after for axis in axes)
    for rows, moves in _blocks(axes, result[0].nbytes):
        block = result[rows]
        if padded or len(moves) == 1:
            block.fill(start)
        else:  # all windows have all places: the first two need no start
            (*_, one), (*_, other), *moves = moves
            combine(X[one], X[other], out=block)
        for _, inside, places in moves:
            target = block[inside]
            combine(target, X[places], out=target)
    return result


def _to_first_maximum(cache: MaxPoolCache, dA: FloatArray) -> FloatArray:
    """Return dA_prev: the gradient of each window at the first place of its maximum.

    Where windows overlap, the gradients are added from the last window to the first.
    """
    X, A, axes = cache.A_prev, cache.A, cache.axes
    dA_prev, overlapping = _zeros_for(X.shape, dA.dtype, axes)
    forms = in_use.forms
    if forms is not None and forms.pooling.to_first_maximum(X, A, dA, axes, overlapping, dA_prev):
        return freeze(dA_prev)
    for rows, moves in _blocks(axes, A[0].nbytes):
        left = np.ones(A[rows].shape, bool)  # the windows whose maximum is still to come
        for windows, inside, places in moves:
            here = X[places] == A[windows]
            still = left[inside]
            here &= still
            still ^= here
            target = dA_prev[places]
            if overlapping:
                target += _chosen(dA[windows], here, empty(here.shape, dA.dtype))
            else:
                _chosen(dA[windows], here, target)
    return freeze(dA_prev)


def _chosen(dA: FloatArray, here: NDArray[np.bool_], out: FloatArray) -> FloatArray:
    """Fill `out` with the numbers of dA that are `here`, and 0 elsewhere.

    It masks bits, which is as fast as a product with 0 and 1. A product would turn an infinite
    gradient into NaN at all other places of its window.
    """
    words = np.dtype(f"i{dA.itemsize}")
    np.bitwise_and(dA.view(words), np.negative(here.view(np.int8)), out=out.view(words))
    return out


def _spread(share: FloatArray, axes: Axes) -> FloatArray:
    """Return dA_prev: the share of each window at all of its places.

    Where windows overlap, the shares are added from the last window to the first.
    """
    shape = (*(axis.length for axis in axes), *share.shape[-2:])
    dA_prev, overlapping = _zeros_for(shape, share.dtype, axes)
    forms = in_use.forms if overlapping else None
    if forms is not None and forms.pooling.spread(share, axes, dA_prev):
        return freeze(dA_prev)
    for _, moves in _blocks(axes, share[0].nbytes):
        for windows, _, places in moves:
            if overlapping:
                dA_prev[places] += share[windows]
            else:
                dA_prev[places] = share[windows]
    return freeze(dA_prev)


def _zeros_for(shape: Shape, dtype: AnyDType, axes: Axes) -> tuple[FloatArray, bool]:
    """Return a new array of zeros for dA_prev, and whether windows overlap.

    It is not filled if each place has exactly one window, which will be written there.
    """
    array = empty(shape, dtype)
    if any(a.stride != a.size or a.before or a.length != a.count * a.size for a in axes):
        array.fill(0)
    return array, any(axis.stride < axis.size for axis in axes)


def _counts(axes: Axes, count_padding: bool) -> FloatArray:
    """Return how many places each window has, in a shape that broadcasts to (…, C, m)."""
    counts = np.ones(())
    for i, axis in enumerate(axes):
        inside = np.full(axis.count, axis.size)
        if not count_padding and (axis.before or axis.after):
            starts = np.arange(axis.count) * axis.stride - axis.before
            inside = np.minimum(starts + axis.size, axis.length) - np.maximum(starts, 0)
        along = inside[:1] if (inside == inside[0]).all() else inside
        counts = counts * along.reshape(-1, *(1,) * (len(axes) + 1 - i))
    return counts


def _pool_onnx(operator: str, windows: Windows, A_prev: Value, options: dict[str, Any]) -> Value:
    axes = _pools(windows, A_prev.shape)
    n = len(axes)
    # ONNX has the channels before the places.
    pooled = A_prev.op("Transpose", perm=(0, n + 1, *range(1, n + 1))).op(
        operator,
        kernel_shape=tuple(axis.size for axis in axes),
        strides=tuple(axis.stride for axis in axes),
        pads=(*(axis.before for axis in axes), *(axis.after for axis in axes)),
        **options,
    )
    return pooled.op("Transpose", perm=(0, *range(2, n + 2), 1))


def _global_onnx(operator: str, A_prev: Value) -> Value:
    # onnxruntime has the operators GlobalAveragePool and GlobalMaxPool for float32 only.
    return A_prev.op(operator, axes=tuple(range(1, len(A_prev.shape))), keepdims=0)
