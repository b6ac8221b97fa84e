"""Stages side by side on the same input, their outputs one under the other."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import Tree
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import (
    Context,
    Shape,
    Stage,
    combined_statistics,
    expect_stages,
    in_stage,
    thrifty_backward,
)

__all__ = ["ParallelCache", "parallel"]


@attrs.frozen
class ParallelCache:
    """What the backward pass needs: the parts' caches, and the first row of each one's output."""

    caches: tuple[Any, ...]
    starts: tuple[int, ...]


@described("stage")
def parallel(*stages: Stage) -> Stage:
    """Give each stage the same input, and concatenate their outputs along the first axis.

    Parameters and gradients are tuples with one tree per stage. Outputs of more than one axis
    must have the same sizes along the others.
    """
    expect_stages("parallel", stages)

    def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
        params: list[Tree] = []
        shapes: list[Shape] = []
        for i, stage in enumerate(stages):
            try:
                tree, shape_out = stage.init(key.at(i), shape)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            if shapes and shape_out[1:] != shapes[0][1:]:
                raise BadInput(
                    f"parallel: stage 0 gives examples of shape {shapes[0]} and stage {i} of shape "
                    f"{shape_out}, which cannot be concatenated: let them differ in the first axis "
                    "alone."
                )
            params.append(tree)
            shapes.append(shape_out)
        return tuple(params), (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def forward(
        params: Tree, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, ParallelCache]:
        outputs, caches, starts, rows = [], [], [], 0
        for i, (stage, tree) in enumerate(zip(stages, params, strict=True)):
            try:
                A, cache = forwards[i](
                    tree, A_prev, context.below(i) if stage.needs_place else context
                )
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            outputs.append(A)
            caches.append(cache)
            starts.append(rows)
            rows += len(A)
        return freeze(np.concatenate(outputs)), ParallelCache(tuple(caches), tuple(starts))

    forwards = tuple(bare(stage.forward) for stage in stages)
    backwards = tuple(map(thrifty_backward, stages))

    def backward(
        params: Tree,
        cache: ParallelCache,
        dA: FloatArray,
        *,
        out: Tree | None = None,
        wants_dA_prev: bool = True,
    ) -> tuple[FloatArray | None, Tree]:
        grads: list[Tree] = []
        dA_prev: FloatArray | None = None
        for i, rows in enumerate(np.split(dA, cache.starts[1:])):
            share, tree = backwards[i](
                params[i],
                cache.caches[i],
                freeze(rows),
                out=None if out is None else out[i],
                wants_dA_prev=wants_dA_prev,
            )
            grads.append(tree)
            if wants_dA_prev and share is not None:
                dA_prev = share if dA_prev is None else freeze(dA_prev + share)
        return dA_prev, tuple(grads) if out is None else None

    return Stage(
        "parallel",
        init,
        forward,
        backward,
        thrifty=True,
        random=any(stage.random for stage in stages),
        mixes_examples=any(stage.mixes_examples for stage in stages),
        statistics=combined_statistics(stages, lambda cache: cache.caches),
        parts=stages,
        rebuild=parallel,
    )
