"""Parallel stages: all take the same input, and their outputs are concatenated."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import Tree, Views
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import (
    Caches,
    Context,
    Shape,
    Stage,
    Trees,
    combined_statistics,
    expect_stages,
    in_stage,
    into,
    left_out,
    onnx_of_part,
)

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["ParallelCache", "parallel"]


@attrs.frozen
class ParallelCache:
    """What the backward pass needs.

    Attributes:
        caches: The caches of the inner stages.
        starts: The first feature of each inner stage's output in the concatenated one.
    """

    caches: Caches
    starts: tuple[int, ...]


@described("stage")
def parallel(*stages: Stage) -> Stage[Trees, ParallelCache]:
    """Give each stage the same input, and concatenate the features of their outputs.

    Features are the axis before the examples: the rows of columns, and the channels of sequences
    (T, n) and of images (H, W, n).

    Parameters and gradients are tuples with one tree per stage.

    Args:
        *stages: One stage or more. Outputs with more than one axis per example must have the same
            sizes along all axes but the last.

    Raises:
        BadInput: If there is no stage, or something that is not a stage. `init` raises it if the
            outputs cannot be concatenated. Errors of an inner stage begin with its number and name.

    Example:
        >>> params, shape_out = nn.parallel(nn.dense(2), nn.dense(3)).init(nn.Key(0), (4,))
        >>> shape_out
        (5,)
    """
    return _joined(-2, *stages)


def _joined(axis: int, *stages: Stage) -> Stage[Trees, ParallelCache]:
    """Make parallel stages whose outputs are concatenated along an axis of the arrays."""
    expect_stages("parallel", stages)

    def init(key: Key, shape: Shape) -> tuple[Trees, Shape]:
        params: list[Tree] = []
        shapes: list[Shape] = []
        for i, stage in enumerate(stages):
            try:
                tree, shape_out = stage.init(key.at(i), shape)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            if shapes and shape_out[:-1] != shapes[0][:-1]:
                raise BadInput(
                    f"parallel: stage 0 gives examples of shape {shapes[0]} and stage {i} of shape "
                    f"{shape_out}, which cannot be concatenated: let them differ in the last axis "
                    "alone."
                )
            params.append(tree)
            shapes.append(shape_out)
        return tuple(params), (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def forward(
        params: Trees, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, ParallelCache]:
        outputs: list[FloatArray] = []
        caches: list[object] = []
        starts: list[int] = []
        for i, (stage, tree) in enumerate(zip(stages, params, strict=True)):
            try:
                A, cache = forwards[i](
                    tree, A_prev, context.below(i) if stage.needs_place else context
                )
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            starts.append(sum(output.shape[axis] for output in outputs))
            outputs.append(A)
            caches.append(cache)
        return freeze(np.concatenate(outputs, axis)), ParallelCache(tuple(caches), tuple(starts))

    forwards = tuple(bare(stage.forward) for stage in stages)
    backwards = tuple(bare(stage.backward) for stage in stages)
    backwards_into = tuple(map(into, stages))

    def backward(params: Trees, cache: ParallelCache, dA: FloatArray) -> tuple[FloatArray, Trees]:
        pairs = [
            backwards[i](params[i], cache.caches[i], freeze(rows))
            for i, rows in enumerate(np.split(dA, cache.starts[1:], axis))
        ]
        return _total([share for share, _ in pairs]), tuple(grads for _, grads in pairs)

    def backward_into(
        params: Trees, cache: ParallelCache, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        shares: list[FloatArray] = []
        for i, rows in enumerate(np.split(dA, cache.starts[1:], axis)):
            share = backwards_into[i](
                params[i], cache.caches[i], freeze(rows), out[i], needs_dA_prev
            )
            if share is not None:
                shares.append(share)
            elif needs_dA_prev:
                raise left_out(i, stages[i])
        return _total(shares) if needs_dA_prev else None

    def onnx(params: Trees, A_prev: Value, statistics: Tree) -> Value:
        rows = [onnx_of_part(i, part, params, A_prev, statistics) for i, part in enumerate(stages)]
        return rows[0].op("Concat", *rows[1:], axis=-1)

    return Stage(
        "parallel",
        init,
        forward,
        backward,
        backward_into=backward_into,
        random=any(stage.random for stage in stages),
        mixes_examples=any(stage.mixes_examples for stage in stages),
        ids=min((stage.ids for stage in stages if stage.ids is not None), default=None),
        statistics=combined_statistics(stages, lambda cache: cache.caches),
        lengths=stages[0].lengths if len({stage.lengths for stage in stages}) == 1 else "refused",
        onnx=onnx,
        parts=stages,
        rebuild=parallel,
        rebuild_stacked=functools.partial(_joined, 0),
    )


def _total(shares: Sequence[FloatArray]) -> FloatArray:
    """Return dA_prev: the shares of the inner stages, added in their order."""
    return functools.reduce(lambda total, share: freeze(total + share), shares)
