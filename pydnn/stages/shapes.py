"""Stages that only move numbers: other axes for the same numbers, and edges cut off or added.

The numbers of an example keep their C order, in which the last axis, the channels, varies fastest.
That is the order of `photo.reshape(-1)`, so reshape(64, 64, 3) turns the tutorial's columns of
12,288 numbers back into photos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.memory import empty
from pydnn.parameters import NO_PARAMS, Tree
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Context, Shape, Stage
from pydnn.stages.windows import MOST_NUMBERS, Edges, expect_edges, expect_places

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["ShapeCache", "crop", "flatten", "pad", "reshape"]

_MOST_AXES = 8
_FORMS = "give 2 for every side, or ((0, 1), (2, 2)) for rows and columns"


@attrs.frozen
class ShapeCache:
    """What the backward pass needs: the shape of one example of the input."""

    shape_in: Shape


@described("stage")
def reshape(*shape: int) -> Stage[tuple[()], ShapeCache]:
    """Give the numbers of each example other axes, in the same order.

    The order is C order: the last axis varies fastest. So reshape(64, 64, 3) turns the columns that
    `X.reshape(m, -1).T` makes of photos back into photos (H, W, C), and `flatten` makes the columns
    again. Neither copies an array in C order.

    Args:
        *shape: The shape of one example, without the axis of examples. One size may be -1, which
            stands for the size that is left over.

    Raises:
        BadInput: If a size is not a whole number above 0, or more than one is -1. `init` raises it
            if the examples do not have as many numbers as the new shape. It refuses sequences of
            unequal length, since the new axes no longer say which numbers are padding.

    Example:
        >>> photos = nn.stages.reshape(2, 2, 3)
        >>> A, _ = photos.forward((), np.arange(12.0).reshape(12, 1), nn.Context())
        >>> A[0, 1, :, 0]  # the colors of the second place in the first row
        array([3., 4., 5.])
    """
    hint = "give e.g. reshape(28, 28, 1), or one -1 for the size that is left over"
    if not 1 <= len(shape) <= _MOST_AXES:
        raise BadInput(f"reshape got {len(shape)} sizes, expected 1 to {_MOST_AXES}: {hint}.")
    sizes = [-1 if n == -1 else expect_count("a size of reshape", n, hint=hint) for n in shape]
    if sizes.count(-1) > 1:
        raise BadInput(f"reshape got -1 for {sizes.count(-1)} sizes, expected at most one: {hint}.")
    known = math.prod(n for n in sizes if n != -1)

    def shape_of(shape_in: Shape) -> Shape:
        count = math.prod(shape_in)
        rest, left = divmod(count, known)
        if left or not rest or (rest != 1 and -1 not in sizes):
            raise BadInput(
                f"examples have shape {shape_in}, which is {count} numbers, but "
                f"reshape{_written(sizes)} takes {'a multiple of ' if -1 in sizes else ''}{known}: "
                "give sizes whose product is the same."
            )
        return tuple(rest if n == -1 else n for n in sizes)

    return _reshaping("reshape", shape_of)


@described("stage")
def flatten() -> Stage[tuple[()], ShapeCache]:
    """Make one column of all numbers of each example, e.g. for a dense layer after a convolution.

    The numbers stay in C order, see `reshape`, and an array in C order is not copied.

    Raises:
        BadInput: For sequences of unequal length, whose padding would become features.

    Example:
        >>> nn.flatten().init(nn.Key(0), (4, 4, 16))
        ((), (256,))
    """
    return _reshaping("flatten", lambda shape_in: (math.prod(shape_in),))


def _reshaping(name: str, shape_of: Callable[[Shape], Shape]) -> Stage[tuple[()], ShapeCache]:
    def init(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
        return NO_PARAMS, shape_of(tuple(shape_in))

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, ShapeCache]:
        *shape_in, m = A_prev.shape
        A = A_prev.reshape(*shape_of(tuple(shape_in)), m)
        return freeze(A), ShapeCache(tuple(shape_in))

    def backward(
        params: tuple[()], cache: ShapeCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return freeze(dA.reshape(*cache.shape_in, dA.shape[-1])), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        # A size of 0 stands for that of the input, here the number of examples.
        return A_prev.op("Reshape", np.array([0, *shape_of(A_prev.shape)]))

    return Stage(name, init, forward, backward, onnx=onnx)


@described("stage")
def crop(places: int | Sequence[int | Sequence[int]]) -> Stage[tuple[()], ShapeCache]:
    """Cut places off the edges of images (H, W, C) or sequences (T, C).

    Args:
        places: How many places to cut off: a number for every side, or a list with a number or a
            pair (before, after) for each axis, e.g. ((2, 0), (1, 1)) for two rows at the top and
            one column at each side.

    Raises:
        BadInput: If `places` has another form. `init` raises it if the examples are not images or
            sequences, or no place would be left. It refuses sequences of unequal length, since
            their last valid steps are not where the array ends.

    Example:
        >>> nn.stages.crop(2).init(nn.Key(0), (32, 32, 3))
        ((), (28, 28, 3))
    """
    return _moving_edges("crop", expect_edges("places of crop", places, hint=_FORMS), -1)


@described("stage")
def pad(places: int | Sequence[int | Sequence[int]]) -> Stage[tuple[()], ShapeCache]:
    """Add places of zeros at the edges of images (H, W, C) or sequences (T, C).

    Convolutions and pools have an option `padding` that does the same without a copy.

    Args:
        places: How many places to add: a number for every side, or a list with a number or a pair
            (before, after) for each axis, e.g. ((2, 0), (1, 1)) for two rows at the top and one
            column at each side.

    Raises:
        BadInput: If `places` has another form. `init` raises it if the examples are not images or
            sequences. It refuses sequences of unequal length, where zeros would follow the padding
            instead of the last valid step.

    Example:
        >>> nn.stages.pad((0, 1)).init(nn.Key(0), (28, 28, 1))
        ((), (28, 30, 1))
    """
    return _moving_edges("pad", expect_edges("places of pad", places, hint=_FORMS), 1)


def _moving_edges(name: str, edges: Edges, sign: int) -> Stage[tuple[()], ShapeCache]:
    """Make the stage that adds places of zeros (sign 1) or cuts places off (sign -1)."""

    def pairs(shape: Shape) -> tuple[tuple[int, int], ...]:
        expect_places(shape)
        axes = len(shape) - 1
        if isinstance(edges, int):
            return ((edges, edges),) * axes
        if len(edges) != axes:
            raise BadInput(
                f"{name} has {len(edges)} entries for examples of shape {shape}, expected {axes}: "
                "give one number for every side, or a list with one entry for each axis."
            )
        return edges

    def shape_of(shape_in: Shape) -> Shape:
        moved = pairs(shape_in)
        sizes = [n + sign * sum(pair) for n, pair in zip(shape_in[:-1], moved, strict=True)]
        if min(sizes) < 1:
            raise BadInput(
                f"examples have shape {shape_in}, of which {name} leaves no place along axis "
                f"{sizes.index(min(sizes))}: cut off less."
            )
        if math.prod(sizes) * shape_in[-1] > MOST_NUMBERS:
            raise BadInput(
                f"examples have {' x '.join(map(str, sizes))} places after {name}, more than any "
                "machine holds: add fewer."
            )
        return (*sizes, shape_in[-1])

    def inside(moved: Sequence[tuple[int, int]], outer: Shape) -> tuple[slice, ...]:
        return tuple(slice(b, n - a) for (b, a), n in zip(moved, outer, strict=False))

    def smaller(A: FloatArray, shape: Shape) -> FloatArray:
        return freeze(np.array(A[inside(pairs(shape), A.shape)], order="C"))

    def larger(A: FloatArray, moved: Sequence[tuple[int, int]], outer: Shape) -> FloatArray:
        result = empty((*outer, A.shape[-1]), A.dtype)
        result.fill(0)
        result[inside(moved, outer)] = A
        return freeze(result)

    def init(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
        return NO_PARAMS, shape_of(tuple(shape_in))

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, ShapeCache]:
        shape_in = A_prev.shape[:-1]
        shape, moved = shape_of(shape_in), pairs(shape_in)
        if sign > 0:
            return larger(A_prev, moved, shape), ShapeCache(shape_in)
        return smaller(A_prev, shape_in), ShapeCache(shape_in)

    def backward(
        params: tuple[()], cache: ShapeCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        if sign > 0:
            return smaller(dA, cache.shape_in), NO_PARAMS
        return larger(dA, pairs(cache.shape_in), cache.shape_in), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        moved = pairs(A_prev.shape)
        before, after = ([pair[side] for pair in moved] for side in (0, 1))
        if sign > 0:
            return A_prev.op("Pad", np.array([0, *before, 0, 0, *after, 0]))
        ends = [n - a for n, a in zip(A_prev.shape, after, strict=False)]
        axes = np.arange(1, len(moved) + 1)
        return A_prev.op("Slice", np.array(before), np.array(ends), axes)

    return Stage(name, init, forward, backward, onnx=onnx)


def _written(sizes: Sequence[int]) -> str:
    return f"({', '.join(map(str, sizes))})"
