"""Stages one after the other: the combinator that makes a network, itself a stage."""

from __future__ import annotations

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import NO_PARAMS, Tree
from pydnn.records import FloatArray
from pydnn.stages.base import (
    Context,
    Shape,
    Stage,
    combined_statistics,
    expect_stages,
    in_stage,
    thrifty_backward,
)

__all__ = ["serial"]


@described("stage")
def serial(*stages: Stage) -> Stage:
    """Feed each stage with what the one before it gives.

    Parameters and gradients are tuples with one tree per stage; so are the caches.

    Raises:
        BadInput: If there is no stage, or something else than a stage; later, from its
            functions, what a stage refuses, with the stage's place and name before it.
    """
    expect_stages("serial", stages)

    def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
        params = []
        for i, stage in enumerate(stages):
            try:
                tree, shape = stage.init(key.at(i), shape)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            params.append(tree)
        return tuple(params), shape

    forwards = tuple((bare(stage.forward), stage.needs_place) for stage in stages)
    backwards = tuple(map(thrifty_backward, stages))
    # Those that have nothing to leave out.
    plain = tuple(None if stage.thrifty else bare(stage.backward) for stage in stages)

    def forward(params: Tree, A: FloatArray, context: Context) -> tuple[FloatArray, Tree]:
        caches = []
        for i, (stage_forward, needs_place) in enumerate(forwards):
            try:
                A, cache = stage_forward(params[i], A, context.below(i) if needs_place else context)
            except BadInput as error:
                raise in_stage(i, stages[i], error) from error
            caches.append(cache)
        return A, tuple(caches)

    def backward(
        params: Tree,
        caches: Tree,
        dA: FloatArray,
        *,
        out: Tree | None = None,
        wants_dA_prev: bool = True,
    ) -> tuple[FloatArray | None, Tree]:
        # Where nobody wants dA_prev, the pass ends at the first stage that has parameters.
        at_first = wants_dA_prev or not isinstance(params[0], tuple)
        first = 0 if at_first else _first_with_params(params)
        grads: list[Tree] = [NO_PARAMS] * len(stages)
        flowing: FloatArray | None = dA
        for i in range(len(stages) - 1, first - 1, -1):
            tree = params[i]
            if (
                plain_backward := plain[i]
            ) and not tree:  # an activation has nothing to save: no detour
                flowing, _ = plain_backward(tree, caches[i], flowing)
                continue
            flowing, grads[i] = backwards[i](
                tree,
                caches[i],
                flowing,
                out=None if out is None else out[i],
                wants_dA_prev=wants_dA_prev or i > first,
            )
        return flowing if wants_dA_prev else None, tuple(grads) if out is None else None

    return Stage(
        "serial",
        init,
        forward,
        backward,
        thrifty=True,
        random=any(stage.random for stage in stages),
        mixes_examples=any(stage.mixes_examples for stage in stages),
        statistics=combined_statistics(stages),
        parts=stages,
        rebuild=serial,
    )


def _first_with_params(params: Tree) -> int:
    return next((i for i, tree in enumerate(params) if _has_arrays(tree)), len(params))


def _has_arrays(tree: Tree) -> bool:
    return any(map(_has_arrays, tree)) if isinstance(tree, tuple) else True
